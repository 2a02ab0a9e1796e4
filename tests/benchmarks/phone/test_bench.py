"""A benchmark on a phone: with the real adb as far as it goes without one, and with a stand-in that is executed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afterlens.benchmarks.phone import bench as phone_bench
from afterlens.benchmarks.phone.adb import Phone
from afterlens.conversion.bundle.contract import (
    Artifact,
    Contract,
    GoldenFile,
    TensorSpec,
    digest,
    write_contract,
)
from tests.conversion.tflite.files import File

STAND_IN = Path(__file__).with_name("stand_in.py")
ROOT = Path(__file__).parents[3]
Cli = Callable[..., Any]
READY = "SERIAL1\tdevice\n"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Two files that the CPU's runtime can load, with golden files of their size and one of another."""
    folder = tmp_path / "bundle"
    (folder / "golden").mkdir(parents=True)
    artifacts = []
    spec = TensorSpec("image", (1, 16, 16, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", "photo")
    restored = TensorSpec("restored", (1, 16, 16, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", "clean photo")
    for variant in ("float32", "float16"):
        one = File()
        photo, result = one.tensor((1, 16, 16, 3)), one.tensor((1, 16, 16, 3))
        one.operator("LOGISTIC" if variant == "float32" else "TANH", [photo], [result])
        path = one.write(folder / f"tiny_16x16_{variant}.tflite", [photo], [result])
        artifacts.append(
            Artifact(
                path.name, "tflite", variant, 16, 16, *digest(path), "TFLite 2.9", (spec,), (restored,), 0, 0
            )
        )
    golden = []
    for role, tensor, side in (("input", "image", 16), ("output", "restored", 16), ("input", "image", 32)):
        path = folder / "golden" / f"{side}x{side}_{role}_{tensor}.png"
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path)
        golden.append(
            GoldenFile(f"golden/{path.name}", role, tensor, "png", (side, side, 3), *digest(path))  # type: ignore[arg-type]
        )
    provenance: Any = {"checkpoint_sha256": "ab" * 32, "recipe": {}, "data_licence": "CC BY 4.0", "tools": {}}
    write_contract(folder, Contract("tiny", "Tiny", "1", tuple(artifacts), tuple(golden), provenance))
    return folder


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's phone, with the app on it, and the stand-in first on PATH. Only waiting takes time."""
    waited = [0.0]
    monkeypatch.setattr(
        phone_bench,
        "time",
        SimpleNamespace(monotonic=lambda: sum(waited), sleep=waited.append),
    )
    folder = tmp_path / "phone"
    (folder / "bin").mkdir(parents=True)
    command = f"#!/bin/sh\nexec {sys.executable} {STAND_IN}"
    scripts = {folder / "bin" / name: f'{command} on-phone {name} "$@"\n' for name in ("am", "pm", "pidof")}
    scripts[tmp_path / "path" / "adb"] = f'{command} "$@"\n'
    for path, text in scripts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    (folder / "installed").touch()
    (folder / "will").write_text("work")
    (folder / "devices").write_text(READY)
    monkeypatch.setenv("PHONE", str(folder))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    return folder


def left_on(phone: Path) -> list[str]:
    files = phone / "sdcard/Android/data/dev.afterlens/files"
    return [
        str(path.relative_to(files))
        for path in files.rglob("*")
        if path.name not in ("bundles", "benchmarks")
    ]


def calls(phone: Path) -> list[list[str]]:
    return [json.loads(line) for line in (phone / "log").read_text().splitlines()]


def test_the_phones_document_comes_back_and_nothing_stays_there(
    cli: Cli, phone: Path, bundle: Path, tmp_path: Path
) -> None:
    (phone / "installed").unlink()
    (tmp_path / "app.apk").write_bytes(b"an APK")
    out = tmp_path / "phone.json"
    arguments = ("--device", "android", "--apk", tmp_path / "app.apk", "--minutes", "3", "--threads", "2")
    result = cli("bench", bundle, *arguments, "-o", out, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert json.loads(out.read_text()) == document
    assert document["provenance"] == "measured-device"
    assert document["results"][0]["id"] == "16x16 float32 cpu 2 3"
    assert (
        document["input"]
        == "16x16_input_image.png 16x16_output_restored.png model.json tiny_16x16_float32.tflite"
    )
    assert "SERIAL1: 30 runs after 3 warm-ups" in result.stderr
    assert left_on(phone) == []
    assert not (phone / "running").exists()
    assert [call[2] for call in calls(phone) if len(call) > 2 and call[2] != "shell"] == [
        "install",
        "push",
        "push",
        "pull",
    ]


def test_the_gpu_gets_its_variant_and_people_a_table(cli: Cli, phone: Path, bundle: Path) -> None:
    (phone / "devices").write_text("other\tdevice\n" + READY)
    result = cli("bench", bundle, "--device", "android", "--serial", "SERIAL1", "--accelerator", "gpu")
    assert result.code == 0, result.stderr
    for words in (
        "16x16 float16 gpu 1 0",
        "Example Phone (Example SoC 1, Android 16",
        "live 28.6 frames/s",
        "self-test 61.2 dB",
    ):
        assert words in result.stdout, result.stdout
    assert (
        "sustained 8.8 ms in the first minute, 14.0 ms in the last of 4, thermal state moderate"
        in result.stdout
    )


@pytest.mark.parametrize(
    ("devices", "line"),
    [
        ("", "no phone is connected (adb lists: none)"),
        (
            "A\tdevice\nB\toffline\n",
            "2 phones are connected: A (device), B (offline); choose one with --serial",
        ),
        ("A\tunauthorized\n", "the phone A cannot be used (unauthorized): unlock it and allow USB debugging"),
        ("A\toffline\n", "the phone A cannot be used (offline): it does not answer"),
        (
            "A\tno permissions (user in plugdev group; are your udev rules wrong?); see [http://x]\n",
            "the phone A cannot be used (no permissions): this user may not use the USB device",
        ),
    ],
)
def test_a_phone_that_is_not_ready_is_one_line(
    cli: Cli, phone: Path, bundle: Path, devices: str, line: str
) -> None:
    (phone / "devices").write_text(devices)
    result = cli("bench", bundle, "--device", "android")
    assert result.code == 2
    assert result.stderr.startswith(f"error: {line}") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("will", "line"),
    [
        ("refuse", "the phone SERIAL1: the GPU library is missing"),
        ("crash", "the app ended on the phone SERIAL1 without a result; `adb logcat` tells more"),
        ("hang", "the phone SERIAL1 took too long; it was at: 30 runs after 3 warm-ups"),
        ("be an old app", "the phone SERIAL1 does not start the benchmark: Error: Activity class"),
        (
            "be denied",
            "the phone SERIAL1 does not start the benchmark: java.lang.SecurityException: Permission Denial;",
        ),
        ("be full", "adb push: adb: error: failed to copy: remote couldn't write: No space left on device"),
        ("work badly", "/"),  # the pulled file's name
    ],
)
def test_what_goes_wrong_there_is_one_line_and_nothing_stays(
    cli: Cli, phone: Path, bundle: Path, will: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phone_bench, "PATIENCE", 20.0)
    (phone / "sdcard/Android/data/dev.afterlens/files").mkdir(parents=True)
    (phone / "will").write_text(will)
    result = cli("bench", bundle, "--device", "android")
    assert result.code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {line}"), result.stderr
    assert "Traceback" not in result.stderr
    assert left_on(phone) == []
    if will == "work badly":
        assert "Field required" in last and "benchmarks/schema.json" in last


def test_a_pulled_cable_is_one_line_and_it_is_said_what_stays(cli: Cli, phone: Path, bundle: Path) -> None:
    (phone / "will").write_text("lose the cable")
    result = cli("bench", bundle, "--device", "android")
    assert result.code == 2
    *_, warning, last = result.stderr.splitlines()
    assert last == "error: lost the phone SERIAL1 (unplugged); check the cable, and run again"
    assert "may be left on the phone" in result.stderr, warning


def test_an_app_that_is_not_there_and_one_that_cannot_be_installed(
    cli: Cli, phone: Path, bundle: Path, tmp_path: Path
) -> None:
    (phone / "installed").unlink()
    result = cli("bench", bundle, "--device", "android")
    assert result.code == 2
    assert (
        "error: the app dev.afterlens is not on the phone SERIAL1: give its APK with --apk" in result.stderr
    )
    (tmp_path / "bad.apk").write_bytes(b"no APK")
    result = cli("bench", bundle, "--device", "android", "--apk", tmp_path / "bad.apk")
    assert result.code == 2 and "INSTALL_PARSE_FAILED_NOT_APK" in result.stderr.splitlines()[-1]
    result = cli("bench", bundle, "--device", "android", "--apk", tmp_path / "none.apk")
    assert result.code == 2 and "none.apk: no such file" in result.stderr
    assert left_on(phone) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_interrupts_leaves_nothing_on_the_phone(
    phone: Path, bundle: Path, number: int, code: int
) -> None:
    (phone / "will").write_text("hang")
    command = [sys.executable, "-m", "afterlens", "bench", str(bundle), "--device", "android"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    until = time.monotonic() + 120
    while not (phone / "running").exists() and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1)
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == code, stderr
    assert "Traceback" not in stderr
    assert left_on(phone) == []
    assert not (phone / "running").exists()


def test_the_app_would_choose_the_same_variants() -> None:
    source = (ROOT / "android/lens/src/main/kotlin/afterlens/lens/runtime/Opening.kt").read_text("utf-8")
    lists = dict(re.findall(r"Processor\.(GPU|CPU) -> listOf\(([^)]*)\)", source))
    assert {
        unit.lower(): tuple(json.loads(f"[{names}]")) for unit, names in lists.items()
    } == phone_bench.VARIANTS


def test_words_reach_the_phones_shell_as_they_are(phone: Path, tmp_path: Path) -> None:
    words = ("a b", "; touch broken", "$(touch broken)", "`x`", "'\"", "*")
    printed = Phone(str(tmp_path / "path" / "adb"), "SERIAL1").shell("printf", "%s\n", *words)
    assert printed.splitlines() == list(words)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--minutes", "5"), "--minutes does not go with --device host"),
        (("--device", "android", "--operators"), "--operators does not go with --device android"),
        (("--device", "android", "--variant", "int4"), "no int4 of 16x16, there are float32, float16"),
        (("--device", "android", "--size", "8x8"), "no TFLite artifact of 8x8"),
        (("--device", "android", "--minutes", "-1"), "got -1 minutes, expected 0 to 1440"),
        (("--device", "toaster"), "toaster"),
    ],
)
def test_wrong_options_are_one_line(
    cli: Cli, phone: Path, bundle: Path, arguments: tuple[str, ...], line: str
) -> None:
    result = cli("bench", bundle, *arguments)
    assert result.code == 2
    assert line in result.stderr and result.stderr.count("\n") == 1
    assert not (phone / "log").exists()


def test_without_adb_it_is_said_how_to_get_it(
    cli: Cli, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = cli("bench", bundle, "--device", "android")
    assert result.code == 2
    assert result.stderr == "error: no program `adb` is on PATH: install it (Debian: apt install adb)\n"


@pytest.fixture
def real_adb(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The real adb with a server of its own, which ends with the test."""
    program = shutil.which("adb")
    if program is None:
        pytest.skip("not installed (Debian's name): adb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    yield program
    subprocess.run([program, "kill-server"], capture_output=True, check=False)


def test_the_real_adb_knows_no_such_phone(cli: Cli, real_adb: str, bundle: Path) -> None:
    result = cli("bench", bundle, "--device", "android", "--serial", "no-such-phone")
    assert result.code == 2
    assert result.stderr.startswith("error: no phone no-such-phone is connected (adb lists: "), result.stderr
    assert result.stderr.count("\n") == 1


def test_a_phone_that_the_real_adb_loses_is_one_line(real_adb: str, tmp_path: Path) -> None:
    gone = Phone(real_adb, "no-such-phone")
    for action in (
        lambda: gone.shell("true"),
        lambda: gone.push([STAND_IN], "/sdcard"),
        lambda: gone.pull("/sdcard/x", tmp_path / "x"),
        lambda: gone.install(STAND_IN),
    ):
        with pytest.raises(
            Exception, match=r"^lost the phone no-such-phone \(unplugged\); check the cable"
        ) as caught:
            action()
        assert "\n" not in str(caught.value)
