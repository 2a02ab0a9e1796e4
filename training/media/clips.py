"""Clips: the frames of a video file or of a folder of photos, upright and in order.

    clip = open_clip(Path("walk.mp4"))
    for rgb in clip:                    # (H, W, 3) uint8, one at a time
        ...

Decoding: training/media/video.py. Truncated files: training/media/containers.py. Damage in the
middle: training/media/structure.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av.container
import numpy as np

from afterlens.training.media.containers import refuse_truncated
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import SUFFIXES, Photo, read_photo
from afterlens.training.media.structure import refuse_broken
from afterlens.training.media.video import Rgb, open_video


class Clip:
    """A video or a folder of frames. Each iteration reads it anew."""

    path: Path
    width: int  # upright
    height: int
    frame_rate: Fraction | None  # None: a folder of frames has none
    frames: int | None  # an estimate for progress bars, where there is one

    def __iter__(self) -> Iterator[Rgb]:
        raise NotImplementedError


def open_clip(path: Path) -> Clip:
    """A video file, or a folder of photos in the natural order of their names (2.png before 10.png).

    Raises UserError, naming the file, for anything else: a missing file, no photos, not a video, no video track, absurd
    dimensions, a truncated file. Frames of another size and damage are raised while iterating.
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
    """The photos directly in a folder, in natural order."""

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
    """The default video track of a file, rotated as its display matrix asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        refuse_truncated(path)
        refuse_broken(path)
        with open_video(self.path) as video:
            stream = video.stream
            first = next(video.frames(), None)
            if first is None:
                raise UserError(f"{path}: holds a video track without a single frame")
            self.height, self.width = first.rgb.shape[:2]
            self.turned = video.turned  # by 90 or 270 degrees
            self.interlaced = video.interlaced
            self.colours = video.colours
            self.chroma = video.chroma  # luma samples per chroma sample: across, down
            self.bits = video.bits
            self.frame_rate = stream.average_rate or stream.guessed_rate
            self.frames = stream.frames or _estimated_frames(video.container, self.frame_rate)

    def __iter__(self) -> Iterator[Rgb]:
        with open_video(self.path) as video:
            for frame in video.frames():
                yield frame.rgb


def _estimated_frames(container: av.container.InputContainer, rate: Fraction | None) -> int | None:
    duration = container.duration  # microseconds
    return round(duration * rate / 1_000_000) or None if duration and rate else None


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that compares numbers in a name as numbers; the whole name decides between 1.png and 01.png."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part)) if part.isdigit() else (1, part.casefold()) for part in parts] + [(2, name)]
