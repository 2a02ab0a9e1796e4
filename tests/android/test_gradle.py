"""The Gradle build, which cannot run here, says the same as the Maven build, which does."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

ANDROID = Path(__file__).parents[2] / "android"
POM = "{http://maven.apache.org/POM/4.0.0}"
MODULES = ("core", "lens", "app")


def gradle(folder: str) -> str:
    return (ANDROID / folder / "build.gradle.kts").read_text("utf-8")


def property_of_pom(name: str) -> str:
    text = ET.parse(ANDROID / "pom.xml").getroot().findtext(f"{POM}properties/{POM}{name}")
    assert text is not None, name
    return text


def only(pattern: str, text: str) -> str:
    """The one value that the pattern finds, however often."""
    found = set(re.findall(pattern, text))
    assert len(found) == 1, (pattern, found)
    return str(found.pop())


def test_both_builds_have_the_same_modules() -> None:
    """But for tflite, which unpacks for Maven what Gradle reads itself."""
    included = re.findall(r'":(\w+)"', (ANDROID / "settings.gradle.kts").read_text("utf-8"))
    modules = [entry.text for entry in ET.parse(ANDROID / "pom.xml").iter(f"{POM}module")]
    assert included == [*MODULES]
    assert [module for module in modules if module != "tflite"] == included


def test_both_builds_have_the_same_versions() -> None:
    root = gradle(".")
    assert set(re.findall(r'kotlin\("[\w.]+"\) version "([\d.]+)"', root)) == {
        property_of_pom("kotlin.version")
    }
    assert only(r'"com\.android\.\w+"\) version "([\d.]+)"', root) == "8.9.1"
    assert only(r"serialization-json:([\d.]+)", gradle("core")) == property_of_pom("serialization.version")
    for folder in MODULES:
        assert only(r"jvmToolchain\((\d+)\)", gradle(folder)) == property_of_pom("kotlin.compiler.jvmTarget")
    wrapper = (ANDROID / "gradle" / "wrapper" / "gradle-wrapper.properties").read_text("utf-8")
    assert only(r"gradle-([\d.]+)-bin\.zip", wrapper) == "8.11.1"


def test_both_builds_make_the_same_app() -> None:
    app = gradle("app")
    assert only(r'applicationId = "([\w.]+)"', app) == property_of_pom("application.id")
    assert only(r"targetSdk = (\d+)", app) == property_of_pom("target.sdk")
    assert only(r"compileSdk = (\d+)", app + gradle("lens")) == property_of_pom("target.sdk")
    assert only(r"minSdk = (\d+)", app + gradle("lens")) == property_of_pom("minimum.sdk")
    version = ET.parse(ANDROID / "pom.xml").getroot().findtext(f"{POM}version")
    assert only(r'versionName = "([\d.]+)"', app) == version
    pom = (ANDROID / "app" / "pom.xml").read_text("utf-8")
    assert only(r'namespace = "([\w.]+)"', app) == only(r"--custom-package ([\w.]+)", pom)


def test_the_manifest_leaves_to_the_builds_what_they_add() -> None:
    """Gradle refuses a package in it, and a class that is named in short would be looked for in two places."""
    root = ET.parse(ANDROID / "app" / "src" / "main" / "AndroidManifest.xml").getroot()
    android = "{http://schemas.android.com/apk/res/android}"
    assert not set(root.attrib) & {"package", f"{android}versionCode", f"{android}versionName"}
    assert root.find("uses-sdk") is None
    classes = ANDROID / "app" / "src" / "main" / "kotlin"
    activities = [str(entry.get(f"{android}name")) for entry in root.iter("activity")]
    assert len(activities) == 3
    for name in activities:
        assert (classes / f"{name.replace('.', '/')}.kt").exists(), name


def test_only_adb_s_shell_may_start_a_benchmark() -> None:
    root = ET.parse(ANDROID / "app" / "src" / "main" / "AndroidManifest.xml").getroot()
    android = "{http://schemas.android.com/apk/res/android}"
    exported = {
        str(entry.get(f"{android}name")).rpartition(".")[2]: entry.get(f"{android}permission")
        for entry in root.iter("activity")
        if entry.get(f"{android}exported") == "true"
    }
    assert exported == {"LiveActivity": None, "BenchmarkActivity": "android.permission.DUMP"}
