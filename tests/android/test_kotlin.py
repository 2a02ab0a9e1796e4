"""The Kotlin library: built and tested by Maven, its runtime and renderer on the real parts (docs/android.md)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from afterlens.benchmarks.document import read_document
from tests.android import bundles
from tests.android.requirements import missing_for_core, missing_for_lens, other_machine

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "android"
NO_NETWORK = ("Could not transfer artifact", "Temporary failure in name resolution")


def reason(packages: list[str]) -> str | None:
    """For people; None where nothing is missing."""
    return f"not installed (Debian's names): {', '.join(packages)}" if packages else None


def run_maven(modules: str) -> None:
    """Build and test the modules. Skips where Maven cannot download what it needs."""
    repository = Path(os.environ.get("MAVEN_REPOSITORY", ROOT / "build" / "maven"))
    command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={repository}", "-f", str(ROOT / "android")]
    command += ["-pl", modules, "-am", "test"]
    downloaded = repository / f"downloaded-{modules}"
    poms = b"".join(path.read_bytes() for path in sorted((ROOT / "android").rglob("pom.xml")))
    key = hashlib.sha256(poms).hexdigest()
    if downloaded.exists() and downloaded.read_text() == key:
        command.append("-o")
    options = f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1 {os.environ.get('MAVEN_OPTS', '')}"  # for short runs
    environment = {**os.environ, "MAVEN_OPTS": options}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
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


def test_kotlin() -> None:
    """All of it in one run of Maven; without the native parts, only core."""
    if found := reason(missing_for_core()):
        pytest.skip(f"Kotlin: {found}")
    for module in ("core", "lens"):
        shutil.rmtree(BUILD / module / "surefire-reports", ignore_errors=True)
    shutil.rmtree(BUILD / "lens" / "benchmarks", ignore_errors=True)
    found = other_machine() or reason(missing_for_lens())
    if found:
        run_maven("core")
        check_reports("core")
        pytest.skip(f"core passed; lens was not tested: {found}")
    for task in bundles.VARIANTS:
        bundles.bundle(task)
    run_maven("lens")
    check_reports("core")
    check_reports("lens")
    check_benchmarks()
