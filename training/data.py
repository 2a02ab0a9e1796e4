"""Photos for training: which can be used, which are held out, and square crops that depend on a seed alone."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
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
from afterlens.training.task import Record

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
    return _bytes(rgb)


@lru_cache(maxsize=32)  # at 12 megapixels that is 1.2 GB
def cached_original(path: Path) -> NDArray[np.uint8]:
    """The photo as ``(H, W, 3)`` uint8 RGB at its own size."""
    return _bytes(read_photo(path).rgb)


def _bytes(rgb: NDArray[Any]) -> NDArray[np.uint8]:
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


def index_photos(photos: Sequence[Path]) -> list[Record]:
    """A record for each photo; photos of the same name are taken to show the same scene."""
    return [Record(photo, group=photo.name) for photo in photos]


def split_records(records: Sequence[Record], photos: int, pairs: int) -> tuple[list[Record], list[Record]]:
    """(training, validation), each sorted by the photos' names, without a group in common.

    By their names, because which degradation a held-out photo gets depends on its place, and folders differ from run to
    run: a clip's frames lie in the run's own.

    Whole groups are held out, picked by the hash of their names so that the split never moves, until they hold
    ``photos`` records; then more, until they hold ``pairs`` of the captured ones as well.

    Raises UserError where nothing would be left to train on.
    """
    captured = [record for record in records if record.captured]
    others = [record for record in records if not record.captured]
    held_out: set[str] = set()
    for own, count, what in ((others, photos, "photos"), (captured, pairs, "pairs")):
        held_out |= _more_held_out(held_out, own, count, what)
    by_photo = sorted(records, key=lambda record: (record.photo.name, record.photo))
    training = [record for record in by_photo if record.group not in held_out]
    return training, [record for record in by_photo if record.group in held_out]


def _more_held_out(held_out: set[str], records: Sequence[Record], count: int, what: str) -> set[str]:
    """Groups that, together with those of ``held_out``, have ``count`` of the records or a few more."""
    if not records:
        return set()
    remedy = f"give more {what} or lower training.validation_{what}"
    if count >= len(records):
        raise UserError(
            f"{len(records)} usable {what} of which {count} are to be held out for validation: {remedy}"
        )
    sizes = Counter(record.group for record in records)
    groups = sorted(sizes, key=lambda group: (group not in held_out, _hashed(group)))
    taken = sum(group in held_out for group in groups)
    while sum(sizes[group] for group in groups[:taken]) < count:
        taken += 1
    if taken == len(groups):
        raise UserError(
            f"{len(records)} usable {what} in {len(groups)} groups (such as {groups[0]!r}), all needed to hold out "
            f"{count}: {remedy}"
        )
    return set(groups[:taken])


def ranked(paths: Sequence[Path]) -> list[Path]:
    """``paths`` by the hash of their names: an order that looks random and is the same everywhere."""
    return sorted(paths, key=lambda path: _hashed(path.name))


def _hashed(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def fingerprint(records: Sequence[Record]) -> str:
    """A hash of what the records say and of their files' names and sizes, in order.

    It tells whether a resumed run sees the same data.
    """
    digest = hashlib.sha256()
    for record in records:
        for key, path in {"": record.photo, **record.files}.items():
            digest.update(b"%s %s %d\n" % (key.encode(), os.fsencode(path.name), path.stat().st_size))
        digest.update(repr((record.captured, record.label, record.landmarks)).encode())
        digest.update(os.fsencode(record.group) + b"\n")
    return digest.hexdigest()


class Strata:
    """Records by class, drawn so that every batch has each class in its share.

    Which class sample ``index`` is of depends on the seed and the index alone (systematic sampling: equidistant points
    with one random offset per batch). Of a class with the share s, a batch of B has s x B samples, rounded down or up.

    Args:
        records: with a ``label``, the place of its class in ``shares``.
        shares: of the classes, normalised to sum 1.
        batch: samples in a micro-batch of one process.

    Raises UserError for a class with a share but no record.
    """

    def __init__(self, records: Sequence[Record], shares: Sequence[float], batch: int, seed: int) -> None:
        self.batch, self.seed = batch, seed
        self.bounds = np.cumsum(shares) / np.sum(shares)
        self.classes = [[record for record in records if record.label == i] for i in range(len(shares))]
        for label, share in enumerate(shares):
            if share > 0.0 and not self.classes[label]:
                raise UserError(f"class {label} has a share of {share} but no photo to train on")

    def label(self, index: int) -> int:
        """The class of a sample."""
        batch, place = divmod(index, self.batch)
        point = (place + uniform(seeded(self.seed, 0, batch), 0, 1)) / self.batch
        return min(int(np.searchsorted(self.bounds, point, side="right")), len(self.classes) - 1)

    def record(self, index: int, generator: Generator) -> Record:
        """A random record of the sample's class."""
        own = self.classes[self.label(index)]
        return own[int(torch.randint(len(own), (), generator=generator))]


def seeded(*parts: int) -> Generator:
    """A CPU generator whose state depends on all of ``parts`` and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def uniform(generator: Generator, low: float, high: float) -> float:
    """One number from the uniform distribution on [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def log_uniform(generator: Generator, low: float, high: float) -> float:
    """One number from [low, high) whose logarithm is uniform."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))


def random_crop(rgb: NDArray[np.uint8], size: int, generator: Generator) -> Tensor:
    """A random square of ``(H, W, 3)`` uint8, at a random scale, perhaps mirrored -> ``(3, size, size)`` in [0, 1]."""
    shorter = min(rgb.shape[:2])
    low = min(size, shorter)
    side = low + int((shorter - low + 1) * float(torch.rand((), generator=generator)))
    square = _random_square(rgb, side, generator)
    if side != size:
        square = cv2.resize(
            square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        )
    return _perhaps_mirrored(square, generator)


def unscaled_crop(rgb: NDArray[np.uint8], size: int, generator: Generator) -> Tensor:
    """The same, but every pixel stays one pixel; the sides of ``rgb`` must be ``size`` or more."""
    return _perhaps_mirrored(_random_square(rgb, size, generator), generator)


def _random_square(rgb: NDArray[np.uint8], side: int, generator: Generator) -> NDArray[Any]:
    height, width = rgb.shape[:2]
    y = int((height - side + 1) * float(torch.rand((), generator=generator)))
    x = int((width - side + 1) * float(torch.rand((), generator=generator)))
    return rgb[y : y + side, x : x + side]


def _perhaps_mirrored(square: NDArray[Any], generator: Generator) -> Tensor:
    if float(torch.rand((), generator=generator)) < 0.5:
        square = square[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).float().div_(255.0)


def as_picture(picture: NDArray[Any]) -> Tensor:
    """``(H, W, C)`` -> float32 ``(C, H, W)``."""
    array = np.ascontiguousarray(picture, dtype=np.float32)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
