"""Clips as training data: of every second the sharpest frame, as a photo.

data = photos_of([Path("photos/"), Path("walk.mp4")], Path("runs/mine/frames"))
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from afterlens.training.media.clips import open_clip
from afterlens.training.media.containers import is_video
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, write_png

Rgb = NDArray[np.uint8]  # (H, W, 3)


def photos_of(data: Sequence[Path], folder: Path) -> list[Path]:
    """``data`` with every video file replaced by a folder of its sharpest frames, ``folder/NAME-DIGEST``.

    The digest (of what the file holds) tells clips of the same name apart. A folder that is there from an earlier run
    is taken as it is. Raises UserError for a clip that can't be read.
    """
    found = []
    for path in data:
        if not (path.is_file() and is_video(path)):
            found.append(path)
            continue
        frames = folder / f"{path.name}-{_digest(path)}"
        if not frames.is_dir():
            with atomic_path(frames) as temporary:
                temporary.mkdir()
                for second, frame in enumerate(sharpest(path)):
                    write_png(
                        temporary / f"{path.stem}_{second:05d}.png",
                        frame.astype(np.float32) / np.float32(255),
                    )
        found.append(frames)
    return found


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def sharpest(path: Path) -> Iterator[Rgb]:
    """The sharpest frame of every second: blurred ones are no ground truth, and neighbours teach the same thing twice."""
    clip = open_clip(path)
    length = max(1, round(clip.frame_rate or 25))
    best: tuple[float, Rgb] | None = None
    frames = track(clip, f"frames of {path.name}", total=clip.frames, console=Console(stderr=True))
    for number, frame in enumerate(frames):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
        if best is None or sharpness > best[0]:
            best = sharpness, frame
        if number % length == length - 1:
            yield best[1]
            best = None
    if best is not None:
        yield best[1]
