"""What people and broken files do to the command line: one line, the right exit code, bounded time, nothing left behind."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from afterlens.cli import LONGEST
from afterlens.conversion.bundle.contract import Bundle
from afterlens.training.checkpoint import load_checkpoint, save_checkpoint
from afterlens.training.tasks import TASKS
from tests.conversion.verify import mutations

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
Cli = Callable[..., Any]


def assert_one_line(result: Any, code: int, *parts: str) -> None:
    assert result.code == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr[:2000]
    assert len(lines[0]) <= LONGEST + 50
    for part in parts:
        assert part in lines[0]


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "afterlens", *arguments], cwd=ROOT, env=ENVIRONMENT, **options
    )


# --- streams ---------------------------------------------------------------------------------------------------


def test_a_reader_that_goes_away_is_no_failed_gate() -> None:
    process = start("--help", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as `| head -0` does, long before anything is printed
    errors = process.stderr.read()
    assert process.wait(60) in (0, 141)
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_stderr_changes_no_exit_code_and_a_full_stdout_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        assert start("--version", stdout=subprocess.DEVNULL, stderr=full).wait(60) == 0
        assert start("restore", stderr=full).wait(60) == 2
        process = start("--help", stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and b"No space left" in errors and b"Traceback" not in errors


def test_closed_streams_are_no_bug() -> None:
    for arguments, code in ((["--version"], 0), (["restore"], 2)):
        command = shlex.join([sys.executable, "-m", "afterlens", *arguments])
        for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
            done = subprocess.run(
                ["/bin/sh", "-c", f"{command} {closed}"],
                cwd=ROOT,
                env=ENVIRONMENT,
                capture_output=True,
                check=False,
                timeout=60,
            )
            assert (done.returncode, b"internal" in done.stderr) == (code, False), (arguments, closed)


def test_the_version_and_the_tasks_can_be_asked_for(cli: Cli) -> None:
    from importlib.metadata import version

    result = cli("--version")
    assert (result.code, result.stdout) == (0, f"afterlens {version('afterlens')}\n")
    for verb in ("train", "restore", "convert", "evaluate", "info"):
        text = cli(verb, "--help").stdout
        assert all(name in text for name in TASKS), verb


def test_a_change_of_the_recipe_is_blamed_on_the_change(cli: Cli, photo_path: Path, tmp_path: Path) -> None:
    run = ("train", "reflection", photo_path, "-o", tmp_path / "run")
    assert_one_line(cli(*run, "-s", "training.stepz=3"), 2, "-s training.stepz=3", "unknown key 'stepz'")
    result = cli(*run, "-s", f"training.steps={10**20}")
    assert_one_line(result, 2, f"training: steps is {10**20}")
    assert not (tmp_path / "run").exists()


# --- names -----------------------------------------------------------------------------------------------------

LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "reflection", LONG, "-o", "out.png"),
        ("restore", "reflection", "PHOTO", "-o", f"{LONG}.png"),
        ("restore", "reflection", "PHOTO", "-o", "out.png", "-c", LONG),
        ("train", "reflection", LONG, "-o", "run"),
        ("train", "reflection", "PHOTO", "--preview", f"{LONG}.png"),
        ("evaluate", "reflection", LONG),
        ("verify", LONG),
        ("lint", LONG),
        ("bench", LONG),
        ("compare", LONG, LONG),
        ("report", LONG, "-o", "out.html"),
        ("info", "reflection", "-c", LONG),
        ("align", LONG, "-o", "out"),
        ("psf", LONG, "-o", "out.npy"),
    ],
    ids=lambda arguments: " ".join(a[:12] for a in arguments),
)
def test_a_name_that_is_too_long_is_one_line(
    cli: Cli, tmp_path: Path, photo_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(photo_path) if argument == "PHOTO" else argument for argument in arguments]
    assert_one_line(cli(*given), 2)
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_that_the_disk_can_hold_can_be_written(tmp_path: Path) -> None:
    from afterlens.training.media.images import write_png

    path = tmp_path / f"{'ä' * 120}.png"  # 244 bytes
    write_png(path, np.zeros((4, 4, 3), np.float32))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_output_that_is_a_circle_of_links_is_one_line_or_replaced(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.symlink_to(other)
    other.symlink_to(one)
    result = cli("restore", "reflection", photo_path, "-o", one, "-c", random_checkpoint)
    assert result.code in (0, 2), result.stderr
    assert "internal error" not in result.stderr


def test_an_empty_output_name_is_one_line(cli: Cli, photo_path: Path) -> None:
    assert_one_line(
        cli("train", "reflection", photo_path, "--preview", ""), 2, "expected the name of a file or folder"
    )


# --- pipes and devices: neither waited for nor read without end --------------------------------------------------


def test_pipes_and_devices_are_refused(
    cli: Cli, tmp_path: Path, bundle: Bundle, random_checkpoint: Path
) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    restore = ("restore", "reflection", pipe, "-o", tmp_path / "out.png", "-c", random_checkpoint)
    assert_one_line(cli(*restore), 2, "pipe.jpg", "expected an image file")
    assert_one_line(cli("restore", "deblur", pipe, "-o", tmp_path / "out.mp4"), 2, "pipe.jpg")
    page = tmp_path / "out.html"
    for device in (pipe, Path("/dev/zero")):
        assert_one_line(cli("compare", device, device), 2, "expected a file, got a folder or a device")
        assert_one_line(cli("report", bundle.folder, "--bench", device, "-o", page), 2, "expected a file")
    psf = ("train", "udc", pipe, "--preview", tmp_path / "p.png", "-s", f"panel.psf={pipe}")
    assert_one_line(cli(*psf), 2)


@pytest.mark.parametrize("size", ["99999x99999", "1280x99999", f"{'9' * 5000}x10", "0x10", "-5x10"])
def test_a_size_beyond_every_format_is_refused(cli: Cli, tmp_path: Path, size: str) -> None:
    assert_one_line(cli("convert", "reflection", "-o", tmp_path / "b", f"--size={size}"), 2, "WIDTHxHEIGHT")


@pytest.mark.parametrize("threads", [0, 100_000, 10**20])
def test_a_number_of_threads_that_no_machine_has_is_refused(cli: Cli, bundle: Bundle, threads: int) -> None:
    assert_one_line(cli("bench", bundle.folder, "--threads", str(threads)), 2, "at most 256 threads")


# --- checkpoints -----------------------------------------------------------------------------------------------


def changed(checkpoint: Path, out: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    tensors, metadata = load_checkpoint(checkpoint)
    change(tensors, metadata)
    save_checkpoint(out, tensors, metadata)
    return out


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_everywhere(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path, value: float
) -> None:
    def spoil(tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
        next(t for t in tensors.values() if t.numel() > 4).view(-1)[3] = value

    bad = changed(random_checkpoint, tmp_path / "bad.safetensors", spoil)
    out = tmp_path / "out"
    for command in (
        ("restore", "reflection", photo_path, "-o", tmp_path / "out.png"),
        ("convert", "reflection", "-o", out, "--size", "64x64"),
        ("evaluate", "reflection", photo_path, "--synthesize", "shadow", "-o", out),
        ("info", "reflection"),
    ):
        assert_one_line(cli(*command, "-c", bad), 2, "holds NaN or infinity")
    assert [file.name for file in tmp_path.iterdir()] == ["bad.safetensors"]


@pytest.mark.parametrize("depths", [[48, 64, 10_000_000], [300, 300, 300]])
def test_a_checkpoint_cannot_ask_for_a_network_that_it_does_not_hold(
    cli: Cli, tmp_path: Path, depths: list[int]
) -> None:
    def deepen(tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
        assert "depths" in metadata["recipe"]["network"]
        metadata["recipe"]["network"]["depths"] = depths

    bad = changed(TASKS["udc"].pretrained, tmp_path / "bad.safetensors", deepen)
    before = psutil.Process().memory_info().rss
    assert_one_line(cli("info", "udc", "-c", bad), 2, "bad.safetensors")
    assert psutil.Process().memory_info().rss - before < 1 << 30


def test_metadata_without_end_is_one_line(cli: Cli, tmp_path: Path) -> None:
    from safetensors.torch import save

    path = tmp_path / "deep.safetensors"
    path.write_bytes(save({"a": torch.zeros(1)}, metadata={"afterlens": "[" * 100_000 + "]" * 100_000}))
    assert_one_line(cli("info", "reflection", "-c", path), 2, "its metadata is not JSON")


def test_a_broken_recipe_file_is_named_by_every_verb(
    cli: Cli, tmp_path: Path, photo_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    (tmp_path / "recipe.toml").write_text("[training]\nsteps = = 3\n")
    broken = dataclasses.replace(TASKS["reflection"], recipe_path=tmp_path / "recipe.toml")
    monkeypatch.setitem(TASKS, "reflection", broken)
    for command in (
        ("restore", "reflection", photo_path, "-o", tmp_path / "out.png"),
        ("info", "reflection"),
        ("evaluate", "reflection", photo_path, "--synthesize", "shadow"),
    ):
        assert_one_line(cli(*command, "-c", random_checkpoint), 2, "recipe.toml: not a TOML recipe")


# --- bundles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [mutations.truncate, "zeros", "text"], ids=["cut", "zeros", "text"])
def test_a_damaged_tflite_file_ends_no_benchmark(cli: Cli, own_bundle: Bundle, change: Any) -> None:
    """Its sha256 agrees with model.json: whoever made the bundle made it so."""
    path = own_bundle.folder / "reflection_256x256_float32.tflite"
    if change == "zeros":
        data = path.read_bytes()
        path.write_bytes(data[:64] + bytes(512) + data[576:])
    elif change == "text":
        path.write_text("no flatbuffer " * 100)
    else:
        change(path)
    mutations.seal(own_bundle.folder)
    assert_one_line(cli("bench", own_bundle.folder, "--runs", "1"), 2, path.name)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"width": 256', '"width": 256.0'),
        ('"width": 256', '"width": 1e999'),
        ('"macs": ', '"macs": 1e999, "x": '),
    ],
)
def test_numbers_of_another_kind_in_a_contract_are_one_line(
    cli: Cli, own_bundle: Bundle, old: str, new: str
) -> None:
    path = own_bundle.folder / "model.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for verb in ("verify", "lint", "bench"):
        assert_one_line(cli(verb, own_bundle.folder), 2, "model.json")


# --- photos ----------------------------------------------------------------------------------------------------


def test_photos_that_cannot_be_read_are_named_and_the_others_restored(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    folder, out = tmp_path / "phone", tmp_path / "out"
    folder.mkdir()
    small = Image.open(photo_path).resize((64, 48))
    small.save(folder / "a.jpg")
    small.save(folder / "b.tga")
    (folder / "c.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400))
    result = cli("restore", "reflection", folder, tmp_path / "absent.jpg", "-o", out, "-c", random_checkpoint)
    assert result.code == 1, result.stderr
    assert "c.HEIC: HEIC photos are not supported" in result.stderr.replace("\n", "")
    assert "absent.jpg: no such file" in result.stderr.replace("\n", "")
    assert result.stderr.splitlines()[-1].startswith("error: 2 of 4 photos could not be restored")
    assert sorted(file.name for file in out.iterdir()) == ["a.png", "b.png"]


def test_a_failed_restoration_leaves_one_line_and_no_bar(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    cut = tmp_path / "cut.tif"
    Image.open(photo_path).save(cut, compression="tiff_lzw")
    cut.write_bytes(cut.read_bytes()[:-4000] + bytes(4000))
    result = cli("restore", "reflection", cut, "-o", tmp_path / "out.png", "-c", random_checkpoint)
    if result.code:  # what libtiff makes of it differs between its versions
        assert_one_line(result, 2, "cut.tif")
    short = tmp_path / "short.png"
    Image.open(photo_path).save(short)
    short.write_bytes(short.read_bytes()[:20000])
    restore = ("restore", "reflection", short, "-o", tmp_path / "out.png", "-c", random_checkpoint)
    assert_one_line(cli(*restore), 2, "short.png")


# --- processes -------------------------------------------------------------------------------------------------

PARENT = """
import signal, subprocess, sys, time
from afterlens import cli
signal.signal(signal.SIGTERM, cli._terminate)
child = subprocess.Popen([sys.executable, "-c", "import subprocess, sys, time; "
    "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']); "
    "print(p.pid, flush=True); time.sleep(300)"],
    stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
time.sleep(300)
"""


def test_no_child_outlives_a_terminated_command() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
    )
    assert process.stdout is not None
    children = [int(number) for number in process.stdout.readline().split()]
    assert len(children) == 2 and all(psutil.pid_exists(number) for number in children)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    deadline = time.monotonic() + 30
    while any(_runs(number) for number in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_two_runs_into_one_folder_are_refused(cli: Cli, tmp_path: Path, photo_path: Path) -> None:
    from afterlens.training.lock import locked
    from afterlens.training.media.errors import UserError

    folder = tmp_path / "run"
    with locked(folder), pytest.raises(UserError, match="another run is writing here"), locked(folder):
        pass
    with locked(folder):  # free again
        assert list(folder.iterdir()) == []


def test_what_a_killed_process_was_writing_is_removed_by_the_next_one(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from afterlens.training.media.images import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "out.png")]
    subprocess.run(command, env=ENVIRONMENT, check=False)
    (stale,) = tmp_path.iterdir()
    assert stale.name.startswith(".out.") and stale.name.endswith(".png")
    # One that still runs, or of another machine, keeps its files.
    own = tmp_path / stale.name.replace(stale.name.split("-")[-2], str(os.getpid()))
    own.write_bytes(b"running")
    foreign = tmp_path / ".out.00000000-1-00000000.partial.png"
    foreign.write_bytes(b"elsewhere")
    subprocess.run(
        [
            sys.executable,
            "-c",
            script.replace("os.kill(os.getpid(), signal.SIGKILL)", "pass"),
            str(tmp_path / "out.png"),
        ],
        env=ENVIRONMENT,
        check=True,
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted((own.name, foreign.name, "out.png"))


def test_json_of_a_command_holds_no_number_that_json_lacks(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate = ("evaluate", "reflection", photo_path, "--synthesize", "shadow", "-c", random_checkpoint)
    assert cli(*evaluate, "-o", out).code == 0

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads((out / "quality.json").read_text(), parse_constant=refuse)
