"""Small clips to test with: four coloured quarters, a bar that moves, and a tone."""

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
MILLISECONDS = Fraction(1, 1000)


def picture(number: int = 0, width: int = 64, height: int = 48) -> Rgb:
    """(H, W, 3): red, blue, green and grey quarters, clockwise from the top left, and a bright bar near the bottom."""
    rgb = np.full((height, width, 3), 120, np.uint8)
    rgb[: height // 2, : width // 2] = (200, 40, 50)
    rgb[: height // 2, width // 2 :] = (50, 70, 190)
    rgb[height // 2 :, : width // 2] = (60, 180, 70)
    left = (4 * number) % (width - 6)
    rgb[-10:-2, left : left + 6] = 230
    return rgb


def write_clip(
    path: Path,
    frames: Sequence[Rgb] | None = None,
    *,
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    audio: bool = False,
    rotation: float | None = None,
    mirrored: bool = False,
    ratio: Fraction | None = None,
    matrix: int = 2,
    color_range: int = 0,
    primaries: int = 2,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write `frames` (default: 12 of `picture`) at `times` in milliseconds (default: 25 a second)."""
    frames = [picture(number) for number in range(12)] if frames is None else frames
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", container_options=options or {}) as file:
        file.metadata.update(metadata or {})
        stream: Any = file.add_stream(
            codec,
            rate=25,
            width=width,
            height=height,
            pix_fmt=pix_fmt,
            time_base=Fraction(1, 25) if times is None else MILLISECONDS,
            options={"crf": "10", "preset": "ultrafast", "bf": "2"}
            if codec == "libx264"
            else {"b": "2000000"},
        )
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries = matrix, color_range, primaries
        if ratio is not None:
            context.sample_aspect_ratio = ratio
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        tone: Any = file.add_stream("aac", rate=48000) if audio else None
        if tone:
            tone.metadata["language"] = "fin"
            for packet in _tone(tone, len(frames) * 48000 // 25):
                file.mux(packet)
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
                format=pix_fmt, dst_colorspace=1 if matrix == 1 else 5, dst_color_range=color_range or 1
            )
            frame.pts = number if times is None else times[number]
            frame.time_base = stream.codec_context.time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    if (
        codec == "libsvtav1"
    ):  # run as root, it makes the calling thread real-time, which starves all other processes
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def _tone(stream: Any, samples: int) -> Iterable[Any]:
    for start in range(0, samples, 1024):
        wave = (0.3 * np.sin(np.arange(start, start + 1024) / 17)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, -wave]), "fltp", "stereo")
        frame.sample_rate, frame.pts = 48000, start
        yield from stream.encode(frame)
    yield from stream.encode()


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """(seconds, bytes) of every packet of the first track of a kind, in order of time."""
    with av.open(str(path)) as file:
        stream: Any = next(stream for stream in file.streams if stream.type == kind)
        found = [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in file.demux(stream)
            if packet.size
        ]
    return sorted(found, key=lambda packet: packet[0])


def times(path: Path) -> list[float]:
    """When the frames are shown, in milliseconds to a hundredth (MP4 counts finer than that)."""
    return [round(1000 * seconds, 2) for seconds, _ in packets(path, "video")]
