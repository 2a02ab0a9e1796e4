"""Training samples of every task that starts from clean photos: degraded crops, and crops of real pairs mixed in.

samples = training_samples(recipe.training, recipe.synthesis, photos, degrade)
samples[5]                       # {"input", "target"}, (3, crop, crop), RGB, [0, 1], and "kind"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from afterlens.training.data import SMALLEST, cached_photo, random_crop, seeded, uniform
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import TrainingRecipe, require
from afterlens.training.task import Sample

Degrade = Callable[[Tensor, Tensor, str, Generator], Tensor]  # photo, other photo, kind
Prepare = Callable[[Tensor, Generator], Tensor]


def of_one_frame(degrade: Degrade) -> Callable[[Tensor, Tensor, str, Generator], Sample]:
    """``Task.degrade`` of a task whose photo is the truth and whose network sees nothing but the degraded one."""
    return lambda photo, other, kind, generator: {
        "input": degrade(photo, other, kind, generator),
        "target": photo,
    }


def unchanged(photo: Tensor, generator: Generator) -> Tensor:
    """The photo itself: how most tasks prepare it."""
    return photo


@dataclass(frozen=True)
class SynthesisRecipe:
    """Shares of the kinds of samples; ``pairs`` is a folder with ``input/`` and ``target/``, "" for none."""

    pairs: str
    pairs_ratio: float
    kinds: dict[str, float]

    def __post_init__(self) -> None:
        """Raises ValueError for a share out of range."""
        require_shares(self.kinds)
        require("pairs_ratio", self.pairs_ratio, 0.0 <= self.pairs_ratio <= 1.0, "a share from 0 to 1")

    def require_kinds(self, known: Sequence[str]) -> None:
        """Raises ValueError for a kind that is not ``known``."""
        require_shares(self.kinds, known)


def require_shares(kinds: Mapping[str, float], known: Sequence[str] | None = None) -> None:
    """Raises ValueError for a share out of range, none above zero, or a kind that is not ``known``."""
    for kind, share in kinds.items():
        require(f"kinds.{kind}", share, 0.0 <= share < math.inf, "zero or more")
        if known is not None:
            require("synthesis.kinds", kind, kind in known, f"some of {', '.join(known)}")
    require("kinds", dict(kinds), sum(kinds.values()) > 0.0, "a share above zero")


class DegradedPhotos(Dataset[Sample]):
    """``{"input", "target", "kind"}``: sample ``index`` depends on the seed and the index alone.

    Input and target are ``(3, crop, crop)``; "kind" is its place among ``synthesis.kinds``, -1 of a real pair.
    ``prepare`` changes the clean photo, and so the target, before ``degrade`` makes the input of it.
    """

    def __init__(
        self,
        training: TrainingRecipe,
        synthesis: SynthesisRecipe,
        photos: Sequence[Path],
        degrade: Degrade,
        length: int,
        seed: int,
        prepare: Prepare,
    ) -> None:
        self.photos, self.length, self.seed, self.crop = list(photos), length, seed, training.crop
        self.degrade, self.prepare = degrade, prepare
        self.kinds = list(synthesis.kinds)
        self.shares = torch.tensor(list(synthesis.kinds.values()))
        self.pairs_ratio = synthesis.pairs_ratio
        self.pairs = find_pairs(Path(synthesis.pairs)) if self.pairs_ratio > 0.0 else []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        if uniform(generator, 0, 1) < self.pairs_ratio:
            return self._real_pair(generator)
        first, second = torch.randint(len(self.photos), (2,), generator=generator).tolist()
        photo = random_crop(cached_photo(self.photos[first]), self.crop, generator)
        other = random_crop(cached_photo(self.photos[second]), self.crop, generator)
        if uniform(generator, 0, 1) < 0.5:
            photo = photo ** uniform(generator, 0.75, 1.3)
        if uniform(generator, 0, 1) < 0.3:
            other = other ** uniform(generator, 0.6, 1.6)
        photo = self.prepare(photo, generator)
        kind = torch.multinomial(self.shares, 1, generator=generator)[0]
        degraded = self.degrade(photo, other, self.kinds[int(kind)], generator)
        return {"input": degraded, "target": photo, "kind": kind}

    def _real_pair(self, generator: Generator) -> Sample:
        paths = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
        crop_seed = int(torch.randint(2**31, (), generator=generator))
        degraded, target = (cached_photo(path) for path in paths)
        return {
            "input": random_crop(degraded, self.crop, seeded(crop_seed)),
            "target": random_crop(target, self.crop, seeded(crop_seed)),
            "kind": torch.tensor(-1),
        }


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Files of the same name under ``folder/input`` and ``folder/target``.

    Raises UserError if there is none, or where two do not decode or fit: a run must not stumble over it hours later.
    """
    pairs = [
        (path, folder / "target" / path.name)
        for path in sorted((folder / "input").glob("*"))
        if (folder / "target" / path.name).is_file()
    ]
    if not pairs:
        raise UserError(
            f"{folder}: no pairs, expected files of the same name in {folder}/input and {folder}/target"
        )
    for degraded, target in pairs:
        (height, width), other = (read_photo(path).rgb.shape[:2] for path in (degraded, target))
        if (height, width) != other or min(height, width) < SMALLEST:
            raise UserError(
                f"{degraded} is {width}x{height} and {target} {other[1]}x{other[0]} pixels, "
                f"expected the same size and both sides of {SMALLEST} or more"
            )
    return pairs


def training_samples(
    training: TrainingRecipe,
    synthesis: SynthesisRecipe,
    photos: Sequence[Path],
    degrade: Degrade,
    prepare: Prepare = unchanged,
) -> DegradedPhotos:
    """As many samples as any run could ask for."""
    return DegradedPhotos(training, synthesis, photos, degrade, 2**40, training.seed, prepare)


def validation_samples(
    training: TrainingRecipe,
    synthesis: SynthesisRecipe,
    photos: Sequence[Path],
    degrade: Degrade,
    prepare: Prepare = unchanged,
) -> DegradedPhotos:
    """Four fixed samples a held-out photo, of the kinds trained on; no real pairs, since none is held out."""
    only_synthetic = replace(synthesis, pairs_ratio=0.0)
    return DegradedPhotos(training, only_synthetic, photos, degrade, 4 * len(photos), -1, prepare)
