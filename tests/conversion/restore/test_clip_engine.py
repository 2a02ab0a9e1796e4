"""Restoring clips: what the engine gets, what happens when it fails, and the command."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import Artifact, TensorSpec
from afterlens.conversion.restore import frame_engine as frame_engine_module
from afterlens.conversion.restore.clip import restore_clip
from afterlens.conversion.restore.frame_engine import frame_engine
from afterlens.conversion.restore.photo import choose_artifact
from afterlens.conversion.restore.scenes import CUT, HEIGHT, PART, WIDTH, SceneDetector, lost_share
from afterlens.training.media.clips import VideoFile, open_clip
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import TASKS, find_task
from tests.clip_files import picture, write_clip
from tests.conversion.restore.test_clip import ROOT, Pixels, identity, names

# --- what the engine gets ------------------------------------------------------------------------------------


def scenes_of(seed: int) -> list[NDArray[np.uint8]]:
    """Ten frames of a textured scene that moves."""
    blobs = np.random.default_rng(seed).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    wide = cv2.resize(blobs, (220, 96), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(wide[:, 4 * n : 4 * n + 128]) for n in range(10)]


def test_the_frame_before_is_not_taken_from_another_scene(tmp_path: Path) -> None:
    """An engine that averages with the frame before must not smear over a cut."""
    source = write_clip(tmp_path / "c.mp4", [*scenes_of(1), *scenes_of(2), *scenes_of(3)])
    starts: list[int] = []
    kept: dict[str, Pixels] = {}
    count = 0

    def average(frame: Pixels, new_scene: bool) -> Pixels:
        nonlocal count
        if new_scene:
            starts.append(count)
            kept["before"] = frame
        count += 1
        result = (frame + kept["before"]) / 2
        kept["before"] = frame
        return result

    result = restore_clip(average, source, tmp_path / "o.mp4")
    assert (starts, result["scenes"]) == ([0, 10, 20], 3)
    before, after = list(open_clip(source)), list(open_clip(tmp_path / "o.mp4"))
    for cut in (0, 10, 20):
        assert np.abs(after[cut].astype(float) - before[cut]).mean() < 5
    middle = (before[4].astype(float) + before[5]) / 2
    assert np.abs(after[5] - middle).mean() < 3 < np.abs(after[5] - before[5].astype(float)).mean()


def test_movement_noise_and_exposure_are_no_cuts(photo: Pixels) -> None:
    random = np.random.default_rng(4)

    def cuts(frames: Iterator[Pixels]) -> list[int]:
        starts_scene = SceneDetector()
        found = [starts_scene((frame.clip(0, 1) * 255).astype(np.uint8)) for frame in frames]
        return [number for number, cut in enumerate(found) if cut]

    assert cuts(photo[:, n : n + 384] for n in range(0, 384, 38)) == [0]  # a pan by a tenth of the width
    assert cuts(photo + random.normal(0, 0.1, photo.shape) for _ in range(6)) == [0]
    assert cuts(photo * (0.6 + 0.1 * n) for n in range(5)) == [0]
    assert cuts(photo * (1 - n / 10) for n in range(11)) == [0]  # a fade
    assert cuts(np.roll(photo, 5 * n, 0) if n < 4 else photo[::-1, ::-1] for n in range(8)) == [0, 4]


def test_a_shaken_blurred_clip_is_one_scene_where_the_flow_explains_what_thumbnails_lose() -> None:
    """Every frame is shifted, turned and blurred anew: too much for parts of a thumbnail, and nothing for the flow."""
    leaves = np.random.default_rng(5).random((360, 640)).astype(np.float32)
    fine = cv2.GaussianBlur(leaves, (0, 0), 5.0)
    photo = np.repeat(((fine - fine.min()) / np.ptp(fine) * 255).astype(np.uint8)[..., None], 3, 2)
    random = np.random.default_rng(6)

    def shaken(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turn = np.asarray(
            cv2.getRotationMatrix2D((320, 180), random.uniform(-4, 4), random.uniform(1.1, 1.2))
        )
        turn = turn + np.pad(random.uniform(-16, 16, (2, 1)), ((0, 0), (2, 0)))
        moved = cv2.warpAffine(picture, turn, (640, 360), borderMode=cv2.BORDER_REFLECT)
        return np.asarray(cv2.blur(moved, (int(random.integers(1, 9)), 1)), np.uint8)

    clip = [shaken(photo) for _ in range(8)] + [shaken(photo[::-1, ::-1]) for _ in range(4)]
    starts_scene = SceneDetector()
    thumbnails = [
        cv2.cvtColor(cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for f in clip
    ]
    lost = [lost_share(*(t.astype(np.float32) for t in pair)) for pair in itertools.pairwise(thumbnails)]
    print([round(share, 2) for share in lost])
    assert max(lost[:7]) > CUT  # the flow had to decide
    assert [n for n, frame in enumerate(clip) if starts_scene(frame)] == [0, 8]


def test_cuts_are_found_in_quick_succession() -> None:
    starts_scene = SceneDetector()
    frames = [scenes_of(seed)[n] for seed in (1, 2, 3, 4) for n in (0, 1)]
    assert [starts_scene(frame) for frame in frames] == [True, False] * 4


def squares(seed: int, count: int) -> NDArray[np.float32]:
    """A thumbnail of noise; of its squares, row by row, the last `count` come from another seed."""
    one, other = (
        np.random.default_rng(n).integers(0, 255, (HEIGHT, WIDTH)).astype(np.float32) for n in (0, seed)
    )
    places = [(y, x) for y in range(0, HEIGHT, PART) for x in range(0, WIDTH - PART + 1, PART)]
    for y, x in places[len(places) - count :]:
        one[y : y + PART, x : x + PART] = other[y : y + PART, x : x + PART]
    return one


def test_every_part_of_the_picture_counts() -> None:
    """A square that is new takes its share of what is lost, wherever it lies."""
    shares = [lost_share(squares(0, 0), squares(1, count)) for count in range(16)]
    print([round(share, 3) for share in shares])
    assert shares[0] == 0
    assert all(0.02 < more - less < 0.1 for less, more in itertools.pairwise(shares))


def test_after_a_cut_the_next_scene_is_judged_by_itself() -> None:
    """Both cuts change a quarter of the picture: the first must not pass for the second scene's own unrest."""
    scenes = [squares(0, 0), squares(1, 4), squares(2, 4)]
    starts_scene = SceneDetector()
    frames = [np.repeat(scene.astype(np.uint8)[..., None], 3, 2) for scene in scenes for _ in range(5)]
    assert [n for n, frame in enumerate(frames) if starts_scene(frame)] == [0, 5, 10]


