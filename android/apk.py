"""Builds the app's APK with bundles inside, without Gradle or Google's Maven repository.

    python -m android.apk --bundles build/demo -o build/android/afterlens.apk     (what `make android` does)

Maven compiles, aapt2 links the manifest and the resources, D8 turns the classes into Android's bytecode, and a debug key
that is made on the first run signs. The last line says what came out. Exit code 2: something is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterator
from pathlib import Path

from afterlens.conversion.bundle.contract import (
    CONTRACT_FILE,
    Artifact,
    GoldenFile,
    integrity_fault,
    read_bundle,
)
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path
from android.apk_facts import facts

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "android"
ABI = "arm64-v8a"
TOOLS = {
    "mvn": "maven",
    "javac": "openjdk-17-jdk-headless",
    "apksigner": "apksigner",
}  # and Debian's packages
PAGE = 16384  # bytes: the largest page of a phone
QUICK = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # options of a JVM that runs for seconds
ALIGNMENT_FIELD = 0xD935  # of a ZIP entry, by which apksigner knows how it is to be aligned
STORED = {".so", ".tflite", ".arsc", ".png"}  # mapped into memory by Android, or compressed already


def main() -> None:
    """The command above."""
    parser = argparse.ArgumentParser(
        "python -m android.apk", description="Build the app's APK with bundles inside."
    )
    parser.add_argument(
        "--bundles", type=Path, required=True, help="a folder of bundles, as `make demo` writes them"
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=BUILD / "afterlens.apk", help="default: %(default)s"
    )
    options = parser.parse_args()
    try:
        assets = dict(bundle_files(options.bundles))
        require_tools()
        compile_app()
        pack(assets, options.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{options.out}: {facts(options.out).line}")


def bundle_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names in the APK and files of every bundle in the folder: the contract, the golden files, the TFLite artifacts.

    Raises UserError where there is no bundle, or a file is missing or not what was converted.
    """
    bundles = sorted(path.parent for path in folder.glob(f"*/{CONTRACT_FILE}"))
    if not bundles:
        raise UserError(
            f"{folder}: no bundles here, expected FOLDER/{CONTRACT_FILE}; `make demo` makes build/demo"
        )
    for bundle in map(read_bundle, bundles):
        tflite = [artifact for artifact in bundle.contract.artifacts if artifact.format == "tflite"]
        if not tflite:
            raise UserError(
                f"{bundle.folder}: no TFLite file, which Android needs; convert again with --variants"
            )
        yield f"assets/bundles/{bundle.folder.name}/{CONTRACT_FILE}", bundle.folder / CONTRACT_FILE
        entries: tuple[Artifact | GoldenFile, ...] = (*tflite, *bundle.contract.golden)
        for entry in entries:
            if fault := integrity_fault(bundle.folder, entry):
                raise UserError(fault)
            yield f"assets/bundles/{bundle.folder.name}/{entry.file}", bundle.path(entry)


def require_tools() -> None:
    """Raises UserError, with the names of Debian's packages."""
    if missing := [package for tool, package in TOOLS.items() if shutil.which(tool) is None]:
        raise UserError(f"not installed (Debian's names): {', '.join(missing)}")


def maven(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it on the modules; downloads go to build/maven."""
    repository = os.environ.get("MAVEN_REPOSITORY", ROOT / "build" / "maven")
    command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={repository}", "-f", str(ROOT / "android"), *arguments]
    environment = {**os.environ, "MAVEN_OPTS": " ".join((*QUICK, os.environ.get("MAVEN_OPTS", "")))}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def compile_app() -> None:
    """Jars, linked resources and D8, in build/android/app."""
    done = maven("-pl", "app", "-am", "-DskipTests", "-Dmaven.test.skip", "package")
    if done.returncode:
        raise UserError(f"Maven could not build the app: {(done.stdout + done.stderr).strip()[-2000:]}")


def pack(assets: dict[str, Path], out: Path) -> None:
    """Write a signed APK of what `compile_app` left."""
    app = BUILD / "app"
    jars = [Path(jar) for jar in (app / "runtime.classpath").read_text().split(os.pathsep)]
    jars.append(next(app.glob("app-*.jar")))
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary, atomic_path(out) as signed:
        folder = Path(temporary)
        jdk = Path(shutil.which("javac") or "").resolve().parents[1]  # java.lang, which android-all lacks
        d8 = ["java", *QUICK, "-cp", str(app / "tools" / "r8.jar"), "com.android.tools.r8.D8", "--release"]
        d8 += ["--min-api", pom_property("minimum.sdk"), "--lib", (app / "android.classpath").read_text()]
        d8 += ["--lib", str(jdk)]
        run([*d8, "--output", str(folder), *map(str, jars)])
        with zipfile.ZipFile(folder / "unsigned.apk", "w") as archive:
            with zipfile.ZipFile(app / "generated" / "resources.apk") as linked:
                for name in linked.namelist():
                    add(archive, name, linked.read(name))
            for dex in sorted(folder.glob("*.dex")):
                add(archive, dex.name, dex.read_bytes())
            for name, content in resources(jars):
                add(archive, name, content)
            for library in sorted((BUILD / "tflite" / "aar").glob(f"*/jni/{ABI}/*.so")):
                add(archive, f"lib/{ABI}/{library.name}", library.read_bytes())
            for name, path in assets.items():
                add(archive, name, path.read_bytes())
        sign(folder / "unsigned.apk", signed)


def resources(jars: list[Path]) -> Iterator[tuple[str, bytes]]:
    """What classes load by name, such as the shaders."""
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if not name.startswith("META-INF/") and not name.endswith((".class", "/")):
                    yield name, archive.read(name)


def add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Android maps libraries from whole pages of the APK, and other stored files from multiples of 4 bytes."""
    entry = zipfile.ZipInfo(name)  # of 1980: the same files make the same APK
    suffix = Path(name).suffix
    entry.compress_type = zipfile.ZIP_STORED if suffix in STORED else zipfile.ZIP_DEFLATED
    if suffix in STORED:
        alignment = PAGE if suffix == ".so" else 4
        assert archive.fp is not None
        padding = -(archive.fp.tell() + 30 + len(name.encode()) + 6) % alignment
        entry.extra = struct.pack("<3H", ALIGNMENT_FIELD, 2 + padding, alignment) + bytes(padding)
    archive.writestr(entry, content)


def sign(unsigned: Path, signed: Path) -> None:
    """With the debug key, whose password is the one that everybody uses."""
    keys = BUILD / "debug.keystore"
    if not keys.exists():
        with atomic_path(keys) as new:
            command = [
                "keytool",
                "-genkeypair",
                "-keystore",
                str(new),
                "-storepass",
                "android",
                "-keyalg",
                "RSA",
            ]
            command += ["-alias", "androiddebugkey", "-keysize", "2048", "-validity", "10000"]
            run([*command, "-dname", "CN=Android Debug,O=Android,C=US"])
    command = [
        "apksigner",
        "sign",
        "--ks",
        str(keys),
        "--ks-pass",
        "pass:android",
        "--v4-signing-enabled",
        "false",
    ]
    run([*command, "--out", str(signed), str(unsigned)])


def pom_property(name: str) -> str:
    """A property of android/pom.xml."""
    found = ET.parse(ROOT / "android" / "pom.xml").findtext(f".//{{*}}{name}")
    assert found is not None, name
    return found


def run(command: list[str]) -> None:
    """Raises UserError with what the command said where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {(done.stdout + done.stderr).strip()[-2000:]}")


if __name__ == "__main__":
    main()
