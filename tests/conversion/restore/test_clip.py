"""Restoring clips: only the pictures change, and the new file is whole or not there."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import Artifact, TensorSpec
from afterlens.conversion.restore import frame_engine as frame_engine_module
from afterlens.conversion.restore.clip import restore_clip
from afterlens.conversion.restore.frame_engine import frame_engine
from afterlens.conversion.restore.photo import choose_artifact
from afterlens.conversion.restore.scenes import SceneDetector
from afterlens.conversion.restore.video_writer import to_yuv
from afterlens.training.media.clips import VideoFile, open_clip
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import TASKS, find_task
from tests.clip_files import packets, picture, times, write_clip

ROOT = Path(__file__).parents[3]
Pixels = NDArray[np.float32]


def identity(frame: Pixels, new_scene: bool) -> Pixels:
    return frame


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def mean_error(one: Path, other: Path) -> float:
    pairs = zip(open_clip(one), open_clip(other), strict=True)
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs]))


# --- the clock -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv"])
def test_a_transport_stream_begins_where_players_begin_it(tmp_path: Path, name: str) -> None:
    """Its clock stands at 4000 s, as that of any recording may; sound and pictures stay together."""
    source = write_clip(tmp_path / "c.ts", times=[4_000_000 + 40 * n for n in range(12)])
    assert times(source)[0] >= 4_000_000
    restore_clip(identity, source, tmp_path / name)
    assert times(tmp_path / name) == list(range(0, 480, 40))
    with av.open(str(tmp_path / name)) as file:
        assert file.duration is not None and file.duration < 1_000_000, "microseconds"


# --- what is kept --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.mkv", "o.webm"])
def test_a_clip_keeps_its_pictures_size_rate_and_times(tmp_path: Path, name: str) -> None:
    source = write_clip(tmp_path / "c.mp4")
    result = restore_clip(identity, source, tmp_path / name)
    assert (result["width"], result["height"], result["frames"], result["scenes"]) == (64, 48, 12, 1)
    assert (result["frames_per_second"], result["audio"]) == (25.0, 0)
    assert times(tmp_path / name) == times(source) == list(range(0, 480, 40))
    assert open_clip(tmp_path / name).frame_rate == 25
    error = mean_error(source, tmp_path / name)
    assert error < 3, f"{error:.2f} levels off"


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(("codec", "name"), [("libx265", "c.mov"), ("libsvtav1", "c.mp4")])
def test_hevc_and_av1_are_read_with_8_and_10_bits(
    tmp_path: Path, codec: str, name: str, pix_fmt: str
) -> None:
    """What phones record, and what they are about to."""
    frames = [picture(number, 128, 96) for number in range(12)]
    source = write_clip(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt)
    restore_clip(identity, source, tmp_path / "o.mp4")
    assert times(tmp_path / "o.mp4") == times(source) == list(range(0, 480, 40))
    for before, after in zip(frames, open_clip(tmp_path / "o.mp4"), strict=True):
        assert float(np.abs(after.astype(float) - before).mean()) < 4.0, "of 255; two lossy codecs in a row"


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.mkv"])
def test_varying_intervals_are_kept(tmp_path: Path, name: str) -> None:
    at = [40, 80, 140, 150, 240, 273, 340, 440, 840, 845, 940, 1140]
    source = write_clip(tmp_path / "c.mp4", times=at, audio=name != "o.mkv")
    restore_clip(identity, source, tmp_path / name)
    assert times(tmp_path / name) == times(source) == at


@pytest.mark.parametrize(
    ("source_name", "name"), [("c.mp4", "o.mp4"), ("c.mp4", "o.mov"), ("c.mkv", "o.mkv")]
)
def test_sound_is_copied_bit_for_bit_at_its_time(tmp_path: Path, source_name: str, name: str) -> None:
    source = write_clip(tmp_path / source_name, audio=True)
    result = restore_clip(identity, source, tmp_path / name)
    assert result["audio"] == 1
    assert packets(tmp_path / name, "audio") == packets(source, "audio")
    with av.open(str(tmp_path / name)) as file:
        assert file.streams.audio[0].metadata["language"] == "fin"
        decoded = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1)
    assert 0.15 < decoded.std() < 0.25  # a sine of 0.3


@pytest.mark.parametrize(("source_name", "name"), [("c.mp4", "o.mkv"), ("c.ts", "o.mp4"), ("c.ts", "o.mkv")])
def test_sound_and_picture_stay_together_in_another_container(
    tmp_path: Path, source_name: str, name: str
) -> None:
    source = write_clip(tmp_path / source_name, audio=True)
    restore_clip(identity, source, tmp_path / name)
    before, after = packets(source, "audio"), packets(tmp_path / name, "audio")
    if source_name != "c.ts":  # there every packet has a header of its own, which the others keep once
        assert [data for _, data in after] == [data for _, data in before]
    # A Matroska file begins at zero: all of it may be moved together.
    gap = [
        track[0][0] - picture_time / 1000
        for track, picture_time in zip(
            (before, after), (times(source)[0], times(tmp_path / name)[0]), strict=True
        )
    ]
    assert len(after) == len(before)
    assert gap[1] == pytest.approx(gap[0], abs=0.0015)


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("name", ["o.mp4", "o.mkv"])
def test_the_result_looks_upright_like_the_input(tmp_path: Path, rotation: int, name: str) -> None:
    source = write_clip(tmp_path / "c.mp4", rotation=rotation, ratio=Fraction(4, 3))
    restore_clip(identity, source, tmp_path / name)
    expected = np.rot90(picture(), rotation // 90)
    with av.open(str(tmp_path / name)) as file:
        stream = file.streams.video[0]
        frame = next(file.decode(stream))
        assert frame.rotation == 0  # stored upright: also for players that know no rotation
        assert (frame.height, frame.width) == expected.shape[:2]
        # Pixels that were wider than high are, turned on their side, higher than wide.
        assert stream.sample_aspect_ratio == (Fraction(3, 4) if rotation in (90, -90) else Fraction(4, 3))
    assert np.abs(next(iter(open_clip(tmp_path / name))).astype(float) - expected).mean() < 8


@pytest.mark.parametrize(("width", "height"), [(65, 49), (64, 49), (65, 48), (17, 9)])
@pytest.mark.parametrize("name", ["o.mp4", "o.webm"])
def test_odd_sizes_are_kept(tmp_path: Path, width: int, height: int, name: str) -> None:
    frames = [
        picture(number, width, height) if height > 20 else np.full((height, width, 3), 9, np.uint8)
        for number in range(4)
    ]
    source = write_clip(tmp_path / "c.avi", frames, codec="mpeg4")
    result = restore_clip(identity, source, tmp_path / name)
    assert (result["width"], result["height"]) == (width, height)
    assert all(frame.shape == (height, width, 3) for frame in open_clip(tmp_path / name))
    assert mean_error(source, tmp_path / name) < 3


@pytest.mark.parametrize(("matrix", "primaries"), [(1, 1), (5, 5), (6, 6), (2, 2)])
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_colours_and_their_labels_are_kept(
    tmp_path: Path, matrix: int, primaries: int, color_range: int
) -> None:
    flat = [np.full((48, 64, 3), (200, 60, 40), np.uint8)] * 4
    source = write_clip(tmp_path / "c.mp4", flat, matrix=matrix, primaries=primaries, color_range=color_range)
    restore_clip(identity, source, tmp_path / "o.mp4")

    def decoded(path: Path) -> Any:
        with av.open(str(path)) as file:
            return next(file.decode(video=0))

    before, after = decoded(source), decoded(tmp_path / "o.mp4")
    for label in ("colorspace", "color_primaries", "color_trc", "color_range"):
        assert getattr(after, label) == getattr(before, label), label
    # The stored values themselves: no matrix and no range is guessed twice.
    difference = np.abs(after.to_ndarray().astype(int) - before.to_ndarray()).max()
    assert difference <= 2, f"{difference} levels"


@pytest.mark.parametrize("color_range", [1, 2])
def test_a_clip_that_is_restored_ten_times_does_not_drift(
    tmp_path: Path, photo: Pixels, color_range: int
) -> None:
    still = (cv2.resize(photo, (192, 108)) * 255).astype(np.uint8)
    first = path = write_clip(tmp_path / "0.mp4", [still] * 2, matrix=1, primaries=1, color_range=color_range)
    for number in range(1, 11):
        restore_clip(identity, path, tmp_path / f"{number}.mp4")
        path = tmp_path / f"{number}.mp4"
    a, b = (next(iter(open_clip(file))).astype(float) for file in (first, path))
    drift = np.abs((b - a).mean((0, 1)))
    assert drift.max() < 1.5, drift  # blue gains 1.0 by H.264's own rounding, in the dark


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_become_what_ffmpeg_makes_of_them(photo: Pixels, pix_fmt: str, full_range: bool) -> None:
    smooth: Any = cv2.GaussianBlur(photo, (0, 0), 4)  # where chroma is sampled does not matter then
    levels = np.rint(smooth * 255).astype(np.uint8)
    for matrix in (Colorspace.ITU709, Colorspace.ITU601, Colorspace.BT2020, Colorspace.SMPTE240M):
        own = to_yuv(smooth, pix_fmt, matrix, full_range=full_range).to_ndarray().astype(int)
        theirs = av.VideoFrame.from_ndarray(levels, "rgb24").reformat(
            format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if full_range else 1
        )
        difference = np.abs(own - theirs.to_ndarray())
        assert difference.mean() < 1.2 and difference.max() <= 4, (
            matrix,
            difference.mean(),
            difference.max(),
        )


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv"])
def test_tracks_may_come_in_any_order_and_chapters_stay(tmp_path: Path, name: str) -> None:
    chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
    source = tmp_path / "c.mp4"
    with (
        av.open(str(write_clip(tmp_path / "first.mp4", audio=True))) as old,
        av.open(str(source), "w") as new,
    ):
        tracks: Any = {
            stream.index: new.add_stream_from_template(stream, opaque=True)
            for stream in reversed(list(old.streams))  # sound first
        }
        new.set_chapters([chapter])  # type: ignore[list-item]
        for packet in old.demux():
            if packet.size:
                packet.stream = tracks[packet.stream.index]
                new.mux(packet)
    result = restore_clip(identity, source, tmp_path / name)
    assert (result["frames"], result["audio"]) == (12, 1)
    assert [data for _, data in packets(tmp_path / name, "audio")] == [d for _, d in packets(source, "audio")]
    with av.open(str(tmp_path / name)) as file:
        assert [stream.type for stream in file.streams][:2] == ["audio", "video"]
        (kept,) = file.chapters()
    assert kept["metadata"]["title"] == "one"
    assert kept["time_base"] is not None and (kept["end"] - kept["start"]) * kept["time_base"] == Fraction(
        1, 5
    )


def test_titles_and_times_are_kept(tmp_path: Path) -> None:
    stated = {"title": "Ünder the bridge", "artist": "me", "creation_time": "2021-03-04T05:06:07.000000Z"}
    for name in ("o.mp4", "o.mkv"):
        source = write_clip(tmp_path / "c.mp4", metadata=stated)
        restore_clip(identity, source, tmp_path / name)
        with av.open(str(tmp_path / name)) as file:
            found = {key.lower(): value for key, value in file.metadata.items()}
        assert {key: found.get(key) for key in stated} == stated


def test_subtitles_are_copied_where_the_container_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "c.mkv"
    with av.open(str(source), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        text: Any = file.add_mux_stream("subrip", time_base=Fraction(1, 1000))
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.pts = number
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        packet = av.Packet(b"Hello there")
        packet.stream, packet.pts, packet.dts, packet.duration = text, 40, 40, 80
        packet.time_base = Fraction(1, 1000)
        file.mux(packet)
        file.mux(stream.encode())
    restore_clip(identity, source, tmp_path / "o.mkv")
    assert packets(tmp_path / "o.mkv", "subtitle") == packets(source, "subtitle") == [(0.04, b"Hello there")]
    restore_clip(identity, source, tmp_path / "o.mp4")  # knows another kind only
    assert "(subtitle, srt) is left out of the .mp4" in capsys.readouterr().err


def test_a_folder_of_frames_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    for number in (1, 2, 10):
        Image.fromarray(picture(number)).save(tmp_path / "in" / f"f{number}.png", exif=exif)
    seen: list[bool] = []

    def darken(frame: Pixels, new_scene: bool) -> Pixels:
        seen.append(new_scene)
        return frame * np.float32(0.5)

    result = restore_clip(darken, tmp_path / "in", tmp_path / "out" / "dark")
    assert names(tmp_path / "out") == ["dark/f1.png", "dark/f10.png", "dark/f2.png"]
    assert (result["frames"], result["frames_per_second"], seen) == (3, None, [True, False, False])
    with Image.open(tmp_path / "out" / "dark" / "f10.png") as image:
        assert np.abs(np.asarray(image) - picture(10) / 2).max() <= 0.5
        assert image.getexif()[0x010F] == "Maker"


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


def test_cuts_are_found_in_quick_succession() -> None:
    starts_scene = SceneDetector()
    frames = [scenes_of(seed)[n] for seed in (1, 2, 3, 4) for n in (0, 1)]
    assert [starts_scene(frame) for frame in frames] == [True, False] * 4


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
