"""Clips in: a video file, or a folder of frames, becomes upright pictures in order, or one clear line why not.

    clip = open_clip(Path("walk.mp4"))
    for rgb in clip:                    # (H, W, 3) uint8, one at a time
        ...

A clip is untrusted: of a video only the file itself is read (no playlists, no network, no further files), and a
frame that cannot be decoded is an error, never a frame less.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import av.container
import av.error
import av.sidedata.sidedata
import av.stream
import av.video.frame
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import MAX_PIXELS, SUFFIXES, Photo, read_photo

Rgb = NDArray[np.uint8]  # (H, W, 3), upright

# A closed list: FFmpeg knows hundreds of formats, and some of them (HLS, concat) are lists of other files to open.
_DEMUXERS = "mov,mp4,matroska,webm,avi,mpegts"
_EXPECTED = "expected a whole MP4, MOV, MKV, WebM, AVI or MPEG-TS file, or a folder of photos"

# Without these flags chroma is doubled rather than interpolated and sums are cut rather than rounded: a level darker.
_SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_MATRICES = {  # of FFmpeg's AVColorSpace; 2 is "not stated", 0 is RGB
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
FULL_RANGE = 2


@dataclass(frozen=True)
class Colours:
    """How a frame's YUV values are meant: numbers as in the file (FFmpeg's), 2 or 0 where it says nothing."""

    matrix: Colorspace  # what is computed with, also where the file says nothing
    colorspace: int
    color_range: int
    color_primaries: int
    color_trc: int


@dataclass(frozen=True)
class Frame:
    """One frame of a video and when it is shown, in ticks of `time_base` seconds."""

    rgb: Rgb
    pts: int
    duration: int  # 0: not known
    time_base: Fraction


class Clip:
    """What a video and a folder of frames have in common. Iterating twice reads twice."""

    path: Path
    width: int  # upright
    height: int
    frame_rate: Fraction | None  # None: a folder of frames has none
    frames: int | None  # as far as is known beforehand; for a progress bar

    def __iter__(self) -> Iterator[Rgb]:
        raise NotImplementedError


def open_clip(path: Path) -> Clip:
    """A video file, or a folder of photos in the natural order of their names (2.png before 10.png).

    Raises UserError, naming the file, for anything else: nothing there, no photos, not a video, no picture in it,
    absurd dimensions, a file that ends too early. What only shows on the way (frames of differing size, damage) is
    raised on the way.
    """
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not exists:
        raise UserError(f"{path}: no such file or folder")
    if is_folder:
        return FrameFolder(path)
    if not is_file:
        raise UserError(f"{path}: expected a video file or a folder of frames, got a device")
    return VideoFile(path)


class FrameFolder(Clip):
    """The photos directly in a folder, as frames."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            inside = [file for file in path.iterdir() if not file.name.startswith(".") and file.is_file()]
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        self.files = sorted(
            (file for file in inside if file.suffix.lower() in SUFFIXES), key=lambda file: _natural(file.name)
        )
        if not self.files:
            raise UserError(
                f"{path}: no frames in this folder (looked for {', '.join(sorted(SUFFIXES))}); "
                "a clip is a video file or a folder of its frames"
            )
        self.height, self.width = read_photo(self.files[0]).rgb.shape[:2]
        self.frame_rate = None
        self.frames = len(self.files)

    def __iter__(self) -> Iterator[Rgb]:
        for photo in self.photos():
            yield np.rint(photo.rgb * np.float32(255)).astype(np.uint8)

    def photos(self) -> Iterator[Photo]:
        """The frames with their metadata, upright; UserError at one of another size."""
        for file in self.files:
            photo = read_photo(file)
            height, width = photo.rgb.shape[:2]
            if (width, height) != (self.width, self.height):
                raise UserError(
                    f"{file}: is {width}x{height}, expected {self.width}x{self.height} as {self.files[0].name}; "
                    "the frames of a clip have one size"
                )
            yield photo


class VideoFile(Clip):
    """The best video track of a file, turned upright as the file says that players should."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _refuse_truncated(path)
        with self.opened() as video:
            stream = video.stream
            first = next(video.frames(), None)
            if first is None:
                raise UserError(f"{path}: holds a video track without a single frame")
            self.height, self.width = first.rgb.shape[:2]
            self.turned = video.turned  # by 90 degrees
            self.interlaced = video.interlaced
            self.colours = video.colours
            self.chroma = video.chroma  # luma samples per chroma sample: across, down
            self.bits = video.bits
            self.frame_rate = stream.average_rate or stream.guessed_rate
            self.frames = stream.frames or _estimated_frames(video.container, self.frame_rate)

    def __iter__(self) -> Iterator[Rgb]:
        with self.opened() as video:
            for frame in video.frames():
                yield frame.rgb

    @contextmanager
    def opened(self) -> Iterator[Video]:
        """The file, opened anew. Raises UserError where that fails."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        with file:
            if not file.peek(1):
                raise UserError(f"{self.path}: the file is empty (0 bytes)")
            try:
                container = _open_container(file)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                raise UserError(f"{self.path}: not a video that can be read ({_EXPECTED})") from error
            with container:
                yield Video(self.path, container)


