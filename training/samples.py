"""Samples for every task that starts from clean photos: degraded crops, with crops of captured pairs mixed in.

records = index(recipe.training, recipe.synthesis, photos)
samples = training_samples(recipe.training, recipe.synthesis, records, degrade)
samples[5]                       # {"input", "target"}, (3, crop, crop), RGB, [0, 1], and "kind"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import Generator, Tensor
from torch.utils.data import ConcatDataset, Dataset

from afterlens.training.crops import CropRecipe, chosen_crop
from afterlens.training.data import (
    SMALLEST,
    cached_original,
    cached_photo,
    index_photos,
    random_crop,
    seeded,
    uniform,
    unscaled_crop,
)
from afterlens.training.media.images import fit, read_photo
from afterlens.training.pairs import check_sizes, find_pairs
from afterlens.training.recipe import Recipe, Share, TrainingRecipe, Weight, require
from afterlens.training.task import Record, Sample

CAPTURED_KIND = -1
"""The "kind" of a captured pair; synthetic samples have their place among ``synthesis.kinds``."""

Degrade = Callable[[Tensor, Tensor, str, Generator], Tensor]  # photo, other photo, kind
DegradeSample = Callable[[Tensor, Tensor, str, Generator], Sample]  # the same, as `Task.degrade` has it
Examples = Callable[[Any, Sequence[Path], int, int, int, int], Iterator[tuple[str, Sample]]]

_RANDOM_CROPS = CropRecipe()
PER_PHOTO = 4  # validation samples of each held-out photo or pair


def of_one_frame(degrade: Degrade) -> DegradeSample:
    """``Task.degrade`` where the photo is the ground truth and the network sees nothing but the degraded one."""
    return lambda photo, other, kind, generator: {
        "input": degrade(photo, other, kind, generator),
        "target": photo,
    }


class SynthesisRecipe(Recipe):
    """Shares of the kinds of samples; ``pairs`` is a folder with ``input/`` and ``target/``, "" for none."""

    pairs: str
    pairs_ratio: Share
    kinds: dict[str, Weight]

    @model_validator(mode="after")
    def _some_share(self) -> Self:
        require_shares(self.kinds)
        return self


def require_shares(kinds: Mapping[str, float], known: Sequence[str] | None = None) -> None:
    """For recipes: ValueError where no share is above zero, or a kind is not ``known``."""
    for kind in kinds:
        if known is not None:
            require("synthesis.kinds", kind, kind in known, f"some of {', '.join(known)}")
    require("kinds", dict(kinds), sum(kinds.values()) > 0.0, "a share above zero")


def index(
    training: TrainingRecipe, synthesis: SynthesisRecipe, photos: Sequence[Path], unscaled: bool = False
) -> list[Record]:
    """Records of the photos, and of the captured pairs where the recipe mixes some in.

    ``unscaled``: pairs are cropped at their own scale, and so must be as large as a crop.
    """
    if synthesis.pairs_ratio == 0.0:
        return index_photos(photos)
    pairs = find_pairs(Path(synthesis.pairs))
    check_sizes(pairs, max(SMALLEST, training.crop) if unscaled else SMALLEST)
    return index_photos(photos) + [
        Record(pair.input, group=pair.target.name, files={"target": pair.target}, captured=True)
        for pair in pairs
    ]


class DegradedPhotos(Dataset[Sample]):
    """``{"input", "target", "kind"}``: sample ``index`` depends on the seed and the index alone.

    Input and target are ``(3, crop, crop)``, and ``crops`` says how large and where from; "kind" is its place among
    ``synthesis.kinds``, or ``CAPTURED_KIND``. Captured pairs among the records take the share ``synthesis.pairs_ratio``.
    """

    def __init__(
        self,
        training: TrainingRecipe,
        synthesis: SynthesisRecipe,
        records: Sequence[Record],
        degrade: DegradeSample,
        length: int,
        seed: int,
        crops: CropRecipe,
    ) -> None:
        self.photos = [record.photo for record in records if not record.captured]
        self.length, self.seed, self.crop, self.batch = length, seed, training.crop, training.batch
        self.crops = crops
        self.degrade = degrade
        self.kinds = list(synthesis.kinds)
        self.shares = torch.tensor(list(synthesis.kinds.values()))
        self.pairs = [record for record in records if record.captured]
        self.pairs_ratio = synthesis.pairs_ratio if self.pairs else 0.0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        crop = self.crops.side(index, self.batch, self.crop)
        if uniform(generator, 0, 1) < self.pairs_ratio:
            pair = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
            return captured_sample(pair, crop, generator, unscaled=False)
        first, second = torch.randint(len(self.photos), (2,), generator=generator).tolist()
        photo = chosen_crop(self.photos, first, crop, self.crops, generator)
        other = random_crop(cached_photo(self.photos[second]), crop, generator)
        if uniform(generator, 0, 1) < 0.5:
            photo = photo ** uniform(generator, 0.75, 1.3)
        if uniform(generator, 0, 1) < 0.3:
            other = other ** uniform(generator, 0.6, 1.6)
        kind = torch.multinomial(self.shares, 1, generator=generator)[0]
        sample = self.degrade(photo, other, self.kinds[int(kind)], generator)
        return {"input": sample["input"], "target": sample["target"], "kind": kind}


class HeldOutPairs(Dataset[Sample]):
    """Four fixed crops of each captured pair, as `DegradedPhotos` has them."""

    def __init__(self, pairs: Sequence[Record], crop: int, unscaled: bool) -> None:
        self.pairs, self.crop, self.unscaled = list(pairs), crop, unscaled

    def __len__(self) -> int:
        return PER_PHOTO * len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        return captured_sample(
            self.pairs[index // PER_PHOTO], self.crop, seeded(-1, -1, index), self.unscaled
        )


def captured_sample(pair: Record, crop: int, generator: Generator, unscaled: bool) -> Sample:
    """The same random square of both pictures; ``unscaled``: at the pair's own scale."""
    crop_seed = int(torch.randint(2**31, (), generator=generator))
    read, cut = (cached_original, unscaled_crop) if unscaled else (cached_photo, random_crop)
    return {
        "input": cut(read(pair.photo), crop, seeded(crop_seed)),
        "target": cut(read(pair.files["target"]), crop, seeded(crop_seed)),
        "kind": torch.tensor(CAPTURED_KIND),
    }


