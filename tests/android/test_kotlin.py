"""The Kotlin modules, built and tested by Maven on the real parts, and the APK made of them (docs/android.md)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

from afterlens.benchmarks.document import read_document
from afterlens.conversion.bundle.contract import Artifact, GoldenFile, read_bundle
from android import apk, apk_facts
from tests.android import bundles, public_api
from tests.android.requirements import missing_for_apk, missing_for_core, missing_for_lens, other_machine

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "android"
MODULES = ("core", "lens", "app")
ANDROID = "http://schemas.android.com/apk/res/android"
NO_NETWORK = ("Could not transfer artifact", "Temporary failure in name resolution")


def reason(packages: list[str]) -> str | None:
    """For people; None where nothing is missing."""
    return f"not installed (Debian's names): {', '.join(packages)}" if packages else None


def run_maven(modules: str) -> None:
    """Build and test the modules. Skips where Maven cannot download what it needs."""
    repository = Path(os.environ.get("MAVEN_REPOSITORY", ROOT / "build" / "maven"))
    arguments = ["-pl", modules, "-am", "package"]
    downloaded = repository / f"downloaded-{modules}"
    poms = b"".join(path.read_bytes() for path in sorted((ROOT / "android").rglob("pom.xml")))
    key = hashlib.sha256(poms).hexdigest()
    if downloaded.exists() and downloaded.read_text() == key:
        arguments.append("-o")
    done = apk.maven(*arguments)
    text = done.stdout[-8000:] + done.stderr[-2000:]
    if done.returncode and "in offline mode" in text:
        downloaded.unlink()
        run_maven(modules)
        return
    if done.returncode and any(words in text for words in NO_NETWORK):
        pytest.skip(f"Maven could not download what it needs: {text[-300:]}")
    assert done.returncode == 0, text
    downloaded.write_text(key)


def check_reports(module: str) -> None:
    """Something ran, and all of it: a failure has already failed Maven's run."""
    suites = [ET.parse(path).getroot() for path in (BUILD / module / "surefire-reports").glob("TEST-*.xml")]
    ran = sum(int(suite.attrib["tests"]) for suite in suites)
    skipped = [
        f"{suite.attrib['name']}.{case.attrib['name']}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("skipped") is not None
    ]
    print(f"{module}: {ran} tests in {len(suites)} classes")
    assert ran > 0
    assert not skipped


def check_benchmarks() -> None:
    """What the app's benchmark wrote on the JVM is read here. It is no phone, and says so."""
    documents = [read_document(path) for path in (BUILD / "lens" / "benchmarks").glob("*.json")]
    assert {result["artifact"]["task"] for one in documents for result in one["results"]} == {"udc", "deblur"}
    assert {one["provenance"] for one in documents} == {"measured-emulator"}


@pytest.fixture(scope="module")
def built() -> Path:
    """What Maven made of all modules, after their tests passed: one run. Without the native parts, only core is tested."""
    if found := reason(missing_for_core()):
        pytest.skip(f"Kotlin: {found}")
    for module in MODULES:
        shutil.rmtree(BUILD / module / "surefire-reports", ignore_errors=True)
    shutil.rmtree(BUILD / "lens" / "benchmarks", ignore_errors=True)
    found = other_machine() or reason(missing_for_lens())
    if found:
        run_maven("core")
        check_reports("core")
        pytest.skip(f"core passed; lens and app were not tested: {found}")
    for task in bundles.VARIANTS:
        bundles.bundle(task)
    run_maven("app")
    return BUILD


def test_kotlin(built: Path) -> None:
    for module in MODULES:
        check_reports(module)
    check_benchmarks()


