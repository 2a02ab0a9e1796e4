"""Restore a clip frame by frame: a video file into a video file, a folder of frames into a folder of PNGs.

    restore_clip(engine, Path("walk.mp4"), Path("walk_sharp.mp4"))
    restore_clip(engine, Path("frames/"), Path("frames_sharp/"))

Only the pictures change. Every frame keeps its time (also where the intervals vary), the clip its size, shape of pixels
and colour labels; the packets of sound and subtitles are copied as they are. Pictures are stored upright, as players
show them, and the rotation label goes. The new file appears under its name when it is whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
from rich.progress import Progress

from afterlens.conversion.restore.scenes import SceneDetector
from afterlens.training.media.clips import (
    FULL_RANGE,
    Clip,
    Frame,
    FrameFolder,
    Video,
    VideoFile,
    open_clip,
)
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, write_png
from afterlens.training.media.progress import progress_bar

Image = NDArray[np.float32]  # (H, W, 3) RGB, [0, 1]
# A frame, and whether it starts a scene -> the restored frame, same size. Frames come in order; what the engine needs
# of the frame before it keeps itself, and forgets at a new scene.
FrameEngine = Callable[[Image, bool], Image]

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
# MP4 says when a track begins in units of the whole film, by default milliseconds: too coarse for sound.
_CONTAINER_OPTIONS = {name: {"movie_timescale": "90000"} for name in ("mp4", "mov")}
# What describes the old file rather than the clip; muxers write their own.
_OWN_METADATA = (
    *("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "rotate"),
    *("duration", "bps", "number_of_", "_statistics"),
)


def restore_clip(engine: FrameEngine, source: Path, out: Path, *, label: str = "restore") -> dict[str, Any]:
    """Restore `source` into `out`.

    Args:
        engine: gets float32 (H, W, 3) RGB [0, 1] and returns the same shape; a fresh one for every clip.
        source: a video file, or a folder of frames.
        out: a file name with one of SUFFIXES for a video; for a folder of frames a new one, or one of an earlier
            result, for PNGs with the frames' stems.
        label: what the progress bar on stderr calls the work.

    Returns: `{"input", "output", "width", "height", "frames", "scenes", "frames_per_second", "audio", "seconds"}`.
        "frames_per_second" is the clip's own mean rate, None for a folder; "audio" the number of tracks copied;
        "seconds" the time it took.

    Raises UserError for an unusable input, output or combination of both. Then, and after any other exception,
    nothing has been written.
    """
    started = time.monotonic()
    clip = open_clip(source)
    _refuse_output(clip, out)
    restorer = _Restorer(engine)
    with _progress(f"{label} {source.name}", clip.frames) as progress:
        bar = progress.task_ids[0]

        def advance() -> None:
            progress.advance(bar)

        def note(text: str) -> None:
            progress.console.print(f"{source}: {text}", style="yellow", markup=False, soft_wrap=True)

        if isinstance(clip, FrameFolder):
            audio = 0
            _restore_folder(clip, out, restorer, advance)
        else:
            assert isinstance(clip, VideoFile)
            audio = _restore_video(clip, out, restorer, advance, note)
    return {
        "input": str(source),
        "output": str(out),
        "width": clip.width,
        "height": clip.height,
        "frames": restorer.frames,
        "scenes": restorer.scenes,
        "frames_per_second": float(clip.frame_rate) if clip.frame_rate else None,
        "audio": audio,
        "seconds": round(time.monotonic() - started, 3),
    }


class _Restorer:
    """The engine with its cut detector, and what they have counted."""

    def __init__(self, engine: FrameEngine) -> None:
        self._engine = engine
        self._starts_scene = SceneDetector()
        self.frames = 0
        self.scenes = 0

    def __call__(self, rgb: NDArray[np.uint8], exact: Image | None = None) -> Image:
        """(H, W, 3) uint8, and the same as float32 where it has more than 8 bits -> restored float32."""
        new_scene = self._starts_scene(rgb)
        frame = np.divide(rgb, np.float32(255), dtype=np.float32) if exact is None else exact
        restored = self._engine(frame, new_scene)
        if restored.shape != rgb.shape:
            raise ValueError(f"the engine made {restored.shape} of a frame of shape {rgb.shape}")
        if np.isnan(restored).any():
            raise ValueError(f"the engine made NaN of frame {self.frames + 1}")
        self.frames += 1
        self.scenes += new_scene
        return restored


def _refuse_output(clip: Clip, out: Path) -> None:
    if isinstance(clip, FrameFolder):
        if out.suffix.lower() in SUFFIXES:
            raise UserError(
                f"{out}: a folder of frames becomes a folder of frames, expected a folder, got a video name"
            )
        if out.exists() and not out.is_dir():
            raise UserError(f"{out}: expected a folder for the frames, got a file")
        stems: dict[str, Path] = {}
        for file in clip.files:
            if file.stem in stems:
                raise UserError(
                    f"{stems[file.stem]} and {file} would both become {file.stem}.png; rename one"
                )
            stems[file.stem] = file
        # It is replaced as a whole: an earlier result may go, nothing else.
        results = {f"{stem}.png" for stem in stems}
        others = sorted({file.name for file in out.iterdir()} - results) if out.is_dir() else []
        if others or (out.exists() and out.samefile(clip.path)):
            held = others[0] if others else "the input"
            raise UserError(
                f"{out}: expected a new folder for the frames, or one of an earlier result; this one holds {held}"
            )
        return
    if out.is_dir():
        raise UserError(f"{out}: expected a name for the video, got a folder; add a file name")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"{out}: a video is written as {', '.join(SUFFIXES)}; expected a name that ends so")
    if out.exists() and out.samefile(clip.path):
        raise UserError(f"{out}: is the input and would be overwritten; give another output")


def _progress(description: str, frames: int | None) -> Progress:
    progress = progress_bar()
    progress.add_task(description, total=frames)
    return progress


def _restore_folder(clip: FrameFolder, out: Path, restorer: _Restorer, advance: Callable[[], None]) -> None:
    with atomic_path(out) as temporary:
        temporary.mkdir()
        for file, photo in zip(clip.files, clip.photos(), strict=True):
            rgb = np.rint(photo.rgb * np.float32(255)).astype(np.uint8)
            write_png(temporary / f"{file.stem}.png", restorer(rgb, photo.rgb), photo.exif, photo.icc)
            advance()


def _restore_video(
    clip: VideoFile, out: Path, restorer: _Restorer, advance: Callable[[], None], note: Callable[[str], None]
) -> int:
    """Returns the number of audio tracks."""
    with clip.opened() as video, atomic_path(out) as temporary, temporary.open("wb") as file:
        writer = _Writer(clip, video, file, out)
        for text in writer.notes:
            note(text)
        for frame in video.frames(writer.copy):
            writer.write(restorer(frame.rgb), frame)
            advance()
        writer.finish()
        return writer.audio


class _Writer:
    """The new video file: one track is encoded, the others are copied."""

    def __init__(self, clip: VideoFile, video: Video, file: IO[bytes], out: Path) -> None:
        self._out = out
        self._colours = clip.colours
        self._time_base = video.time_base
        self._durations: dict[int, int] = {}  # by pts; the encoder does not pass them on
        self._tracks: dict[int, Any] = {}  # by their index in the input
        self.audio = 0
        self.notes: list[str] = []  # what is not kept
        if clip.interlaced:
            self.notes.append("is interlaced: both fields are restored as one picture and written as such")
        if clip.bits > 8:
            self.notes.append(f"has {clip.bits} bits a channel, is written with 8")
        with self._writing():
            # Through an open file, because a name such as "a:b.mp4" would be taken for an address.
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
            self._target.start_encoding()  # writes the header: what does not fit together shows now

    def _encoder(self, clip: VideoFile, source: Any) -> Any:
        name, options = _ENCODERS.get(self._target.format.name, _H264)
        # Half the chroma of an odd side is no whole number of samples, and H.264 cannot crop by one.
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
            # Data is cameras' own, and has no name in another file; covers are tracks in MP4 alone.
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
        """A packet of another track of the input, as it is."""
        stream = self._tracks.get(packet.stream_index)
        if stream is None:
            return
        if packet.dts is None:
            packet.dts = packet.pts
        packet.stream = stream
        with self._writing():
            self._target.mux(packet)

    def write(self, restored: Image, frame: Frame) -> None:
        """The next picture, (H, W, 3) [0, 1], at the time of `frame`."""
        full = self._colours.color_range == FULL_RANGE
        picture = to_yuv(restored, self._pix_fmt, self._colours.matrix, full_range=full)
        picture.pts, picture.time_base = frame.pts, frame.time_base
        self._durations[frame.pts] = frame.duration
        with self._writing():
            self._mux(self._encoded.encode(picture))

    def finish(self) -> None:
        """Write what the encoder still holds, and the index."""
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


# The shares of red and blue in brightness, by the standards' definition.
_RED_AND_BLUE = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}


def to_yuv(rgb: Image, pix_fmt: str, matrix: Colorspace, *, full_range: bool) -> av.VideoFrame:
    """(H, W, 3) RGB, clipped to [0, 1], as a frame of 8-bit YUV: "yuv420p" and "yuv422p" for even sizes, "yuv444p".

    FFmpeg's own conversion wants 8-bit RGB, and at full range makes chroma half a level too small: the colours of a
    clip that is restored several times would drift.
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
