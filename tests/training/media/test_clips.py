"""Clips in: upright pictures in order, whatever the container says of them, or one clear line."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from afterlens.training.media import video
from afterlens.training.media.clips import VideoFile, open_clip
from afterlens.training.media.containers import is_video
from afterlens.training.media.errors import UserError
from tests.clip_files import Rgb, picture, write_clip


def corners(rgb: Rgb) -> list[str]:
    """The colours of the four quarters, clockwise from the top left."""
    height, width = rgb.shape[:2]
    found = []
    for y, x in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.75), (0.75, 0.25)):
        red, green, blue = (int(value) for value in rgb[int(y * height), int(x * width)])
        spread = max(red, green, blue) - min(red, green, blue)
        found.append("grey" if spread < 40 else "RGB"[int(np.argmax([red, green, blue]))])
    return found


# --- what is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["c.mp4", "c.mov", "c.mkv", "c.avi", "c.ts"])
def test_a_clip_gives_its_frames_in_order(tmp_path: Path, name: str) -> None:
    clip = open_clip(write_clip(tmp_path / name, codec="mpeg4" if name == "c.avi" else "libx264"))
    frames = list(clip)
    assert (clip.width, clip.height, len(frames)) == (64, 48, 12)
    assert clip.frame_rate == 25
    assert clip.frames is not None and abs(clip.frames - 12) <= 1
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    for number, frame in enumerate(frames):
        error = np.abs(frame.astype(float) - picture(number)).mean()
        assert error < 7, f"frame {number}: {error:.1f} levels off"
    assert len(list(clip)) == 12  # a second time


@pytest.mark.parametrize("name", ["c.mp4", "c.mov"])
def test_frames_before_the_edit_list_begins_are_neither_shown_nor_missed(tmp_path: Path, name: str) -> None:
    """As in a clip that a phone has cut without encoding it anew: frames depend on the hidden ones."""
    cut = tmp_path / name
    whole = write_clip(tmp_path / "whole.mp4", [picture(number) for number in range(24)])
    with av.open(str(whole)) as file, av.open(str(cut), "w") as shorter:
        stream = file.streams.video[0]
        copy = shorter.add_stream_from_template(stream)
        for packet in file.demux(stream):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            earlier = int(8 / 25 / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - earlier, packet.dts - earlier, copy
            shorter.mux(packet)
    frames = list(open_clip(cut))
    assert len(frames) == 16
    for number, frame in enumerate(frames, 8):
        assert np.abs(frame.astype(float) - picture(number)).mean() < 7, number


@pytest.mark.parametrize(("matrix", "primaries"), [(1, 1), (5, 5), (6, 6), (2, 2)])
@pytest.mark.parametrize("color_range", [1, 2])
def test_colours_are_those_that_were_meant(
    tmp_path: Path, matrix: int, primaries: int, color_range: int
) -> None:
    colours = np.array([(200, 40, 50), (40, 160, 220), (16, 16, 16), (240, 240, 240)])
    for colour in colours:
        flat = np.broadcast_to(colour.astype(np.uint8), (48, 64, 3))
        path = write_clip(
            tmp_path / "c.mp4",
            [np.ascontiguousarray(flat)] * 3,
            matrix=matrix,
            primaries=primaries,
            color_range=color_range,
        )
        for frame in open_clip(path):
            assert np.abs(frame.astype(int) - colour).max() <= 3, (colour, frame[20, 30])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_a_clip_is_turned_as_players_turn_it(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    path = write_clip(tmp_path / "c.mp4", rotation=rotation, mirrored=mirrored)
    clip = open_clip(path)
    expected = np.rot90(picture(), rotation // 90)  # both count counter-clockwise
    expected = expected[:, ::-1] if mirrored else expected
    first = next(iter(clip))
    assert (clip.height, clip.width) == first.shape[:2] == expected.shape[:2]
    assert corners(first) == corners(expected)
    assert np.abs(first.astype(float) - expected).mean() < 7


def test_a_phone_turns_by_the_matrix_in_the_track_header(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    clip = open_clip(path)
    assert (clip.width, clip.height) == (48, 64)
    assert corners(next(iter(clip))) == ["G", "R", "B", "grey"]  # a quarter turn clockwise


def test_times_are_the_files_own(tmp_path: Path) -> None:
    at = [100, 140, 200, 210, 333, 400]
    clip = open_clip(write_clip(tmp_path / "c.mkv", [picture(n) for n in range(6)], times=at))
    assert isinstance(clip, VideoFile)
    with video.open_video(clip.path) as opened:
        assert [frame.pts * frame.time_base * 1000 for frame in opened.frames()] == at


def test_a_fragmented_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "c.mp4", [picture(n) for n in range(40)], options={"movflags": "frag_keyframe+empty_moov"}
    )
    assert len(list(open_clip(path))) == 40


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "._frame2.png").write_bytes(b"")
    clip = open_clip(tmp_path)
    assert (clip.width, clip.height, clip.frames, clip.frame_rate) == (8, 6, 3, None)
    assert [int(frame[0, 0, 0]) for frame in clip] == [1, 9, 10]


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"just a few words\n" * 40, "not a video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n", "not a video"),
        (b"ffconcat version 1.0\nfile 'secret.mp4'\n", "not a video"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "no index"),
        (b"RIFF\x04\x00\x00\x00AVI ", "not a video|no video"),
        (b"\x1a\x45\xdf\xa3" + bytes(60), "not a video"),
    ],
)
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    write_clip(tmp_path / "secret.mp4")
    (tmp_path / "c.mp4").write_bytes(content)
    with pytest.raises(UserError, match=f"c.mp4: .*({reason})") as error:
        open_clip(tmp_path / "c.mp4")
    assert "\n" not in str(error.value)


def test_a_photo_is_no_video(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "c.png")
    (tmp_path / "c.png").rename(tmp_path / "c.mp4")
    with pytest.raises(UserError, match="not a video.*expected a whole MP4.*or a folder of photos"):
        open_clip(tmp_path / "c.mp4")


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "c.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(UserError, match="no video track"):
        open_clip(tmp_path / "c.mp4")


def test_missing_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.mp4: no such file"):
        open_clip(tmp_path / "absent.mp4")
    with pytest.raises(UserError, match="no frames in this folder"):
        open_clip(tmp_path)


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.avi", "fast.mp4", "fragments.mp4"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    movflags = {"fast.mp4": "faststart", "fragments.mp4": "frag_keyframe+empty_moov"}.get(name)
    frames = [np.random.default_rng(n).integers(0, 255, (48, 64, 3)).astype(np.uint8) for n in range(30)]
    path = write_clip(
        tmp_path / name,
        frames,
        codec="mpeg4" if name == "c.avi" else "libx264",
        options={"movflags": movflags} if movflags else None,
    )
    data = path.read_bytes()
    assert len(list(open_clip(path))) == 30
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match="truncated|no index|damaged|not a video"):
        list(open_clip(path))


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv"])
def test_a_truncated_file_is_noticed_by_its_frames_too(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the outer structure be right, as after a repair that filled the end with zeros."""
    frames = [np.random.default_rng(n).integers(0, 255, (48, 64, 3)).astype(np.uint8) for n in range(30)]
    path = write_clip(tmp_path / name, frames, options={"movflags": "faststart"} if name == "c.mp4" else None)
    data = path.read_bytes()
    keep = int(len(data) * 0.6)
    path.write_bytes(data[:keep] + bytes(len(data) - keep))
    with pytest.raises(UserError, match="damaged|cannot be read"):
        list(open_clip(path))