def test_an_engine_of_another_shape_is_a_bug_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "c.mp4")
    with pytest.raises(ValueError, match=r"\(24, 64, 3\) of a frame of shape \(48, 64, 3\)"):
        restore_clip(lambda frame, _: frame[:24], source, tmp_path / "o.mp4")
    with pytest.raises(ValueError, match="NaN"):
        restore_clip(lambda frame, _: frame * np.float32(np.nan), source, tmp_path / "o.mp4")
    assert names(tmp_path) == ["c.mp4"]


# --- when it fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("folder", [False, True])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, fault: type[BaseException], folder: bool) -> None:
    if folder:
        (tmp_path / "c").mkdir()
        for number in range(8):
            Image.fromarray(picture(number)).save(tmp_path / "c" / f"{number}.png")
    source = tmp_path / "c" if folder else write_clip(tmp_path / "c.mp4", audio=True)
    before, count = names(tmp_path), 0

    def stop(frame: Pixels, new_scene: bool) -> Pixels:
        nonlocal count
        count += 1
        if count == 6:
            raise fault
        return frame

    with pytest.raises(fault):
        restore_clip(stop, source, tmp_path / ("o" if folder else "o.mp4"))
    assert names(tmp_path) == before


def test_damage_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    noise = [np.random.default_rng(n).integers(0, 255, (48, 64, 3)).astype(np.uint8) for n in range(30)]
    source = write_clip(tmp_path / "c.mp4", noise, options={"movflags": "faststart"})
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    (tmp_path / "o.mp4").write_bytes(b"as before")
    with pytest.raises(UserError, match=r"c.mp4: (damaged|cannot be read)"):
        restore_clip(identity, source, tmp_path / "o.mp4")
    assert names(tmp_path) == ["c.mp4", "o.mp4"]
    assert (tmp_path / "o.mp4").read_bytes() == b"as before"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    noise = [np.random.default_rng(n).integers(0, 255, (48, 64, 3)).astype(np.uint8) for n in range(30)]
    write_clip(tmp_path / "c.mp4", noise, audio=True)
    script = """
import resource, sys
from pathlib import Path
from afterlens.conversion.restore.clip import restore_clip
from afterlens.training.media.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for name in ("o.mp4", "o.mkv"):
    try:
        restore_clip(lambda frame, _: frame, Path("c.mp4"), Path(name))
    except UserError as error:
        print(error)
"""
    done = run_python(script, tmp_path)
    assert done.stdout.splitlines() == [f"cannot write {n}: File too large" for n in ("o.mp4", "o.mkv")], done
    assert names(tmp_path) == ["c.mp4"]


