"""Samples of photos that were seen through a display as a whole, and cropped afterwards.

    samples = WholePhotos(recipe.training, paths, see)
    samples[5]                   # {"input", "target"}, (3, crop, crop), RGB, [0, 1], and "kind"

A lamp flares far beyond a crop, and the veil and the exposure are those of the photo: a network that learns from crops
that were degraded by themselves never sees what comes from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import Dataset

from afterlens.training.crops import gradient
from afterlens.training.data import cached_photo, seeded, uniform
from afterlens.training.recipe import TrainingRecipe
from afterlens.training.samples import PER_PHOTO, captured_sample
from afterlens.training.task import Record, Sample
from afterlens.training.udc.synthesis import ToneCurve, exposed, random_camera

KEPT = (
    16  # batches that crop the same photo behind the same display, which takes as long as a step of training
)
_SMALLEST = 160  # pixels, shorter side of a photo that was reduced


@dataclass(frozen=True)
class Seen:
    """A photo ``(3, H, W)``, the light of it behind a display, the curve of both pictures, and the kind's number."""

    photo: Tensor
    light: Tensor
    curve: ToneCurve
    kind: int


See = Callable[[Tensor, Generator], Seen]


class WholePhotos(Dataset[Sample]):
    """Training samples: sample ``index`` depends on the seed and the index alone, and not on those drawn before.

    Each place of a batch keeps its photo for ``KEPT`` batches; the places change theirs at different times.

    Args:
        training: side of a crop, size of a batch, and seed.
        photos: clean photos.
        see: degrades a whole photo.
        pairs: captured ones, which take a share of the samples.
        pairs_ratio: that share.
    """

    def __init__(
        self,
        training: TrainingRecipe,
        photos: Sequence[Path],
        see: See,
        pairs: Sequence[Record] = (),
        pairs_ratio: float = 0.0,
    ) -> None:
        self.crop, self.batch, self.seed = training.crop, training.batch, training.seed
        self.photos, self.see, self.pairs, self.pairs_ratio = list(photos), see, list(pairs), pairs_ratio
        self._seen: dict[int, tuple[int, Seen]] = {}  # by place: which turn it is of

    def __len__(self) -> int:
        return 2**40  # as many as any run could ask for

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        if uniform(generator, 0, 1) < self.pairs_ratio:
            pair = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
            return captured_sample(pair, self.crop, generator, unscaled=True)
        batch, place = divmod(index, self.batch)
        turn = (batch + place * KEPT // self.batch) // KEPT
        if place not in self._seen or self._seen[place][0] != turn:
            whole = seeded(self.seed, place, turn)
            photo = cached_photo(self.photos[int(torch.randint(len(self.photos), (), generator=whole))])
            self._seen[place] = turn, self.see(reduced(photo, self.crop, whole), whole)
        return crop_of(self._seen[place][1], self.crop, generator)


class HeldOutPhotos(Dataset[Sample]):
    """Validation samples: fixed crops of each photo, in order."""

    def __init__(self, training: TrainingRecipe, photos: Sequence[Path], see: See) -> None:
        self.crop, self.photos, self.see = training.crop, list(photos), see
        self._seen: tuple[int, Seen] | None = None  # the last photo

    def __len__(self) -> int:
        return PER_PHOTO * len(self.photos)

    def __getitem__(self, index: int) -> Sample:
        number = index // PER_PHOTO
        if self._seen is None or self._seen[0] != number:
            whole = seeded(-1, number)
            photo = reduced(cached_photo(self.photos[number]), self.crop, whole)
            self._seen = number, self.see(photo, whole)
        return crop_of(self._seen[1], self.crop, seeded(-1, -1, index))


def reduced(rgb: NDArray[np.uint8], crop: int, generator: Generator) -> Tensor:
    """``(H, W, 3)`` uint8 at a random scale, at least as large as a crop -> ``(3, H, W)`` in [0, 1]."""
    height, width = rgb.shape[:2]
    shorter = min(height, width)
    smallest = min(shorter, max(crop, _SMALLEST))
    side = smallest + int((shorter - smallest + 1) * uniform(generator, 0.0, 1.0))
    scale = max(side, crop) / shorter
    if scale != 1.0:
        size = (max(crop, round(width * scale)), max(crop, round(height * scale)))
        resized = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC)
        return torch.from_numpy(resized).permute(2, 0, 1).float().div_(255.0)
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).float().div_(255.0)


def crop_of(seen: Seen, crop: int, generator: Generator) -> Sample:
    """One of two random squares, the one with the larger gradient, perhaps mirrored, taken by a random camera."""
    height, width = seen.photo.shape[-2:]
    places = [
        (
            int((height - crop + 1) * uniform(generator, 0, 1)),
            int((width - crop + 1) * uniform(generator, 0, 1)),
        )
        for _ in range(2)
    ]
    cut = [(slice(None), slice(top, top + crop), slice(left, left + crop)) for top, left in places]
    chosen = max(cut, key=lambda square: gradient(seen.photo[square]))
    target = seen.photo[chosen]
    degraded = exposed(seen.light[chosen], random_camera(generator), seen.curve, generator)
    if uniform(generator, 0, 1) < 0.5:
        target, degraded = target.flip(2), degraded.flip(2)
    return {"input": degraded.contiguous(), "target": target.contiguous(), "kind": torch.tensor(seen.kind)}
