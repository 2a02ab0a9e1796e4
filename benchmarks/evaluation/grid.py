"""A sheet of captioned pictures for visual comparison."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from afterlens.training.media.images import atomic_path, write_png

CELL = 480
"""Longer side of a picture on the sheet, in pixels, at most; small pictures are enlarged by integer factors."""

_CAPTION, _GAP = 26, 8


@dataclass(frozen=True)
class Cell:
    """A picture `(1, 3, H, W)`, RGB, [0, 1], and its caption."""

    image: Tensor
    caption: str


def write_grid(path: Path, rows: list[list[Cell]]) -> None:
    """Write rows of pictures as one PNG, atomically. Raises UserError where the file cannot be written."""
    pictures = [[_picture(cell.image) for cell in row] for row in rows]
    widths = [max(picture.width for picture in column) for column in zip(*pictures, strict=True)]
    # narrow pictures still leave room for their captions
    widths = [max(width, 360) for width in widths]
    heights = [max(picture.height for picture in row) + _CAPTION for row in pictures]
    sheet = Image.new(
        "RGB", (sum(widths) + _GAP * (len(widths) + 1), sum(heights) + _GAP * (len(heights) + 1)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    top = _GAP
    for row, cells, height in zip(pictures, rows, heights, strict=True):
        left = _GAP
        for picture, cell, width in zip(row, cells, widths, strict=True):
            sheet.paste(picture, (left, top))
            draw.text((left, top + picture.height + 4), _fit(draw, cell.caption, font, width), "black", font)
            left += width + _GAP
        top += height + _GAP
    write_png(path, np.asarray(sheet, np.float32) / 255)


def write_result(path: Path, result: Mapping[str, Any], rows: list[list[Cell]]) -> None:
    """The result as JSON to ``path``, and a sheet beside it, a PNG of the same name."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_grid(path.with_suffix(".png"), rows)


def _picture(image: Tensor) -> Image.Image:
    pixels = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    factor = CELL // max(picture.size)
    # nearest neighbour: interpolation would hide artefacts
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _fit(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """The text, with its middle replaced by an ellipsis if it is wider than `width` pixels."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # file names need not be valid text
    if draw.textlength(text, font) <= width:
        return text
    for kept in range(len(text) // 2, 0, -1):
        shorter = f"{text[:kept]}…{text[-kept:]}"
        if draw.textlength(shorter, font) <= width:
            return shorter
    return ""
