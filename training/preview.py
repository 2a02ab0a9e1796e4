"""A contact sheet of what a recipe trains on, to be looked at before hours of computing.

afterlens train reflection PHOTOS... --preview sheet.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from afterlens.training.data import SMALLEST, cached_photo, find_faults, random_crop, ranked, seeded
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos, write_png
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Task

_COLUMNS = 8
_LABEL = 24  # pixels, height of a kind's title


def contact_sheet(task: Task, data: Sequence[Path], out: Path, *, overrides: Sequence[str] = ()) -> None:
    """Writes a PNG to ``out``: one row a kind of degradation, titled, each column an input over its target.

    The pictures are made by the same functions as the training samples, from photos picked by the hash of their names.

    Args:
        overrides: recipe changes, "table.key=value".

    Raises:
        UserError: a task without degradations, no usable photo, unknown recipe key, ``out`` can't be written.
    """
    degrade = task.degrade
    if degrade is None:
        raise UserError(f"{task.name} has no kinds of degradation to show; leave out --preview")
    recipe: Any = read_recipe(task.recipe_type, task.recipe_path, overrides)
    if task.degrade_by is not None:
        degrade = task.degrade_by(recipe)
    crop, seed = recipe.training.crop, recipe.training.seed
    photos = _some_photos(find_photos(data))
    sheet = Image.new("RGB", (_COLUMNS * crop, len(task.kinds) * (2 * crop + _LABEL)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for row, kind in enumerate(task.kinds):
        top = row * (2 * crop + _LABEL)
        draw.text((4, top + 2), f"{kind}: input over target", fill="black", font=font)
        for column in range(_COLUMNS):
            generator = seeded(seed, row, column)
            photo = random_crop(cached_photo(photos[column % len(photos)]), crop, generator)
            other = random_crop(cached_photo(photos[(column + 1) % len(photos)]), crop, generator)
            sample = degrade(photo, other, kind, generator)
            for below, picture in enumerate((sample["input"], sample["target"])):
                pixels = np.rint(picture.permute(1, 2, 0).numpy() * 255.0).astype(np.uint8)
                sheet.paste(Image.fromarray(pixels), (column * crop, top + _LABEL + below * crop))
    write_png(out, np.asarray(sheet, np.float32) / 255.0)


def _some_photos(paths: Sequence[Path]) -> list[Path]:
    """Usable photos, one a column where there are enough: a large folder need not be read in full."""
    usable: list[Path] = []
    queue = ranked(paths)
    while queue and len(usable) < _COLUMNS:
        some, queue = queue[:_COLUMNS], queue[_COLUMNS:]
        usable += [path for path, fault in zip(some, find_faults(some, SMALLEST), strict=True) if not fault]
    if not usable:
        raise UserError(f"no usable photo among {len(paths)} files")
    return usable
