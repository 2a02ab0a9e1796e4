"""Portraits on disk: an aligned square PNG, and beside it a JSON file that says what is exactly known of it.

write_portrait(folder / "00012_3.png", picture, Labels(...))
for record in index_portraits(photos):       # rendered ones by their labels, other photos by the face found in them
    square, landmarks = aligned_square(record, side=256)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from afterlens.training.data import cached_original
from afterlens.training.faces.align import PLACES, SIDE, alignment, cut, moved, three_points
from afterlens.training.faces.detect import POINTS, Floats, find_faces
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, write_png
from afterlens.training.task import Record

CIRCLE = 20
"""People with neighbouring numbers swap faces with each other only, so that people can be held out."""

_NEAR = 14.0  # pixels of 256: eyes and mouth of an aligned square are that near to their places


class Labels(BaseModel):
    """What is known of a portrait; of a photo nobody knows more than who it shows and where the face is.

    Attributes:
        person: number of the identity shown; pictures of one person belong on one side of the held-out split.
        sex: of skin and hair.
        tone: of the skin, 1 to 10 on the Monk scale.
        hair_colour: sRGB [0, 1].
        collar, glasses: what is worn.
        landmarks: 468 points (x, y) in pixels of the picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    person: int
    sex: Literal["female", "male"] | None = None
    tone: float | None = None
    hair_colour: tuple[float, float, float] | None = None
    collar: str | None = None
    glasses: bool | None = None
    landmarks: tuple[tuple[float, float], ...]


def write_portrait(path: Path, picture: Floats, labels: Labels) -> None:
    """The picture ``(H, W, 3)`` in [0, 1] as ``path``, a PNG, after its labels as a .json beside it."""
    with atomic_path(path.with_suffix(".json")) as partial:
        partial.write_text(labels.model_dump_json(), "utf-8")
    write_png(path, picture)


def read_labels(photo: Path) -> Labels | None:
    """What is known of a picture; None where no .json lies beside it. Raises UserError where that is none of ours."""
    path = photo.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        labels = Labels.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(f"{path}: no labels of a portrait ({reason}); remove or replace it") from error
    if len(labels.landmarks) != POINTS:
        raise UserError(f"{path}: {len(labels.landmarks)} landmarks, expected {POINTS}")
    return labels


def hair_of(photo: Path) -> Floats | None:
    """Colour of the hair of a rendered person, sRGB ``(3,)``; None where nobody knows it."""
    labels = read_labels(photo)
    if labels is None or labels.hair_colour is None:
        return None
    return np.array(labels.hair_colour, np.float32)


def index_portraits(photos: Sequence[Path]) -> list[Record]:
    """A record of each photo with a face, with its landmarks; of several faces the largest.

    Rendered pictures of one person are one group. Raises UserError where no photo has a face.
    """
    records = []
    for photo in photos:
        labels = read_labels(photo)
        if labels is not None:
            records.append(Record(photo, group=f"person {labels.person}", landmarks=labels.landmarks))
            continue
        for face in find_faces(cached_original(photo))[:1]:
            points = tuple((float(x), float(y)) for x, y in face.landmarks)
            records.append(Record(photo, group=photo.name, landmarks=points))
    if not records:
        raise UserError(
            f"no face in any of {len(photos)} photos; give portraits, or render some: afterlens heads"
        )
    return records


def aligned_square(record: Record, side: int) -> tuple[Floats, Floats]:
    """The face of a record as ``(side, side, 3)`` RGB [0, 1], and its landmarks there, ``(468, 2)``.

    A square picture whose eyes and mouth are about where they belong is only scaled: rendered portraits are a little
    off on purpose, as the faces found in photos are.
    """
    picture = cached_original(record.photo).astype(np.float32) / 255.0
    landmarks = np.array(record.landmarks, np.float32)
    height, width = picture.shape[:2]
    scale = side / width
    away = np.linalg.norm(three_points(landmarks) * (SIDE / width) - PLACES, axis=1)
    if height == width and away.max() < _NEAR:
        method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        square = picture if scale == 1.0 else cv2.resize(picture, (side, side), interpolation=method)
        return square, landmarks * np.float32(scale)
    into = alignment(landmarks, side)
    return cut(picture, into, side), moved(landmarks, into)
