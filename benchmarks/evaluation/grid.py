"""A sheet of captioned pictures, for people to look at."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from afterlens.training.media.images import write_png

CELL = 480
"""Largest side of a picture on the sheet, in pixels; larger ones are scaled down, small ones up by whole factors."""

_CAPTION, _GAP = 26, 8


@dataclass(frozen=True)
class Cell:
    """A picture `(1, 3, H, W)`, RGB, [0, 1], and the line under it."""

    image: Tensor
    caption: str


def write_grid(path: Path, rows: list[list[Cell]]) -> None:
    """Write the rows of pictures as one PNG, atomically. Raises UserError where it cannot be written."""
    pictures = [[_picture(cell.image) for cell in row] for row in rows]
    widths = [max(picture.width for picture in column) for column in zip(*pictures, strict=True)]
    # room for the caption of a picture that is narrower than its own text
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


def _picture(image: Tensor) -> Image.Image:
    pixels = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    factor = CELL // max(picture.size)
    # nearest: enlarging must not smooth away what there is to see
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _fit(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    """The text, its middle cut out where it is wider than `width` pixels."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # file names need not be valid text
    if draw.textlength(text, font) <= width:
        return text
    for kept in range(len(text) // 2, 0, -1):
        shorter = f"{text[:kept]}…{text[-kept:]}"
        if draw.textlength(shorter, font) <= width:
            return shorter
    return ""
