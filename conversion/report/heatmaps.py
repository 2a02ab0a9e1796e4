"""Where a variant differs from PyTorch: the heat maps of a bundle, brightened, with a scale and the worst region.

`verify` stores the largest difference of the three channels as a ramp from black over red and yellow to white at 1/16 of
the range. Most differences are far smaller than that and look black, so each map gets a scale of its own here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afterlens.conversion.bundle.proof import Proof, ProvenArtifact, Quality, Tile
from afterlens.conversion.bundle.variants import FORMATS, label
from afterlens.conversion.report.templates import Picture, jpeg
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo

SHOWN_DROP = 0.05
"""dB on the worst picture; variants that lose less are not shown."""

STORED_LEVELS = 255 / 16  # of 255, where the stored ramp ends
SCALES = (0.5, 1, 2, 4, 8, 16)  # of 255
MAX_SIDE = 480  # pixels of a map
# Dark to bright in equal steps for the eye: nine samples of matplotlib's "magma". report.css has the same.
COLOURS = ("000004", "1d1147", "51127c", "832681", "b73779", "e75263", "fc8961", "fec488", "fcfdbf")


@dataclass(frozen=True)
class HeatMap:
    """The worst picture of a variant, and the worst tile of it enlarged beside it."""

    picture: Picture
    title: str
    place: str
    scale: str  # where its colours end, in levels of 255


def heat_maps(folder: Path, proof: Proof) -> list[HeatMap]:
    """One for each variant that loses SHOWN_DROP dB or more, of the size that loses most.

    Raises UserError if a heat map of the bundle `folder` is a link or not a picture.
    """
    chosen: dict[tuple[str, str], tuple[ProvenArtifact, Quality, Path]] = {}
    for entry in proof.artifacts:
        quality = entry.quality
        path = None if quality is None else _stored(folder, quality)
        key = (entry.format, entry.variant)
        if (
            quality is not None
            and path is not None
            and (key not in chosen or quality.drop > chosen[key][1].drop)
        ):
            chosen[key] = (entry, quality, path)
    return [_heat_map(*found) for found in chosen.values()]


def worst_words(quality: Quality) -> str:
    """The picture that loses most and its worst tile, as in `hall: 0.93 dB (1.86 dB at x 16, y 0)`."""
    worst, tile = quality.worst, quality.worst.tile
    return f"{worst.image}: {worst.drop:.2f} dB ({tile.drop:.2f} dB at x {tile.x}, y {tile.y})"


def _stored(folder: Path, quality: Quality) -> Path | None:
    """The picture's file, None if there is none worth showing. Its name was checked when the proof was read."""
    if quality.worst.heatmap is None or quality.worst.drop < SHOWN_DROP:
        return None
    path = folder / quality.worst.heatmap
    if path.is_symlink() or path.parent.is_symlink():
        raise UserError(f"{path}: is a link; a bundle holds only its own files, do not use this one")
    return path if path.is_file() else None


def _heat_map(entry: ProvenArtifact, quality: Quality, path: Path) -> HeatMap:
    # The stored ramp fills red, then green, then blue, a third of it each.
    levels = read_photo(path).rgb.mean(axis=2) * STORED_LEVELS
    peak = float(np.quantile(levels, 0.998))
    scale = next((scale for scale in SCALES if scale >= peak), SCALES[-1])
    tile = quality.worst.tile
    title = f"{FORMATS[entry.format]} {label(entry.format, entry.variant)}, {entry.width}x{entry.height}"
    words = worst_words(quality)
    picture = jpeg(_drawn(levels / scale, tile), f"Heat map, {title}: {words}", "")
    return HeatMap(picture, title, words, f"{scale:g}")


def _drawn(heat: NDArray[np.float32], tile: Tile) -> NDArray[np.uint8]:
    """The map in colours, the tile outlined; beside it, at the same height, the tile alone. (H, W, 3)"""
    ramp = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in COLOURS], np.float64)
    at = np.clip(heat, 0.0, 1.0) * (len(ramp) - 1)
    rgb = np.stack([np.interp(at, np.arange(len(ramp)), ramp[:, c]) for c in range(3)], axis=2)
    whole = Image.fromarray(np.rint(rgb).astype(np.uint8))
    height, width = heat.shape
    if not _inside(tile, width, height):
        return np.asarray(whole)
    detail = whole.crop((tile.x, tile.y, tile.x + tile.width, tile.y + tile.height))
    factor = min(MAX_SIDE / max(width, height), max(1.0, MAX_SIDE // max(width, height)))
    shown = (max(1, round(width * factor)), max(1, round(height * factor)))
    pixels = np.array(whole.resize(shown, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST))
    x0, y0, x1, y1 = (
        round(factor * side) for side in (tile.x, tile.y, tile.x + tile.width, tile.y + tile.height)
    )
    _outline(pixels, x0, y0, min(x1, shown[0]), min(y1, shown[1]))
    enlarged = detail.resize(
        (max(1, min(shown[0], round(shown[1] * tile.width / tile.height))), shown[1]),
        Image.Resampling.NEAREST,
    )
    gap = np.full((shown[1], 4, 3), 255, np.uint8)
    return np.concatenate([pixels, gap, np.asarray(enlarged)], axis=1)


def _inside(tile: Tile, width: int, height: int) -> bool:
    """Proofs may come from a download: a tile need not lie in the picture."""
    sizes = tile.width > 0 and tile.height > 0
    return sizes and 0 <= tile.x <= width - tile.width and 0 <= tile.y <= height - tile.height


def _outline(pixels: NDArray[np.uint8], x0: int, y0: int, x1: int, y1: int) -> None:
    for inset, colour in ((-1, (0, 0, 0)), (0, (255, 255, 255)), (1, (255, 255, 255)), (2, (0, 0, 0))):
        top, left = max(0, y0 + inset), max(0, x0 + inset)
        bottom, right = min(pixels.shape[0], y1 - inset) - 1, min(pixels.shape[1], x1 - inset) - 1
        if top < bottom and left < right:
            pixels[[top, bottom], left : right + 1] = colour
            pixels[top : bottom + 1, [left, right]] = colour