def run_python(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


def test_a_long_clip_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    script = """
import resource
from pathlib import Path
from afterlens.conversion.restore.clip import restore_clip
for name in ("warm", "short", "long"):
    restore_clip(lambda frame, _: frame, Path(f"{name}.mp4"), Path("o.mp4"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    for name, count in (("warm", 100), ("short", 100), ("long", 1000)):
        write_clip(tmp_path / f"{name}.mp4", [picture(n % 12, 160, 120) for n in range(count)], audio=True)
    _, short, long = (int(line) / 1024 for line in run_python(script, tmp_path).stdout.split())
    # A thousand frames of 160x120 are 58 MB as bytes and four times that as numbers.
    assert long - short < 8, f"100 frames: {short:.1f} MB, 1000: {long:.1f} MB"


@pytest.mark.parametrize(
    ("source", "out", "reason"),
    [
        ("c.mp4", "o.gif", "written as .mp4, .m4v, .mov, .mkv, .webm"),
        ("c.mp4", "o", "written as .mp4"),
        ("c.mp4", "folder", "expected a name for the video, got a folder"),
        ("c.mp4", "c.mp4", "is the input"),
        ("c.mp4", "link.mp4", "is the input"),
        ("c.mp4", "o.webm", "cannot hold the clip's sound .aac."),
        ("frames", "o.mp4", "expected a folder, got a video name"),
        ("frames", "frames", "this one holds the input"),
        ("frames", "full", "earlier result; this one holds "),
        ("frames", "file.txt", "got a file"),
        ("twice", "o", "would both become a.png"),
        ("photo.png", "o.mp4", "photo.png: not a video"),
        ("absent.mp4", "o.mp4", "absent.mp4: no such file"),
    ],
)
def test_unclear_outputs_are_refused(tmp_path: Path, source: str, out: str, reason: str) -> None:
    write_clip(tmp_path / "c.mp4", audio=True)
    (tmp_path / "link.mp4").hardlink_to(tmp_path / "c.mp4")
    for name in (
        "folder/",
        "frames/a.png",
        "twice/a.png",
        "twice/a.jpg",
        "full/notes.txt",
        "file.txt",
        "photo.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        elif name.endswith(".txt"):
            (tmp_path / name).write_text("mine")
        else:
            Image.new("RGB", (8, 6)).save(tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(UserError, match=reason) as error:
        restore_clip(identity, tmp_path / source, tmp_path / out)
    assert "\n" not in str(error.value)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.new("RGB", (8, 6), "gray").save(tmp_path / "frames" / f"{name}.png")
    for _ in range(2):
        restore_clip(identity, tmp_path / "frames", tmp_path / "o")
        assert names(tmp_path / "o") == ["a.png", "b.png"]
    (tmp_path / "frames" / "b.png").unlink()
    with pytest.raises(UserError, match=r"this one holds b\.png"):
        restore_clip(identity, tmp_path / "frames", tmp_path / "o")


@pytest.mark.parametrize(
    "name", ["http:x.mp4", "concat:a|b.mp4", "-dash.mp4", "ümläut.mp4", os.fsdecode(b"\xff.mp4")]
)
def test_any_file_name_will_do(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "c.mp4").rename(name)
    restore_clip(identity, Path(name), Path(f"o{name}"))
    assert len(list(open_clip(Path(f"o{name}")))) == 12


# --- the network's engine ------------------------------------------------------------------------------------


class Average(nn.Module):
    """A stand-in for a task's stream."""

    def forward(self, frame: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        return (frame + (frame if before is None else before)) / 2, frame


CLIP_TASK = dataclasses.replace(
    find_task("reflection"),
    inputs=("input", "previous"),
    ports=("current", "previous"),
    stream=lambda network: Average(),
)


def test_the_engine_keeps_the_frame_before(random_checkpoint: Path) -> None:
    engine = frame_engine(CLIP_TASK, "torch", random_checkpoint, None)
    frames = [np.full((4, 6, 3), value, np.float32) for value in (0.0, 0.2, 0.8, 1.0)]
    values = [float(engine(frame, n in (0, 2)).mean()) for n, frame in enumerate(frames)]
    assert values == pytest.approx([0.0, 0.1, 0.8, 0.9])
    assert not torch.is_grad_enabled() or engine(frames[0], True).shape == (4, 6, 3)


@pytest.mark.parametrize("order", [("current", "previous"), ("previous", "current")])
def test_an_artifact_gets_both_frames_the_same_way(
    monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    ports = [
        TensorSpec(n, (1, 48, 64, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", "") for n in (*order, "restored")
    ]
    artifact = Artifact(
        "a", "tflite", "float32", 64, 48, "0" * 64, 1, "Android", tuple(ports[:2]), (ports[2],), 0, 0
    )

    def run(*pictures: Pixels) -> dict[str, Pixels]:
        given = dict(zip(order, pictures, strict=True))
        assert all(p.shape == (48, 64, 3) and p.flags["C_CONTIGUOUS"] for p in pictures)
        return {"restored": given["current"] * np.float32(0.75) + given["previous"] * np.float32(0.25)}

    def choose(height: int, width: int) -> Any:
        return choose_artifact([artifact], height, width), run

    monkeypatch.setattr(frame_engine_module, "open_runtime", lambda *_: choose)
    engine = frame_engine(CLIP_TASK, "tflite", None, Path())
    # Portrait: turned to go in, and back.
    first, second = (np.ascontiguousarray(np.rot90(picture(n))).astype(np.float32) / 255 for n in (0, 5))
    assert np.abs(engine(first, True) - first).max() < 1e-6
    assert np.abs(engine(second, False) - (0.75 * second + 0.25 * first)).max() < 1e-6
    assert np.abs(engine(first, True) - first).max() < 1e-6


def test_an_artifact_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        TensorSpec(n, (1, 48, 64, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", "")
        for n in ("image", "restored")
    ]
    artifact = Artifact(
        "a", "tflite", "float32", 64, 48, "0" * 64, 1, "Android", (ports[0],), (ports[1],), 0, 0
    )
    chosen: Any = choose_artifact([artifact], 48, 64), lambda *_: {}
    monkeypatch.setattr(frame_engine_module, "open_runtime", lambda *_: lambda *_: chosen)
    with pytest.raises(UserError, match="has inputs image, expected current and previous"):
        frame_engine(CLIP_TASK, "tflite", None, Path())(np.zeros((48, 64, 3), np.float32), True)


# --- the command ---------------------------------------------------------------------------------------------

Cli = Callable[..., Any]


@pytest.fixture
def clip_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "deblur", CLIP_TASK)


def test_the_command_restores_a_clip(
    cli: Cli, clip_task: None, tmp_path: Path, random_checkpoint: Path
) -> None:
    source, out = write_clip(tmp_path / "[red]c.mp4", audio=True), tmp_path / "o.mp4"
    result = cli("restore", "deblur", source, "-o", out, "-c", random_checkpoint, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document.pop("seconds") > 0
    assert document == {
        "task": "reflection",
        "runtime": "torch",
        "input": str(source),
        "output": str(out),
        "width": 64,
        "height": 48,
        "frames": 12,
        "scenes": 1,
        "frames_per_second": 25.0,
        "audio": 1,
    }
    assert isinstance(open_clip(out), VideoFile)
    table = cli("restore", "deblur", source, "-o", out, "-c", random_checkpoint)
    assert table.code == 0
    assert "12 at 25.00/s" in table.stdout and "64x48" in table.stdout


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (["c.mp4", "c.mp4"], "got 2 inputs, expected one: a video file or a folder of frames"),
        (["text.mp4"], "text.mp4: not a video"),
        (["cut.mp4"], "cut.mp4: truncated"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    cli: Cli, clip_task: None, tmp_path: Path, random_checkpoint: Path, inputs: list[str], reason: str
) -> None:
    data = write_clip(tmp_path / "c.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[:-100])
    (tmp_path / "text.mp4").write_text("words " * 50)
    paths = [tmp_path / name for name in inputs]
    result = cli("restore", "deblur", *paths, "-o", tmp_path / "o.mp4", "-c", random_checkpoint)
    assert (result.code, result.stdout) == (2, "")
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ") and reason in line]
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "o.mp4").exists()


def test_a_task_of_photos_says_that_it_wants_photos(
    cli: Cli, tmp_path: Path, random_checkpoint: Path
) -> None:
    source = write_clip(tmp_path / "c.mp4")
    result = cli("restore", "reflection", source, "-o", tmp_path / "o.png", "-c", random_checkpoint)
    assert result.code == 2
    assert "c.mp4: is a video, expected a photo" in result.stderr.splitlines()[-1]
