"""Samples for the identity swap: triplets of source, first and target, and the source laid on the first.

records = index_triplets(photos)
sample = swap_sample(records[0], 256, seeded(7))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Generator
from torch.utils.data import Dataset

from afterlens.training.data import as_picture, cached_original, log_uniform, seeded, uniform
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.portraits import CIRCLE, read_labels
from afterlens.training.faces.regions import face_mask
from afterlens.training.media.errors import UserError
from afterlens.training.task import Record, Sample

_FIRST = "_first.png"
_TREMBLE = 0.5  # pixels of 256, standard deviation: as landmarks that were found tremble
_WASHED_OUT = 0.1  # share of the training samples whose levels are all near black or all near white
_DIFFERENT = 0.02  # from which a pixel of first and target differs


def index_triplets(photos: Sequence[Path]) -> list[Record]:
    """A record of each triplet among the photos: NAME_first.png with NAME_source.png and NAME_target.png beside it.

    People of one circle are one group. Raises UserError where there is no triplet, or a part of one is missing.
    """
    records = []
    for first in photos:
        if not first.name.endswith(_FIRST):
            continue
        stem = first.name.removesuffix(_FIRST)
        files = {name: first.with_name(f"{stem}_{name}.png") for name in ("source", "target")}
        for file in files.values():
            if not file.is_file():
                raise UserError(f"{file}: missing, {first.name} needs it; render the triplets again")
        labels = read_labels(first)
        if labels is None:
            raise UserError(f"{first}: no labels beside it; render the triplets again")
        records.append(Record(first, f"circle {labels.person // CIRCLE}", files, landmarks=labels.landmarks))
    if not records:
        raise UserError(
            f"no triplet among {len(photos)} photos; render some: afterlens heads ASSETS --triplets -o TRIPLETS"
        )
    return records


class SwapSamples(Dataset[Sample]):
    """Training samples: sample ``index`` depends on the seed and the index alone.

    Without ``triplets`` the targets are not used. Half of the samples are frames to be made of another portrait of the very
    person in them, and the other half swaps without an answer, as systems without triplets train.
    """

    def __init__(self, records: Sequence[Record], crop: int, seed: int, triplets: bool = True) -> None:
        self.records, self.crop, self.seed, self.triplets = list(records), crop, seed, triplets
        self.portraits: dict[int, list[Path]] = {}
        for record in () if triplets else self.records:
            self.portraits.setdefault(_person(record.files["source"]), []).append(record.files["source"])

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        record = self.records[int(torch.randint(len(self.records), (), generator=generator))]
        if self.triplets:
            return swap_sample(record, self.crop, generator, varied=True)
        own = self.portraits.get(_person(record.photo), [])
        source, known = record.files["source"], 0.0
        if own and uniform(generator, 0, 1) < 0.5:
            source, known = own[int(torch.randint(len(own), (), generator=generator))], 1.0
        files = {"source": source, "target": record.photo}
        sample = swap_sample(replace(record, files=files), self.crop, generator, varied=True, triplets=False)
        return sample | {"known": torch.tensor(known)}


def _person(photo: Path) -> int:
    labels = read_labels(photo)
    assert labels is not None
    return labels.person


class HeldOutSwaps(Dataset[Sample]):
    """Each held-out triplet as it is."""

    def __init__(self, records: Sequence[Record], crop: int) -> None:
        self.records, self.crop = list(records), crop

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        return swap_sample(self.records[index], self.crop, seeded(-1, index))


def swap_sample(
    record: Record, side: int, generator: Generator, varied: bool = False, triplets: bool = True
) -> Sample:
    """One triplet.

    Args:
        triplets: whether the target is there to be compared with; else the whole face counts as changed.
        varied: another light, perhaps mirrored, and landmarks that tremble, as training sees it.

    Returns: "frame", "laid", "source" and "target", ``(3, side, side)`` RGB [0, 1]; "changed", ``(1, side, side)``, 1 where
        first and target differ, with a soft rim; "known", 1: the target is the answer.
    """
    light = 2.0 ** uniform(generator, -0.4, 0.4) if varied else 1.0
    other_light = 2.0 ** uniform(generator, -0.3, 0.3) if varied else 1.0
    gains = 1.0 + (0.06 if varied else 0.0) * torch.randn(3, generator=generator).numpy()
    frame, target = (_read(path, side) for path in (record.photo, record.files["target"]))
    changed = where_changed(frame, target)
    frame, target = ((picture**light * gains).clip(0.0, 1.0) for picture in (frame, target))
    source = _read(record.files["source"], side) ** other_light
    labels = read_labels(record.files["source"])
    assert labels is not None
    scale = side / SIDE
    landmarks = [
        np.array(points, np.float32) * np.float32(scale) for points in (labels.landmarks, record.landmarks)
    ]
    if varied:
        noise = _TREMBLE * scale * torch.randn(2, *landmarks[0].shape, generator=generator).numpy()
        landmarks = [points + tremble for points, tremble in zip(landmarks, noise, strict=True)]
    if not triplets:
        changed = face_mask(landmarks[1], side)[..., None]
    laid, _ = lay(source, landmarks[0], frame, landmarks[1])
    sample = {"frame": frame, "laid": laid, "source": source, "target": target, "changed": changed}
    if varied and uniform(generator, 0, 1) < _WASHED_OUT:
        end, times = float(torch.randint(2, (), generator=generator)), log_uniform(generator, 2.0, 16.0)
        for name in ("frame", "laid", "target"):
            sample[name] = end + (sample[name] - end) / times
    mirrored = varied and uniform(generator, 0, 1) < 0.5
    pictures = {
        name: as_picture(picture[:, ::-1] if mirrored else picture) for name, picture in sample.items()
    }
    return pictures | {"known": torch.tensor(1.0)}


def _read(path: Path, side: int) -> Floats:
    picture = cached_original(path).astype(np.float32) / 255.0
    if picture.shape[0] != picture.shape[1]:
        height, width = picture.shape[:2]
        raise UserError(f"{path}: {width}x{height} pixels, expected the aligned square of a triplet")
    if picture.shape[0] == side:
        return picture
    method = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), interpolation=method), np.float32)


def where_changed(first: Floats, target: Floats) -> Floats:
    """``(side, side, 1)`` in [0, 1]: where two pictures ``(side, side, 3)`` differ, without specks, with a soft rim."""
    side = first.shape[0]
    differs = (abs(target - first).max(axis=2) > _DIFFERENT).astype(np.uint8)
    reach = max(3, side // 40) | 1
    solid = cv2.morphologyEx(differs, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    solid = cv2.dilate(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    return np.asarray(cv2.blur(solid.astype(np.float32), (reach, reach)), np.float32)[..., None]
