"""Triplets for tests, out of the bundled portraits: the target is the first with the source laid on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from afterlens.samples import FACES, HELD_OUT_FACES
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.portraits import Labels, read_labels, write_portrait
from afterlens.training.media.images import read_photo

PORTRAITS = [*FACES, *HELD_OUT_FACES]


def portrait(number: int) -> tuple[np.ndarray, np.ndarray, Labels]:
    """Picture, landmarks and labels of a bundled portrait."""
    path = PORTRAITS[number % len(PORTRAITS)]
    labels = read_labels(path)
    assert labels is not None
    return read_photo(path).rgb, np.array(labels.landmarks, np.float32), labels


def write_some(folder: Path, count: int) -> Path:
    """``count`` triplets; each first is of another circle of people."""
    for number in range(count):
        first, landmarks, worn = portrait(number)
        source, points, own = portrait(number + 1)
        target, _ = lay(source, points, first, landmarks)
        people = {"first": 20 * number, "source": 20 * number + 1, "target": 20 * number + 1}
        shown = {"first": (first, worn), "source": (source, own), "target": (target, worn)}
        for name, (picture, labels) in shown.items():
            write_portrait(
                folder / f"{number:05d}_0_{name}.png",
                picture,
                labels.model_copy(update={"person": people[name]}),
            )
    return folder
