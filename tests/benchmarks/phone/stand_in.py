"""Speaks as adb 29 does, with a folder for a phone. The tests execute it in adb's place; nothing here is measured.

The folder $PHONE holds `devices` (what `adb devices` lists), `installed` where the app is there, `will` (what the app does
when it is started), `sdcard/`, `bin/` (the phone's own programs), `running` while the app runs, and `log`, every call.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHONE = Path(os.environ["PHONE"])
FILES = PHONE / "sdcard/Android/data/dev.afterlens/files"
MADE_UP = Path(__file__).parents[2] / "vectors" / "bench_expected.json"


def main(arguments: list[str]) -> int:
    if arguments[0] == "on-phone":
        return on_phone(*arguments[1:])
    with (PHONE / "log").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    if arguments == ["devices"]:
        print("* daemon not running; starting now at tcp:5037", file=sys.stderr)
        print("List of devices attached\n" + (PHONE / "devices").read_text())
        return 0
    option, serial, verb, *rest = arguments
    assert option == "-s"
    if f"{serial}\tdevice\n" not in (PHONE / "devices").read_text():
        return fail(f"error: device '{serial}' not found")
    verbs: dict[str, Callable[..., int]] = {"shell": shell, "push": push, "pull": pull, "install": install}
    return verbs[verb](*rest)


def fail(line: str) -> int:
    print(line, file=sys.stderr)
    return 1


def here(path: str) -> Path:
    """A path of the phone on this machine."""
    assert path.startswith("/sdcard/")
    return PHONE / path[1:]


def shell(*words: str) -> int:
    text = " ".join(words).replace("/sdcard/", f"{PHONE}/sdcard/")
    path = f"{PHONE}/bin:{os.environ['PATH']}"
    return subprocess.run(["sh", "-c", text], env={**os.environ, "PATH": path}, check=False).returncode


def push(*words: str) -> int:
    *files, folder = words
    if (PHONE / "will").read_text() == "be full":
        return fail("adb: error: failed to copy: remote couldn't write: No space left on device")
    for file in files:
        shutil.copyfile(file, here(folder) / Path(file).name)
    print(f"{len(files)} files pushed.")
    return 0


def pull(file: str, target: str) -> int:
    shutil.copyfile(here(file), target)
    return 0


def install(*words: str) -> int:
    replace, apk = words
    assert replace == "-r"
    print("Performing Streamed Install")
    if Path(apk).read_bytes() == b"no APK":
        return fail(f"adb: failed to install {apk}: Failure [INSTALL_PARSE_FAILED_NOT_APK]")
    (PHONE / "installed").touch()
    print("Success")
    return 0


def on_phone(program: str, *words: str) -> int:
    running = PHONE / "running"
    if program == "pm":
        return 0 if (PHONE / "installed").exists() and not print("package:/data/app/base.apk") else 1
    if program == "pidof":
        act()
        return 0 if running.exists() else 1
    if words[0] == "force-stop":
        running.unlink(missing_ok=True)
        return 0
    return start(words)


def start(words: tuple[str, ...]) -> int:
    """`am start`."""
    will = (PHONE / "will").read_text()
    print(
        "Stopping: dev.afterlens\nStarting: Intent { cmp=dev.afterlens/afterlens.app.ui.BenchmarkActivity }"
    )
    if will == "be an old app":
        print("Error type 3\nError: Activity class {dev.afterlens/...} does not exist.")
        return 0
    if will == "be denied":
        print("Exception occurred while executing 'start':\njava.lang.SecurityException: Permission Denial")
        print("\tat com.android.server.Something(Something.java:1)")
        return 255
    FILES.mkdir(parents=True, exist_ok=True)
    extras = dict(zip(words[5::3], words[6::3], strict=True))
    if extras:
        (PHONE / "running").write_text(json.dumps({"looks": 0, "extras": extras}))
        (FILES / "benchmarks").mkdir(exist_ok=True)
        (FILES / "benchmarks" / f"{extras['document']}.progress.txt").write_text("30 runs after 3 warm-ups")
    return 0


def act() -> None:
    """What the app (BenchmarkFolder.kt) has done when it is looked for the second time."""
    running = PHONE / "running"
    if not running.exists():
        return
    state = json.loads(running.read_text())
    state["looks"] += 1
    running.write_text(json.dumps(state))
    if state["looks"] < 2:
        return
    will, extras = (PHONE / "will").read_text(), state["extras"]
    name, results = extras["document"], FILES / "benchmarks"
    if will == "crash":
        running.unlink()
    elif will == "lose the cable":
        (PHONE / "devices").write_text("")
    elif will == "refuse":
        (results / f"{name}.error.txt").write_text("the GPU library is missing")
    elif will in ("work", "work badly"):
        text = json.dumps(document(extras)) if will == "work" else '{"schema_version": 2}'
        (results / "part").write_text(text)
        (results / "part").rename(results / f"{name}.json")


def document(extras: dict[str, str]) -> dict[str, Any]:
    """Made-up times, of the artifact that really lies on the phone."""
    folder = FILES / "bundles" / extras["bundle"]
    (file,) = folder.glob("*.tflite")
    found: dict[str, Any] = json.loads(MADE_UP.read_text())["document"]
    (result, _) = found["results"]
    result["artifact"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    result["id"] = " ".join(extras[key] for key in ("size", "variant", "accelerator", "threads", "minutes"))
    found["input"] = " ".join(sorted(path.name for path in folder.rglob("*") if path.is_file()))
    return {**found, "results": [result]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
