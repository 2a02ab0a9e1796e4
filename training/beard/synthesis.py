"""Samples for the beard task: aligned faces, a class of beard drawn on each, and what is wanted of the network.

records = gathered(index_portraits(photos), ratio)       # each face with its class, in the set's preset ratio
sample = beard_sample(record, "remove", 256, seeded(7), hair_of(record.photo))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from afterlens.training.data import Strata, as_picture, ranked, seeded, uniform
from afterlens.training.faces.beards import AMOUNTS, CLASSES, draw_beard, photographed
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.heads.identity import HAIR
from afterlens.training.faces.laid_beards import grown_on_mean_head, laid, lay_beard
from afterlens.training.faces.portraits import aligned_square, hair_of
from afterlens.training.faces.regions import face_mask
from afterlens.training.media.errors import UserError
from afterlens.training.task import Record, Sample

DIRECTIONS = ("remove", "add", "keep")
"""What is wanted: no beard, the drawn one, or what there is already."""

_OLD_BEARDS = 0.25  # share of the faces to put a beard on that wear another one
_ANY_HAIR = (
    0.5  # share of the training beards of any colour: white ones on dark skin are rare else, and were left
)
_PICTURES = ("image", "laid", "target")


def gathered(faces: Sequence[Record], ratio: Sequence[float]) -> list[Record]:
    """Bare faces dealt to the classes in a preset ratio: each gets the ``label`` of the beard that it will wear.

    Counts are exact but for rounding (largest remainders). Who gets which class depends on the names alone, and looks
    random.

    Raises UserError where there are too few faces for a class with a share to get one.
    """
    quotas = np.array(ratio) / np.sum(ratio) * len(faces)
    counts = np.floor(quotas).astype(int)
    remainders = np.argsort(counts - quotas, kind="stable")
    counts[remainders[: len(faces) - counts.sum()]] += 1
    for name, share, count in zip(CLASSES, ratio, counts, strict=True):
        if share > 0.0 and count == 0:
            raise UserError(f"{len(faces)} faces are too few for a share of {share} of {name}; give more")
    by_photo = {face.photo: face for face in faces}
    dealt = zip(ranked(list(by_photo)), np.repeat(np.arange(len(CLASSES)), counts).tolist(), strict=True)
    return [replace(by_photo[photo], label=label) for photo, label in dealt]


class BeardSamples(Dataset[Sample]):
    """Training samples: sample ``index`` depends on the seed and the index alone.

    Every batch has each class in its preset share (`Strata`), whatever the set's own ratio is. Records that are
    ``captured``, photos of real beards, are further examples for the discriminator: each sample has "real" and
    "real_wanted", half of the time one of them of the sample's class where there are any, else its own target.
    """

    def __init__(
        self,
        records: Sequence[Record],
        shares: Sequence[float],
        directions: Sequence[float],
        crop: int,
        batch: int,
        seed: int,
    ) -> None:
        self.strata = Strata([record for record in records if not record.captured], shares, batch, seed)
        self.photos = [record for record in records if record.captured]
        self.directions, self.crop, self.seed = torch.tensor(directions), crop, seed

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        record = self.strata.record(index, generator)
        direction = DIRECTIONS[int(torch.multinomial(self.directions, 1, generator=generator))]
        hair = hair_of(record.photo)
        if uniform(generator, 0, 1) < _ANY_HAIR:
            hair = HAIR[int(torch.randint(len(HAIR), (), generator=generator))]
        sample = varied(beard_sample(record, direction, self.crop, generator, hair), generator)
        real = {"real": sample["target"], "real_wanted": sample["wanted"]}
        alike = [photo for photo in self.photos if photo.label == record.label]
        if alike and uniform(generator, 0, 1) < 0.5:
            real = _photographed(alike[int(torch.randint(len(alike), (), generator=generator))], self.crop)
        return sample | real


def _photographed(record: Record, side: int) -> Sample:
    assert record.label is not None
    square, _ = aligned_square(record, side)
    return {
        "real": as_picture(square.clip(0.0, 1.0)),
        "real_wanted": torch.tensor(AMOUNTS[CLASSES[record.label]]),
    }


class HeldOutBeards(Dataset[Sample]):
    """Each held-out face with its beard, which is to be removed; bare ones are to stay.

    "full" is the bare face with a full beard laid on.
    """

    def __init__(self, records: Sequence[Record], crop: int) -> None:
        self.records, self.crop = list(records), crop

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        bare, landmarks = aligned_square(record, self.crop)
        full = as_picture(lay_beard(bare, landmarks, AMOUNTS["full"]))
        hair = hair_of(record.photo)
        return beard_sample(record, "remove", self.crop, seeded(-1, index), hair) | {"full": full}


def beard_sample(
    record: Record, direction: str, side: int, generator: Generator, hair: Floats | None
) -> Sample:
    """One face, with and without the beard of the record's class; ``hair`` as for `beards.draw_beard`.

    A beard that is to be put on lies on the face already, in a light of its own; a quarter of these faces wear another beard
    below it, which has to go.

    Returns: "image", "laid" (the image with the wanted beard laid on; the image itself where none is) and "target",
        ``(3, side, side)`` RGB [0, 1]; "wanted", ``(3,)``; "face", the soft mask of the face that carries the beard,
        "beard", that of the drawn beard, and "changed", that of what has to change, each ``(1, side, side)``; "label",
        the class drawn.
    """
    assert record.label is not None
    bare, landmarks = aligned_square(record, side)
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    kind = CLASSES[record.label]
    if direction == "add":
        growth = laid(grown_on_mean_head(kind, rng, hair), landmarks, side)
        beard = photographed(growth, bare, landmarks, rng)
        image, target, wanted, changed = bare, beard.over(bare), beard.amounts, beard.mask
        if kind != "none" and rng.random() < _OLD_BEARDS:
            old = draw_beard(bare, landmarks, CLASSES[rng.integers(1, len(CLASSES))], rng, hair)
            image, changed = old.over(bare), np.maximum(changed, old.mask)
        ready = growth.in_light(image, 1.0).over(image)
    else:
        beard = draw_beard(bare, landmarks, kind, rng, hair)
        worn = beard.over(bare)
        keeps_bare = direction == "keep" and rng.random() < 0.5
        image = bare if keeps_bare else worn
        target = worn if direction == "keep" and not keeps_bare else bare
        wanted = beard.amounts if target is worn else AMOUNTS["none"]
        changed = np.zeros_like(beard.mask) if direction == "keep" else beard.mask
        ready = image
    face = np.maximum(face_mask(landmarks, side), np.maximum(beard.mask, changed))
    return {
        "image": as_picture(image),
        "laid": as_picture(ready),
        "target": as_picture(target),
        "wanted": torch.tensor(wanted),
        "face": torch.from_numpy(face)[None],
        "beard": torch.from_numpy(beard.mask)[None],
        "changed": torch.from_numpy(changed)[None],
        "label": torch.tensor(record.label),
    }


def varied(sample: Sample, generator: Generator) -> Sample:
    """The sample perhaps mirrored, in another light: the same for the image and its target."""
    mirrored = uniform(generator, 0, 1) < 0.5
    gamma = 2.0 ** uniform(generator, -0.4, 0.4)
    gains = 1.0 + 0.06 * torch.randn(3, 1, 1, generator=generator)

    def change(name: str, value: Tensor) -> Tensor:
        if value.ndim == 3 and mirrored:
            value = value.flip(-1)
        return (value**gamma * gains).clamp(0.0, 1.0) if name in _PICTURES else value

    return {name: change(name, value) for name, value in sample.items()}
