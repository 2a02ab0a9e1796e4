"""Which part of which photo a sample is cut from: textured crops, colourful crops, and crops that grow during a run.

    photo = chosen_crop(paths, 7, 192, recipe.crops, generator)       # (3, 192, 192), RGB, [0, 1]

Smooth crops teach little, and a network that has seen few strong colours damages them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import model_validator
from torch import Generator, Tensor

from afterlens.training.data import cached_photo, random_crop, uniform
from afterlens.training.recipe import Count, Recipe, Share, WholeNumber, require

_CANDIDATES = 4  # crops among which the most textured or the most colourful is chosen


class CropRecipe(Recipe):
    """The ``[crops]`` table; its defaults take every crop at random.

    Attributes:
        textured: share of the samples that take the crop with the largest gradient of four crops of a photo.
        colourful: share that take the most colourful of four crops of four photos, and recolour it.
        sizes: (samples, side): from so many samples of the run on, crops have this side in pixels, instead of
            ``training.crop``. Validation always uses ``training.crop``.
    """

    textured: Share = 0.0
    colourful: Share = 0.0
    sizes: tuple[tuple[WholeNumber, Count], ...] = ()

    @model_validator(mode="after")
    def _shares_and_order(self) -> Self:
        total = self.textured + self.colourful
        require("textured + colourful", total, total <= 1.0, "at most 1")
        starts = [start for start, _ in self.sizes]
        ordered = starts == sorted(set(starts))
        require("sizes", self.sizes, ordered, "pairs (samples, side) in rising order of samples")
        return self

    def side(self, index: int, batch: int, otherwise: int) -> int:
        """Side of the crop of sample ``index``; the same for all samples of a batch."""
        first = index // batch * batch
        return next((side for start, side in reversed(self.sizes) if first >= start), otherwise)


def chosen_crop(
    photos: Sequence[Path], number: int, size: int, crops: CropRecipe, generator: Generator
) -> Tensor:
    """A crop ``(3, size, size)`` of photo ``number``, or a more colourful one of another, as the recipe says."""
    first = photos[number]
    if crops.textured + crops.colourful == 0.0:
        return random_crop(cached_photo(first), size, generator)
    style = uniform(generator, 0, 1)
    if style < crops.textured:
        same = [random_crop(cached_photo(first), size, generator) for _ in range(_CANDIDATES)]
        return max(same, key=gradient)
    if style < crops.textured + crops.colourful:
        others = torch.randint(len(photos), (_CANDIDATES,), generator=generator).tolist()
        crops_of_them = [random_crop(cached_photo(photos[other]), size, generator) for other in others]
        found = max(crops_of_them, key=colourfulness)
        return recoloured(found, generator)
    return random_crop(cached_photo(first), size, generator)


def gradient(crop: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels, ``(3, H, W)``."""
    return float(crop.diff(dim=1).abs().mean() + crop.diff(dim=2).abs().mean())


def colourfulness(crop: Tensor) -> float:
    """Mean distance of the largest channel from the smallest, ``(3, H, W)``."""
    return float((crop.amax(dim=0) - crop.amin(dim=0)).mean())


def recoloured(crop: Tensor, generator: Generator) -> Tensor:
    """Half of the time more saturated, 1.2 to 2.5 times; in 40 % of the cases with its channels in another order."""
    if uniform(generator, 0, 1) < 0.5:
        grey = crop.mean(dim=0, keepdim=True)
        crop = (grey + uniform(generator, 1.2, 2.5) * (crop - grey)).clamp(0.0, 1.0)
    if uniform(generator, 0, 1) < 0.4:
        crop = crop[torch.randperm(3, generator=generator)]
    return crop
