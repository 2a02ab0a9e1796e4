"""The Kotlin libraries: built and tested by Maven, their runtime and renderer on the real parts (docs/android.md)."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.android import bundles

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "android"
HEADERS = ("/usr/include/EGL/egl.h", "/usr/include/GLES3/gl32.h")


def missing() -> str | None:
    """What this machine lacks, for people; None where it lacks nothing."""
    for tool in ("mvn", "javac", "gcc", "nm"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    text = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"javac (\d+)", text)
    if version is None or int(version[1]) < 17:
        return f"a JDK of at least 17 is needed, found {text.strip()}"
    for header in HEADERS:
        if not Path(header).exists():
            return f"{header} is missing (Debian: libegl-dev, libgles-dev)"
    return None


@pytest.fixture(scope="module")
def reports() -> dict[str, list[ET.Element]]:
    """The JUnit reports of each module."""
    reason = missing()
    if reason is not None:
        if "CI" in os.environ:
            pytest.fail(f"Kotlin is not tested: {reason}")
        pytest.skip(f"Kotlin is not tested: {reason}")
    for task in bundles.TASKS:
        bundles.bundle(task)
    repository = os.environ.get("MAVEN_REPOSITORY", str(ROOT / "build" / "maven"))
    command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={repository}", "-f", str(ROOT / "android"), "test"]
    shutil.rmtree(BUILD / "core" / "surefire-reports", ignore_errors=True)
    shutil.rmtree(BUILD / "lens" / "surefire-reports", ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return {
        module: [
            ET.parse(path).getroot() for path in (BUILD / module / "surefire-reports").glob("TEST-*.xml")
        ]
        for module in ("core", "lens")
    }


@pytest.mark.parametrize("module", ["core", "lens"])
def test_every_kotlin_test_ran(reports: dict[str, list[ET.Element]], module: str) -> None:
    suites = reports[module]
    ran = sum(int(suite.attrib["tests"]) for suite in suites)
    skipped = [
        f"{suite.attrib['name']}.{case.attrib['name']}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("skipped") is not None
    ]
    print(f"{module}: {ran} tests in {len(suites)} classes")
    assert suites
    assert ran > 0
    assert not skipped