def test_damaged_packets_are_refused(tmp_path: Path) -> None:
    frames = [np.random.default_rng(n).integers(0, 255, (96, 128, 3)).astype(np.uint8) for n in range(20)]
    path = write_clip(tmp_path / "c.mp4", frames)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 40_000
    data[middle : middle + 2000] = np.random.default_rng(1).integers(0, 256, 2000, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with pytest.raises(UserError, match="c.mp4: damaged"):
        list(open_clip(path))


def test_frames_that_the_decoder_leaves_out_are_missed(tmp_path: Path) -> None:
    """A recording that begins in the middle: decoders wait for the next key frame without a word."""
    whole = write_clip(tmp_path / "whole.mp4", [picture(number) for number in range(300)])
    with av.open(str(whole)) as old, av.open(str(tmp_path / "c.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and number > 0:
                packet.stream = stream
                new.mux(packet)
    with pytest.raises(UserError, match=r"damaged, only \d+ of 299 frames can be decoded"):
        list(open_clip(tmp_path / "c.mkv"))


def test_absurd_dimensions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_PIXELS", 3000)
    with pytest.raises(UserError, match="64x48 is 0 million pixels a frame"):
        open_clip(write_clip(tmp_path / "c.mp4"))


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 7 if number == 2 else 6)).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="2.png: is 8x7, expected 8x6 as 0.png"):
        list(open_clip(tmp_path))


def test_a_video_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "c.ts"), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        larger: Any = av.CodecContext.create("libx264", "w")
        larger.width, larger.height, larger.pix_fmt = 96, 64, "yuv420p"
        larger.time_base = Fraction(1, 25)
        for encoder, (width, height), start in ((stream, (64, 48), 0), (larger, (96, 64), 5)):
            encoder.max_b_frames = 0
            encoder.options = {"tune": "zerolatency"}
            for number in range(start, start + 5):
                frame = av.VideoFrame.from_ndarray(picture(number, width, height), "rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                for packet in encoder.encode(frame.reformat(format="yuv420p")):
                    packet.stream = stream
                    file.mux(packet)
    with pytest.raises(UserError, match="frame 6 is 96x64, the first one 64x48"):
        list(open_clip(tmp_path / "c.ts"))


def test_videos_are_told_from_photos(tmp_path: Path, photo_path: Path) -> None:
    for name in ("c.mp4", "c.mov", "c.mkv", "c.avi", "c.ts"):
        assert is_video(write_clip(tmp_path / name, codec="mpeg4" if name == "c.avi" else "libx264")), name
    Image.new("RGB", (64, 48)).save(tmp_path / "p.avif")
    Image.new("RGB", (64, 48)).save(tmp_path / "p.webp")
    assert not any(map(is_video, (photo_path, tmp_path / "p.avif", tmp_path / "p.webp", tmp_path / "absent")))
