"""Decoding of a video file: upright RGB frames with their times, or one clear line about what is wrong.

A clip is untrusted. Only the file itself is read (no playlists, no network, no further files), and a frame that cannot
be decoded is an error rather than a missing frame.
"""

from __future__ import annotations

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
from afterlens.training.media.images import MAX_PIXELS

Rgb = NDArray[np.uint8]  # (H, W, 3), upright

# A closed list: FFmpeg knows hundreds of formats, and some of them (HLS, concat) are lists of other files to open.
_DEMUXERS = "mov,mp4,matroska,webm,avi,mpegts"
_EXPECTED = "expected a whole MP4, MOV, MKV, WebM, AVI or MPEG-TS file, or a folder of photos"

# Without these flags chroma is repeated instead of interpolated, and sums are truncated: one level too dark.
_SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_MATRICES = {  # by FFmpeg's AVColorSpace; 2 is "unspecified", 0 is RGB
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
    """How a frame's YUV values are to be read: FFmpeg's numbers from the file, 2 or 0 where unspecified."""

    matrix: Colorspace  # used for conversion, a guess where the file does not specify one
    colorspace: int
    color_range: int
    color_primaries: int
    color_trc: int


@dataclass(frozen=True)
class Frame:
    """One frame of a video and when it is shown, in ticks of `time_base` seconds."""

    rgb: Rgb
    pts: int
    duration: int  # 0: unknown
    time_base: Fraction


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """The file, opened from its beginning. Raises UserError where that fails."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        if not file.peek(1):
            raise UserError(f"{path}: the file is empty (0 bytes)")
        try:
            container = _open_container(file)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a video that can be read ({_EXPECTED})") from error
        with container:
            yield Video(path, container)


class Video:
    """An open video file, to be read once from its beginning: the default track, or else the first.

    Attributes:
        start: the time in seconds at which the clip begins, by its own clock; frames keep that clock's times.
    """

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
        # One thread: the network takes the time, and each further thread would hold frames of its own.
        self.stream.thread_count = 1
        # Properties of the first frame, set when it is yielded.
        self.turned = False
        self.interlaced = False
        self.colours = Colours(Colorspace.ITU601, 2, 0, 2, 2)
        self.chroma = (1, 1)
        self.bits = 8
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()
        self._last_pts: int | None = None
        self.time_base = self.stream.time_base or Fraction(1, 1000)
        # A transport stream or a live recording carries its sender's clock, which may stand anywhere. Players begin at
        # once; an MP4 with such times would begin with hours of nothing. In MP4 itself a late start is meant.
        microseconds = 0 if self._is_mp4() else max(0, container.start_time or 0)
        self.start = Fraction(microseconds, 1_000_000)

    def frames(self, other: Callable[[Any], None] | None = None) -> Iterator[Frame]:
        """All frames in order of time, upright. `other` is called with the packets of all other tracks, in file order.

        Raises UserError for damage: a frame that is missing, cannot be decoded or has another size.
        """
        packets = decoded = 0
        hidden = 0  # packets that the edit list removes, but on which others depend
        try:
            for packet in self.container.demux():
                # packet.stream_index is 0 for the empty packets that end every track.
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
        # Interlaced video may have two packets per frame, one for each field; everything else has one.
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
            if len(layout.components) < 3:  # grey has no chroma; 4:2:0 is what players support best
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
            stated = 2  # becomes YUV, in what players assume for unlabelled files
        if stated != 2 and stated not in _MATRICES:
            raise UserError(
                f"{self.path}: colour matrix {stated} is not supported (BT.601, 709 and 2020 are); re-encode it"
            )
        # Players guess an unspecified matrix from the size.
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
        """The frame's own time, or the next free tick where it has none or one that is not later than the last."""
        last = self._last_pts
        pts = frame.pts if frame.pts is not None else frame.dts  # AVI has only dts
        if pts is None:
            rate = self.stream.guessed_rate
            step = round(1 / (rate * self.time_base)) if rate else 1
            pts = 0 if last is None else last + max(step, 1)
        if last is not None and pts <= last:
            pts = last + 1
        self._last_pts = pts
        return pts


def _open_container(file: IO[bytes]) -> av.container.InputContainer:
    """Opens a file object rather than a name, so that no name can be taken for a URL."""
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


def _display_matrix(frame: av.video.frame.VideoFrame) -> tuple[int, ...]:
    """The display matrix rounded to quarter turns and mirrorings: (a, b, _, c, d) with x' = ax + cy, y' = bx + dy."""
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


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
