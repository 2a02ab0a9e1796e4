"""Restoring clips: only the pictures change, and the new file is whole or not there."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from PIL import Image

from afterlens.conversion.restore.clip import restore_clip
from afterlens.conversion.restore.video_writer import VideoWriter, to_yuv
from afterlens.training.media.clips import VideoFile, open_clip
from afterlens.training.media.video import open_video
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


def new_file(folder: Path, **known: Any) -> VideoWriter:
    """A writer for a clip of which this is known."""
    clip = open_clip(write_clip(folder / "c.mp4"))
    assert isinstance(clip, VideoFile)
    vars(clip).update(known)
    with open_video(clip.path) as video, (folder / "o.mkv").open("wb") as file:
        writer = VideoWriter(clip, video, file, folder / "o.mkv")
        writer.finish()
    return writer


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


# --- what is said and what is not kept -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interlaced", "bits", "notes"),
    [
        (False, 8, []),
        (True, 8, ["interlaced"]),
        (False, 9, ["9 bits"]),
        (True, 10, ["interlaced", "10 bits"]),
    ],
)
def test_what_a_new_file_cannot_keep_is_said(
    tmp_path: Path, interlaced: bool, bits: int, notes: list[str]
) -> None:
    writer = new_file(tmp_path, interlaced=interlaced, bits=bits)
    assert len(writer.notes) == len(notes)
    assert all(words in line for words, line in zip(notes, writer.notes, strict=True))


@pytest.mark.parametrize(
    ("rate", "written"),
    [
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (Fraction(2**31 - 1, 2**27), Fraction(2**31 - 1, 2**27)),
        (Fraction(2**32 + 1, 2**27), Fraction(32)),
        (None, Fraction(25)),
    ],
)
def test_a_rate_that_ffmpeg_cannot_hold_becomes_its_nearest(
    tmp_path: Path, rate: Fraction | None, written: Fraction
) -> None:
    assert new_file(tmp_path, frame_rate=rate)._encoded.codec_context.framerate == written


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
