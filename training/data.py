"""Photos for training: which are held out, and square crops of them that depend on nothing but a seed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Generator, Tensor

from training.errors import UserError
from training.images import read_photo

log = logging.getLogger(__name__)

# A cached photo's shorter side in pixels: enough for crops at several scales, small enough that 512 of them fit.
_CACHED_SIDE = 512


@lru_cache(maxsize=512)
def cached_photo(path: Path) -> np.ndarray:
    """The photo as ``(H, W, 3)`` uint8 RGB, reduced so that its shorter side is at most 512."""
    rgb = read_photo(path).rgb
    height, width = rgb.shape[:2]
    scale = _CACHED_SIDE / min(height, width)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.rint(rgb * 255.0).clip(0, 255).astype(np.uint8)


def usable_photos(paths: Sequence[Path], smallest: int) -> tuple[list[Path], list[str]]:
    """Splits ``paths`` into photos that decode and have both sides >= ``smallest``, and a line for each other one.

    Raises:
        UserError: if no photo is left.
    """
    good: list[Path] = []
    skipped: list[str] = []
    for path in paths:
        try:
            height, width = read_photo(path).rgb.shape[:2]
        except UserError as error:
            skipped.append(str(error))
            continue
        if min(height, width) < smallest:
            skipped.append(f"{path}: {width}x{height} pixels, expected both sides of {smallest} or more")
        else:
            good.append(path)
    if not good:
        raise UserError(f"no usable photo among {len(paths)} files (the first: {skipped[0] if skipped else 'none'})")
    return good, skipped


def split_photos(paths: Sequence[Path], held_out: int) -> tuple[list[Path], list[Path]]:
    """(training, validation): ``held_out`` photos picked by the hash of their names, so that the split never moves."""
    if held_out >= len(paths):
        raise UserError(f"{len(paths)} usable photos, {held_out} to be held out for validation: give more photos or lower training.validation_photos")
    ranked = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    return sorted(ranked[held_out:]), sorted(ranked[:held_out])


def seeded(*parts: int) -> Generator:
    """A CPU generator whose state depends on all of ``parts`` and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def random_crop(rgb: np.ndarray, size: int, generator: Generator) -> Tensor:
    """A random square of ``(H, W, 3)`` uint8, at a random scale, perhaps mirrored -> ``(3, size, size)`` in [0, 1]."""
    height, width = rgb.shape[:2]
    shorter = min(height, width)
    low = min(size, shorter)
    side = low + int((shorter - low + 1) * float(torch.rand((), generator=generator)))
    y = int((height - side + 1) * float(torch.rand((), generator=generator)))
    x = int((width - side + 1) * float(torch.rand((), generator=generator)))
    square = rgb[y : y + side, x : x + side]
    if side != size:
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)
    if float(torch.rand((), generator=generator)) < 0.5:
        square = square[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float().div_(255.0)