def training_samples(
    training: TrainingRecipe,
    synthesis: SynthesisRecipe,
    records: Sequence[Record],
    degrade: DegradeSample,
    crops: CropRecipe = _RANDOM_CROPS,
) -> DegradedPhotos:
    """As many samples as any run could ask for."""
    return DegradedPhotos(training, synthesis, records, degrade, 2**40, training.seed, crops)


def validation_samples(
    training: TrainingRecipe,
    synthesis: SynthesisRecipe,
    records: Sequence[Record],
    degrade: DegradeSample,
    crops: CropRecipe = _RANDOM_CROPS,
) -> ConcatDataset[Sample] | DegradedPhotos:
    """Four fixed samples of each held-out photo, of the kinds trained on, after four of each held-out pair."""
    photos = [record for record in records if not record.captured]
    pairs = [record for record in records if record.captured]
    length = PER_PHOTO * len(photos)
    fixed = crops.model_copy(update={"sizes": ()})
    degraded = DegradedPhotos(training, synthesis, photos, degrade, length, -1, fixed)
    return (
        ConcatDataset([HeldOutPairs(pairs, training.crop, unscaled=False), degraded]) if pairs else degraded
    )


def examples_by(degrade: DegradeSample) -> Examples:
    """``Task.examples``: clean photos fitted to the size, then degraded by the kinds that the recipe trains on.

    Photos and kinds take turns.
    """

    def examples(
        recipe: Any, photos: Sequence[Path], height: int, width: int, count: int, seed: int
    ) -> Iterator[tuple[str, Sample]]:
        kinds = [kind for kind, share in recipe.synthesis.kinds.items() if share > 0.0]
        clean = [
            torch.from_numpy(fit(read_photo(path).rgb, height, width)).permute(2, 0, 1) for path in photos
        ]
        for number in range(count):
            kind, which = kinds[number % len(kinds)], (number + number // len(kinds)) % len(photos)
            other = clean[(which + 1) % len(photos)]
            sample = degrade(clean[which], other, kind, seeded(seed, number))
            yield f"{photos[which].stem} {kind} {number}", sample

    return examples