def test_classes_use_only_what_android_makes_public(built: Path) -> None:
    public = public_api.public_classes()
    found = public_api.hidden(
        {("android.os.SystemProperties", "get"), ("android.view.TextureView", "setAlpha")}, public
    )
    assert found == ["android.os.SystemProperties.get"], "setAlpha is inherited, and public"
    for module in ("lens", "app"):
        used = public_api.uses(next((built / module).glob(f"{module}-*.jar")))
        print(f"{module}: {len(used)} members of android.*")
        assert used and public_api.hidden(used, public) == []


@pytest.fixture(scope="module")
def packed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An APK with the bundles of these tests."""
    if found := reason(missing_for_apk()):
        pytest.skip(f"the APK was not built: {found}")
    out = tmp_path_factory.mktemp("apk") / "afterlens.apk"
    apk.pack(dict(apk.bundle_files(bundles.FOLDER)), out)
    return out


def test_apk_is_signed_and_aligned(packed: Path) -> None:
    signed = output("apksigner", "verify", "--verbose", "--min-sdk-version", "24", str(packed))
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in signed
    assert "Verified using v3 scheme (APK Signature Scheme v3): true" in signed
    output("zipalign", "-c", "-p", "4", str(packed))
    found = apk_facts.facts(packed)
    print(found.line)
    assert 10_000 < found.methods < 65_536
    assert found.zip_alignment >= 16_384, "phones with pages of 16 KB map libraries from the APK"
    assert found.page == 4096, (
        "TFLite 2.16.1's; docs/android.md says that a phone with 16 KB pages needs Gradle's build"
    )


def test_apk_says_what_the_manifest_does(packed: Path, built: Path) -> None:
    aapt2 = str(built / "app" / "tools" / "prebuilt" / "linux" / "aapt2")
    badging = output(aapt2, "dump", "badging", str(packed))
    for line in (
        "package: name='dev.afterlens'",
        "minSdkVersion:'28'",
        "targetSdkVersion:'36'",
        "uses-permission: name='android.permission.CAMERA'",
        "launchable-activity: name='afterlens.app.ui.LiveActivity'",
        "uses-native-library-not-required:'libOpenCL.so'",
        "native-code: 'arm64-v8a'",
    ):
        assert line in badging, badging
    required = {line for line in badging.splitlines() if line.strip().startswith("uses-feature: name=")}
    assert required <= {"  uses-feature: name='android.hardware.faketouch'"}, (
        "photos are restored without a camera, too"
    )
    manifest = ET.parse(ROOT / "android" / "app" / "src" / "main" / "AndroidManifest.xml")
    activities = [node.attrib[f"{{{ANDROID}}}name"] for node in manifest.iter("activity")]
    with zipfile.ZipFile(packed) as archive:
        code = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".dex"))
    assert activities and all(f"L{name.replace('.', '/')};".encode() in code for name in activities)


def test_apk_holds_the_bundles_the_shaders_and_the_published_libraries(packed: Path, built: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        assert len(set(names)) == len(names)
        for task in bundles.VARIANTS:
            contract = read_bundle(bundles.FOLDER / task).contract
            entries: tuple[Artifact | GoldenFile, ...] = (*contract.artifacts, *contract.golden)
            for entry in entries:
                content = archive.read(f"assets/bundles/{task}/{entry.file}")
                assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.bytes)
            inside = [name for name in names if name.startswith(f"assets/bundles/{task}/")]
            assert len(inside) == len(entries) + 1
        for shader in (ROOT / "android" / "lens" / "src" / "main" / "resources").rglob("*.glsl"):
            assert archive.read(f"afterlens/lens/gl/{shader.name}") == shader.read_bytes()
        for library in (
            "tensorflow-lite/jni/arm64-v8a/libtensorflowlite_jni.so",
            "tensorflow-lite-gpu/jni/arm64-v8a/libtensorflowlite_gpu_jni.so",
        ):
            published = (built / "tflite" / "aar" / library).read_bytes()
            assert archive.read(f"lib/arm64-v8a/{Path(library).name}") == published


def output(*command: str) -> str:
    """What a command printed; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
