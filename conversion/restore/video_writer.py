"""Writes the video file of a restored clip: one track is encoded, all others are copied.

writer = VideoWriter(clip, video, file, out)
for frame in video.frames(writer.copy):
    writer.write(restored, frame)             # (H, W, 3) float32 RGB [0, 1]
writer.finish()
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import av.container
import av.error
import av.stream
import cv2
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from afterlens.training.media.clips import VideoFile
from afterlens.training.media.errors import UserError
from afterlens.training.media.video import FULL_RANGE, Frame, Video

Image = NDArray[np.float32]  # (H, W, 3) RGB, [0, 1]

# FFmpeg's names of the containers that are written.
SUFFIXES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# The thread count is part of what x264 computes: fixed, so that a clip becomes the same file on every machine.
_THREADS = "4"
_ENCODERS = {
    "webm": (
        "libvpx-vp9",
        {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "threads": _THREADS},
    )
}
_H264 = ("libx264", {"crf": "16", "preset": "fast", "threads": _THREADS})
# MP4 gives the start of a track in the film's own units, by default milliseconds: too coarse for sound.
_CONTAINER_OPTIONS = {name: {"movie_timescale": "90000"} for name in ("mp4", "mov")}
# Metadata of the old file rather than of the clip; muxers write their own.
_OWN_METADATA = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "rotate"),
    *("duration", "bps", "number_of_", "_statistics"),
)


class VideoWriter:
    """The new video file.

    Attributes:
        notes: what is not kept, a line each.
        audio: number of sound tracks that are copied.
    """

    def __init__(self, clip: VideoFile, video: Video, file: IO[bytes], out: Path) -> None:
        """Write the header of `out` to `file`. Raises UserError if the format cannot hold the clip."""
        self._out = out
        self._colours = clip.colours
        self._time_base = video.time_base
        self._start = video.start
        self._durations: dict[int, int] = {}  # by pts; the encoder does not pass them on
        self._tracks: dict[int, Any] = {}  # by their index in the input
        self.audio = 0
        self.notes: list[str] = []  # what is not kept
        if clip.interlaced:
            self.notes.append("is interlaced: both fields are restored as one picture and written as such")
        if clip.bits > 8:
            self.notes.append(f"has {clip.bits} bits a channel, is written with 8")
        with self._writing():
            # Through an open file: FFmpeg would take a name such as "a:b.mp4" for an address.
            format_name = SUFFIXES[out.suffix.lower()]
            self._target = av.open(
                file,
                "w",
                format=format_name,
                container_options=_CONTAINER_OPTIONS.get(format_name, {}),
                metadata_errors="surrogateescape",
            )
            self._target.metadata.update(_kept(video.container.metadata))
            for stream in video.container.streams:
                if stream.index == video.stream.index:
                    self._encoded = self._encoder(clip, stream)
                else:
                    self._add_copy(stream)
            self._target.set_chapters(video.container.chapters())
            self._target.start_encoding()  # writes the header, and so shows now what does not fit together

    def _encoder(self, clip: VideoFile, source: Any) -> Any:
        name, options = _ENCODERS.get(self._target.format.name, _H264)
        # Halved chroma of an odd side is not a whole number of samples, and H.264 cannot crop by one.
        across, down = clip.chroma if clip.width % 2 == clip.height % 2 == 0 else (1, 1)
        self._pix_fmt = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 1): "yuv444p"}.get(
            (across, down), "yuv420p"
        )
        stream: Any = self._target.add_stream(
            name,
            rate=_int32(clip.frame_rate or Fraction(25)),
            options=dict(options),
            width=clip.width,
            height=clip.height,
            pix_fmt=self._pix_fmt,
            time_base=self._time_base,
        )
        context = stream.codec_context
        context.color_range = self._colours.color_range
        context.colorspace = self._colours.colorspace
        context.color_primaries = self._colours.color_primaries
        context.color_trc = self._colours.color_trc
        ratio = source.sample_aspect_ratio
        if ratio:
            context.sample_aspect_ratio = 1 / ratio if clip.turned else ratio
        stream.metadata.update(_kept(source.metadata))
        stream.disposition = source.disposition
        return stream

    def _add_copy(self, source: Any) -> None:
        try:
            cover = bool(source.disposition & av.stream.Disposition.attached_pic)
            # Data tracks are specific to a camera and have no name elsewhere; only in MP4 are covers tracks.
            if source.type == "data" or (cover and self._target.format.name != "mp4"):
                raise ValueError
            stream = self._target.add_stream_from_template(source, opaque=True)
        except ValueError as error:
            codec = source.codec_context.name if getattr(source, "codec_context", None) else "unknown format"
            if source.type == "audio":
                raise UserError(
                    f"{self._out}: {self._out.suffix} cannot hold the clip's sound ({codec}); write a .mkv, which can"
                ) from error
            self.notes.append(
                f"track {source.index} ({source.type}, {codec}) is left out of the {self._out.suffix}"
            )
            return
        stream.metadata.update(_kept(source.metadata))
        stream.disposition = source.disposition
        self._tracks[source.index] = stream
        self.audio += source.type == "audio"

    def copy(self, packet: Any) -> None:
        """Copy a packet of another track of the input."""
        stream = self._tracks.get(packet.stream_index)
        if stream is None:
            return
        ticks = round(self._start / packet.time_base)
        if packet.pts is not None:
            packet.pts -= ticks
        packet.dts = packet.pts if packet.dts is None else packet.dts - ticks
        packet.stream = stream
        with self._writing():
            self._target.mux(packet)

    def write(self, restored: Image, frame: Frame) -> None:
        """Encode the next picture, (H, W, 3) [0, 1], with the time of `frame`."""
        full = self._colours.color_range == FULL_RANGE
        picture = to_yuv(restored, self._pix_fmt, self._colours.matrix, full_range=full)
        picture.pts, picture.time_base = frame.pts - round(self._start / frame.time_base), frame.time_base
        self._durations[picture.pts] = frame.duration
        with self._writing():
            self._mux(self._encoded.encode(picture))

    def finish(self) -> None:
        """Write the frames that the encoder still holds, and the index."""
        with self._writing():
            self._mux(self._encoded.encode())
            self._target.close()

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, 0)
            self._target.mux(packet)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            raise UserError(f"cannot write {self._out}: {' '.join(str(error.strerror).split())}") from error


# The shares of red and blue in luma, as the standards define them.
_RED_AND_BLUE = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}


def to_yuv(rgb: Image, pix_fmt: str, matrix: Colorspace, *, full_range: bool) -> av.VideoFrame:
    """(H, W, 3) RGB, clipped to [0, 1], as a frame of 8-bit YUV: "yuv420p" and "yuv422p" for even sizes, "yuv444p".

    FFmpeg's own conversion takes 8-bit RGB, and at full range makes chroma half a level too small: colours would drift
    in a clip that is restored several times.
    """
    red, blue = _RED_AND_BLUE[matrix]
    brightness = np.array([red, 1.0 - red - blue, blue])
    to_blue = (np.array([0.0, 0.0, 1.0]) - brightness) / (2.0 - 2.0 * blue)
    to_red = (np.array([1.0, 0.0, 0.0]) - brightness) / (2.0 - 2.0 * red)
    black, y_levels, c_levels = (0, 255, 255) if full_range else (16, 219, 224)
    rows = [
        [*(brightness * y_levels), black],
        [*(to_blue * c_levels), 128],
        [*(to_red * c_levels), 128],
    ]
    yuv: Any = cv2.transform(np.clip(rgb, 0.0, 1.0), np.array(rows, np.float32))
    height, width = rgb.shape[:2]
    across, down = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1)}[pix_fmt]
    chroma = np.ascontiguousarray(yuv[:, :, 1:])
    if across > 1:
        chroma = cv2.resize(chroma, (width // across, height // down), interpolation=cv2.INTER_AREA)
    frame = av.VideoFrame(width, height, pix_fmt)
    planes: Any = frame.planes
    for plane, values in zip(planes, (yuv[:, :, 0], chroma[:, :, 0], chroma[:, :, 1]), strict=True):
        levels = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # its rows are padded
        levels[: plane.height, : plane.width] = np.rint(values).clip(0, 255)
    return frame


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if not key.lower().split("-")[0].startswith(_OWN_METADATA)
    }


def _int32(rate: Fraction) -> Fraction:
    """The nearest rate that FFmpeg's rational numbers can hold."""
    return rate if max(rate.numerator, rate.denominator) < 2**31 else rate.limit_denominator(1001)