class Video:
    """An open video file, to be read once from its beginning."""

    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path = path
        self.container = container
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            raise UserError(f"{path}: holds no video track ({_EXPECTED})")
        self.stream = max(
            streams, key=lambda stream: bool(stream.disposition & av.stream.Disposition.default)
        )
        if self.stream.codec_context is None:
            raise UserError(f"{path}: its video is in a format that cannot be decoded; re-encode it as H.264")
        _refuse_absurd(path, self.stream.codec_context.width, self.stream.codec_context.height)
        # One thread: the network takes the time, and every further one would hold frames of its own.
        self.stream.thread_count = 1
        # Of the first frame, and set when it is given out.
        self.turned = False
        self.interlaced = False
        self.colours = Colours(Colorspace.ITU601, 2, 0, 2, 2)
        self.chroma = (1, 1)
        self.bits = 8
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()
        self._last_pts: int | None = None
        self.time_base = self.stream.time_base or Fraction(1, 1000)

    def frames(self, other: Callable[[Any], None] | None = None) -> Iterator[Frame]:
        """All frames in order of time, upright. `other` gets the packets of all other tracks, in file order.

        Raises UserError for damage: a frame that is missing, cannot be decoded or has another size.
        """
        packets = decoded = 0
        hidden = 0  # packets that the file's edit list cuts away, but that others are decoded from
        try:
            for packet in self.container.demux():
                # Not packet.stream_index, which is 0 for the empty packets that end every track.
                if packet.stream.index != self.stream.index:
                    if other is not None and packet.size:
                        other(packet)
                    continue
                if packet.is_corrupt:
                    raise UserError(
                        f"{self.path}: damaged after frame {decoded}; repair or re-encode it first"
                    )
                packets += bool(packet.size)
                hidden += packet.is_discard
                for frame in self._decoded(packet, decoded):
                    decoded += 1
                    yield self._shown(frame, decoded)
        except (av.error.FFmpegError, EOFError) as error:
            raise UserError(f"{self.path}: cannot be read after frame {decoded} ({_line(error)})") from error
        expected = max(packets, len(self.stream.index_entries) if self._is_mp4() else 0) - hidden
        # Two fields may be one frame and two packets; all else that is read here has a packet a frame.
        if decoded < expected and not self.interlaced:
            raise UserError(
                f"{self.path}: damaged, only {decoded} of {expected} frames can be decoded; repair or re-encode it"
            )

    def _decoded(self, packet: Any, number: int) -> list[av.video.frame.VideoFrame]:
        try:
            decoded: list[av.video.frame.VideoFrame] = packet.decode()
        except (av.error.FFmpegError, EOFError) as error:
            raise UserError(
                f"{self.path}: damaged after frame {number} ({_line(error)}); repair or re-encode it first"
            ) from error
        if any(frame.is_corrupt for frame in decoded):
            raise UserError(f"{self.path}: damaged after frame {number}; repair or re-encode it first")
        return decoded

    def _is_mp4(self) -> bool:
        return "mp4" in self.container.format.name.split(",")

    def _shown(self, frame: av.video.frame.VideoFrame, number: int) -> Frame:
        size = (frame.width, frame.height)
        matrix = _display_matrix(frame)
        if self._size is None:
            _refuse_absurd(self.path, *size)
            self._size = size
            self.turned = matrix[0] == matrix[4] == 0
            self.colours = self._colours_of(frame)
            layout = frame.format
            self.bits = max(component.bits for component in layout.components)
            across, down = 2 // layout.chroma_width(2), 2 // layout.chroma_height(2)
            if len(layout.components) < 3:  # grey: there is nothing to keep, and players know this one best
                across, down = 2, 2
            self.chroma = (down, across) if self.turned else (across, down)
        if size != self._size:
            raise UserError(
                f"{self.path}: frame {number} is {size[0]}x{size[1]}, the first one {self._size[0]}x{self._size[1]}; "
                "the frames of a clip have one size: re-encode it at one"
            )
        self.interlaced = self.interlaced or frame.interlaced_frame
        rgb: Any = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=self.colours.matrix,
            src_color_range=self.colours.color_range or None,
            interpolation=_SCALING,
            threads=1,
        ).to_ndarray()
        return Frame(_upright(rgb, matrix), self._pts(frame), frame.duration or 0, self.time_base)

    def _colours_of(self, frame: av.video.frame.VideoFrame) -> Colours:
        stated = frame.colorspace
        if frame.format.is_rgb:
            stated = 2  # it becomes YUV, and is labelled as what players expect unlabelled
        if stated != 2 and stated not in _MATRICES:
            raise UserError(
                f"{self.path}: colour matrix {stated} is not supported (BT.601, 709 and 2020 are); re-encode it"
            )
        # Where nothing is stated, players guess by the size.
        guess = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
        full = frame.format.name.startswith("yuvj")
        return Colours(
            _MATRICES.get(stated, guess),
            stated,
            FULL_RANGE if full else 0 if frame.format.is_rgb else frame.color_range,
            frame.color_primaries,
            frame.color_trc,
        )

    def _pts(self, frame: av.video.frame.VideoFrame) -> int:
        """The frame's own time, or the next free tick where it has none or is not later than the one before."""
        last = self._last_pts
        pts = frame.pts if frame.pts is not None else frame.dts  # AVI has only the latter
        if pts is None:
            rate = self.stream.guessed_rate
            step = round(1 / (rate * self.time_base)) if rate else 1
            pts = 0 if last is None else last + max(step, 1)
        if last is not None and pts <= last:
            pts = last + 1
        self._last_pts = pts
        return pts


