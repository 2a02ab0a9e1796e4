"""Photos for training: which can be used, which are held out, and square crops that depend on nothing but a seed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo

SMALLEST = 64  # pixels; photos with a shorter side teach nothing about the scale of things

# A cached photo's shorter side in pixels: enough for crops at several scales, small enough that 512 of them fit.
_CACHED_SIDE = 512


@lru_cache(maxsize=512)
def cached_photo(path: Path) -> NDArray[np.uint8]:
    """The photo as ``(H, W, 3)`` uint8 RGB, reduced so that its shorter side is at most 512."""
    rgb: NDArray[Any] = read_photo(path).rgb
    height, width = rgb.shape[:2]
    scale = _CACHED_SIDE / min(height, width)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.rint(rgb * 255.0).clip(0, 255).astype(np.uint8)


def find_faults(paths: Sequence[Path], smallest: int) -> Iterator[str]:
    """What is wrong with each photo, in order: "" for one that decodes and has both sides >= ``smallest``.

    Every photo is decoded, since a header says nothing about a damaged rest and a run must not stumble over it
    hours later. Decoders work outside Python's lock, so threads are enough.
    """

    def fault(path: Path) -> str:
        try:
            height, width = read_photo(path).rgb.shape[:2]
        except UserError as error:
            return str(error)
        if min(height, width) < smallest:
            return f"{path}: {width}x{height} pixels, expected both sides of {smallest} or more"
        return ""

    # At most 8: a decoded 50-megapixel photo takes 600 MB.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(fault, paths)


def split_photos(paths: Sequence[Path], held_out: int) -> tuple[list[Path], list[Path]]:
    """(training, validation): ``held_out`` photos picked by the hash of their names, so that the split never moves."""
    if held_out >= len(paths):
        raise UserError(
            f"{len(paths)} usable photos of which {held_out} are to be held out for validation: give more photos or "
            "lower training.validation_photos"
        )
    shuffled = ranked(paths)
    return sorted(shuffled[held_out:]), sorted(shuffled[:held_out])


def ranked(paths: Sequence[Path]) -> list[Path]:
    """``paths`` by the hash of their names: an order that looks random and is the same everywhere."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path.name)).hexdigest())


def fingerprint(paths: Sequence[Path]) -> str:
    """A hash of the files' names and sizes, in order: tells whether a resumed run sees the same photos."""
    lines = (b"%s %d\n" % (os.fsencode(path.name), path.stat().st_size) for path in paths)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def seeded(*parts: int) -> Generator:
    """A CPU generator whose state depends on all of ``parts`` and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def uniform(generator: Generator, low: float, high: float) -> float:
    """One number from the uniform distribution on [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def random_crop(rgb: NDArray[np.uint8], size: int, generator: Generator) -> Tensor:
    """A random square of ``(H, W, 3)`` uint8, at a random scale, perhaps mirrored -> ``(3, size, size)`` in [0, 1]."""
    height, width = rgb.shape[:2]
    shorter = min(height, width)
    low = min(size, shorter)
    side = low + int((shorter - low + 1) * float(torch.rand((), generator=generator)))
    y = int((height - side + 1) * float(torch.rand((), generator=generator)))
    x = int((width - side + 1) * float(torch.rand((), generator=generator)))
    square: NDArray[Any] = rgb[y : y + side, x : x + side]
    if side != size:
        square = cv2.resize(
            square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        )
    if float(torch.rand((), generator=generator)) < 0.5:
        square = square[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float().div_(255.0)