def is_video(path: Path) -> bool:
    """Whether a file's first bytes are those of a video that `open_clip` may read; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(192)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
    return (
        head[4:8] in (b"moov", b"mdat", b"wide")
        or head[:4] == b"\x1a\x45\xdf\xa3"
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or (head[:1] == head[188:189] == b"G")
    )


def _open_container(file: IO[bytes]) -> av.container.InputContainer:
    """Through an open file rather than a name, so that no name can be taken for an address of a protocol."""
    return av.open(
        file,
        "r",
        options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"},
        metadata_errors="surrogateescape",
        io_open=_refuse_further_files,
    )


def _refuse_further_files(*_: Any) -> Any:
    raise PermissionError("a clip may not open other files")


def _refuse_absurd(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{path}: {width}x{height} is {width * height / 1e6:.0f} million pixels a frame, "
            f"more than the {MAX_PIXELS // 1_000_000} million that can be processed; scale it down first"
        )


def _estimated_frames(container: av.container.InputContainer, rate: Fraction | None) -> int | None:
    duration = container.duration  # microseconds
    return round(duration * rate / 1_000_000) or None if duration and rate else None


def _display_matrix(frame: av.video.frame.VideoFrame) -> tuple[int, ...]:
    """The signs of the file's display matrix in quarter turns: (a, b, _, c, d, ...) with x' = ax + cy, y' = bx + dy."""
    side_data: Any = frame.side_data
    data = side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if data is None:
        return (1, 0, 0, 0, 1)
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return (0, -1 if b < 0 else 1, 0, -1 if c < 0 else 1, 0)
    return (-1 if a < 0 else 1, 0, 0, 0, -1 if d < 0 else 1)


def _upright(rgb: Rgb, matrix: tuple[int, ...]) -> Rgb:
    a, b, _, c, d = matrix
    if a == d == 0:
        rgb = rgb.transpose(1, 0, 2)
    if a < 0 or c < 0:
        rgb = rgb[:, ::-1]
    if b < 0 or d < 0:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts by the numbers in a name as numbers; the name itself decides between 1.png and 01.png."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part)) if part.isdigit() else (1, part.casefold()) for part in parts] + [(2, name)]


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


# --- truncated files -----------------------------------------------------------------------------------------


def _refuse_truncated(path: Path) -> None:
    """Compare the size that a file's outermost structure promises with the size that it has.

    The demuxers take the end of the file for the end of the clip. MPEG-TS promises nothing.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                promised, has_index = _mp4_size(file, size)
                if promised <= size and not has_index:
                    raise UserError(
                        f"{path}: has no index (moov box): the recording was not finished, or is cut off"
                    )
            elif head[:4] == b"\x1a\x45\xdf\xa3":
                promised = _matroska_size(file)
            elif head[:4] == b"RIFF":
                promised = 8 + int.from_bytes(head[4:8], "little")
            else:
                return
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    if promised > size:
        raise UserError(f"{path}: truncated, has {size} bytes of at least {promised}; copy it again")


def _mp4_size(file: IO[bytes], size: int) -> tuple[int, bool]:
    """Where the last box ends, and whether there is a moov box."""
    position, has_index = 0, False
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:  # to the end of the file
            length = size - position
        if length < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in header[4:8]):
            break  # rubbish after the last box is nobody's
        has_index = has_index or header[4:8] == b"moov"
        position += length
    return position, has_index


def _matroska_size(file: IO[bytes]) -> int:
    """Where the segment ends; 0 where it does not say so, as in a live recording."""
    file.seek(4)
    file.seek(_ebml_number(file), 1)  # over the header
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _ebml_number(file)
    return file.tell() + length if length else 0


def _ebml_number(file: IO[bytes]) -> int:
    """A number of 1 to 8 bytes, the first of which says how many; "unknown" (all ones) is 0."""
    first = file.read(1)
    if not first or first == b"\x00":
        return 0
    count = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(count - 1), "big") & ((1 << 7 * count) - 1)
    return 0 if value == (1 << 7 * count) - 1 else value
