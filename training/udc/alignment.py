"""Alignment of captured pairs for training: the target is resampled onto the input, and both are cropped to the overlap.

    afterlens align INPUTS_FOLDER TARGETS_FOLDER -o ALIGNED

The input is never resampled, because the network has to see its noise and blur as the camera recorded them; the target is
resampled once. The mapping is found by training/udc/registration.py.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from afterlens.training.data import SMALLEST
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, read_photo, write_png
from afterlens.training.media.progress import progress_bar
from afterlens.training.udc.block_matching import MATCHED
from afterlens.training.udc.geometry import centred, enlargement, warp
from afterlens.training.udc.registration import Registration, register

RGB = NDArray[np.float32]  # (H, W, 3), [0, 1]
Box = tuple[int, int, int, int]  # left, top, width, height in input pixels

_PREVIEWED = 24  # pairs on the preview sheet, those with the largest residuals; viewers fail on huge sheets
_CELL, _CAPTION, _GAP = 320, 20, 6  # pixels
_ZOOM = 4
_CROP_CELLS = 512  # on the longer side: the resolution at which the overlap is searched


@dataclass(frozen=True)
class Outcome:
    """A row of pairs.csv. Unknown values are None; lengths are in input pixels."""

    pair: str
    aligned: bool
    deviation: float | None = None
    branch: str | None = None
    residual: float | None = None
    matched: float | None = None
    left: int | None = None
    top: int | None = None
    width: int | None = None
    height: int | None = None
    reason: str | None = None


def align_pairs(
    pairs: Sequence[tuple[str, Path, Path]], out: Path, *, threshold: float, max_residual: float
) -> dict[str, Any]:
    """Align pairs of photos and write those that could be aligned, as a folder of pairs for training.

    Args:
        pairs: name, input file, target file. Names become file names.
        out: a new or empty folder for ``input/NAME.png``, ``target/NAME.png``, ``pairs.csv`` and ``preview.png``;
            it appears when everything is done.
        threshold: deviation in pixels up to which mutual information aligns a pair; above it, keypoints do.
        max_residual: pixels; a pair whose median block residual is larger after alignment is left out.

    Returns: ``{"out", "aligned", "left_out", "pairs": [a dict for each row of pairs.csv]}``. A pair that cannot be read
        or aligned is left out with a warning on stderr; the others are written.

    Raises UserError for an ``out`` that is not empty or cannot be written, and for limits that are not positive.
    """
    for name, limit in (("threshold", threshold), ("max residual", max_residual)):
        if not 0.0 < limit < float("inf"):
            raise UserError(f"{name} {limit}: expected a number of pixels above zero")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: is not an empty folder; name a new one, or remove this one")
    outcomes: list[Outcome] = []
    rows: list[tuple[float, Image.Image]] = []
    console = Console(stderr=True)
    with atomic_path(out) as folder, progress_bar(console=console) as progress:
        (folder / "input").mkdir(parents=True)
        (folder / "target").mkdir()
        bar = progress.add_task("align", total=len(pairs))
        for name, source, target in pairs:
            progress.update(bar, description=f"align {name}")
            outcome, row = _align_files(
                name, source, target, folder, threshold=threshold, max_residual=max_residual
            )
            outcomes.append(outcome)
            if not outcome.aligned:
                console.print(f"warning: {name} is left out: {outcome.reason}", markup=False, soft_wrap=True)
            if row is not None:
                rows = sorted([*rows, (outcome.residual or 0.0, row)], key=lambda item: -item[0])[:_PREVIEWED]
            progress.advance(bar)
        _write_csv(folder / "pairs.csv", outcomes)
        if rows:
            write_png(
                folder / "preview.png", np.asarray(_stacked([row for _, row in rows]), np.float32) / 255
            )
    aligned = sum(outcome.aligned for outcome in outcomes)
    return {
        "out": str(out),
        "aligned": aligned,
        "left_out": len(outcomes) - aligned,
        "pairs": [asdict(outcome) for outcome in outcomes],
    }


def align(
    source: RGB, target: RGB, *, threshold: float, max_residual: float
) -> tuple[Registration, RGB | None, Box | None, str | None]:
    """Align a target to its input.

    Returns: the registration; the target on the input's grid, cropped to the box; the box, in input pixels; and None.
        If the pair cannot be aligned, target and box are None, and the last value is the reason.

    Raises UserError where no mapping was found.
    """
    found = register(_grey(source), _grey(target), threshold=threshold)
    if found.matched <= MATCHED:
        reason = (
            f"too little of the input is found again in the target ({found.matched:.0%} of its blocks, expected more "
            f"than {MATCHED:.0%}): do they show the same scene?"
        )
        return found, None, None, reason
    if found.residual > max_residual:
        reason = f"blocks are still {found.residual:.2f} pixels off, expected at most {max_residual:.2f}"
        return found, None, None, reason
    seen = _seen_from_input(source, target, found)
    left, top, width, height = box = common_box(~np.isnan(seen[..., 0]))
    if min(width, height) < SMALLEST:
        reason = f"the two share {width}x{height} pixels, expected both sides of {SMALLEST} or more"
        return found, None, None, reason
    return found, np.clip(seen[top : top + height, left : left + width], 0, 1), box, None


def common_box(valid: NDArray[np.bool_]) -> Box:
    """The largest axis-parallel rectangle of true pixels in ``(H, W)``, to within a 512th of the longer side."""
    cell = -(-max(valid.shape) // _CROP_CELLS)
    rows, columns = valid.shape[0] // cell, valid.shape[1] // cell
    cells = valid[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell).all(axis=(1, 3))
    best, best_box = 0, (0, 0, 0, 0)
    heights = np.zeros(
        columns + 1, int
    )  # of the run of true cells ending here; the last stays 0 and closes all rectangles
    for row in range(rows):
        heights[:-1] = np.where(cells[row], heights[:-1] + 1, 0)
        open_: list[
            tuple[int, int]
        ] = []  # (left, height) of rectangles that may still grow, by rising height
        for column, tall in enumerate(heights.tolist()):
            left = column
            while open_ and open_[-1][1] >= tall:
                left, closed = open_.pop()
                if closed * (column - left) > best:
                    best = closed * (column - left)
                    best_box = (left, row - closed + 1, column - left, closed)
            open_.append((left, tall))
    left, top, width, height = (side * cell for side in best_box)
    return left, top, width, height


def _align_files(
    name: str, source: Path, target: Path, folder: Path, *, threshold: float, max_residual: float
) -> tuple[Outcome, Image.Image | None]:
    """Align one pair and write it; returns its outcome and its row of the preview."""
    try:
        photo, reference = read_photo(source), read_photo(target)
        for path, rgb in ((source, photo.rgb), (target, reference.rgb)):
            if min(rgb.shape[:2]) < SMALLEST:
                size = f"{rgb.shape[1]}x{rgb.shape[0]}"
                raise UserError(f"{path}: {size} pixels, expected both sides of {SMALLEST} or more")
        found, seen, box, reason = align(
            photo.rgb, reference.rgb, threshold=threshold, max_residual=max_residual
        )
    except UserError as error:
        return Outcome(name, aligned=False, reason=str(error)), None
    outcome = Outcome(
        name,
        aligned=False,
        deviation=_rounded(found.deviation),
        branch=found.branch,
        residual=_rounded(found.residual),
        matched=_rounded(found.matched),
        reason=reason,
    )
    if seen is None or box is None:
        return outcome, None
    left, top, width, height = box
    cut = photo.rgb[top : top + height, left : left + width]
    write_png(folder / "input" / f"{name}.png", cut, photo.exif, photo.icc)
    write_png(folder / "target" / f"{name}.png", seen, reference.exif, reference.icc)
    outcome = replace(outcome, aligned=True, left=left, top=top, width=width, height=height)
    start = centred(photo.rgb.shape, reference.rgb.shape)
    before = np.nan_to_num(warp(reference.rgb, start, photo.rgb.shape))[
        top : top + height, left : left + width
    ]
    return outcome, _preview_row(outcome, cut, before, seen)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, 3)


def _grey(rgb: RGB) -> NDArray[np.float32]:
    return np.clip(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32), 0.0, 1.0)


def _seen_from_input(source: RGB, target: RGB, found: Registration) -> RGB:
    """The target on the input's grid; a target of finer pixels is reduced first, since Lanczos would alias."""
    mapping, factor = found.mapping, enlargement(found.mapping)
    if factor > 1.25:
        size = (round(target.shape[1] / factor), round(target.shape[0] / factor))
        x, y = size[0] / target.shape[1], size[1] / target.shape[0]
        target = np.asarray(cv2.resize(target, size, interpolation=cv2.INTER_AREA), np.float32)
        mapping = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]]) @ mapping
    return warp(target, mapping, source.shape)


def _write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Outcome)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(outcome) for outcome in outcomes)


# --- preview ------------------------------------------------------------------------------------------------


def _preview_row(outcome: Outcome, source: RGB, before: RGB, after: RGB) -> Image.Image:
    """Input, aligned target, and overlays of the two before and after alignment: whole, and a detail enlarged.

    The overlays show the input in red and the target in cyan: grey where they agree, coloured fringes where they do not.
    """
    overlays = [_overlay(source, before), _overlay(source, after)]
    pictures = [_fitted(picture) for picture in (source, after, *overlays)]
    across, down = pictures[0].width // _ZOOM, pictures[0].height // _ZOOM
    top, left = _busiest(_grey(source), across, down)
    for overlay in overlays:
        detail = overlay[top : top + down, left : left + across]
        pictures.append(_as_image(detail.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)))
    deviation = "not measured" if outcome.deviation is None else f"{outcome.deviation:.2f} px"
    captions = (
        f"{outcome.pair}: input",
        f"target, aligned by {outcome.branch}",
        f"before: deviation {deviation}",
        f"after: residual {outcome.residual:.2f} px",
        f"before, {_ZOOM}x",
        f"after, {_ZOOM}x",
    )
    tallest = max(picture.height for picture in pictures)
    row = Image.new("RGB", (len(pictures) * (_CELL + _GAP), tallest + _CAPTION + _GAP), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(size=14)
    for column, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        text = caption.encode("utf-8", "replace").decode("utf-8")  # file names need not be valid text
        draw.text((column * (_CELL + _GAP), 0), text[-44:], "black", font)
        row.paste(picture, (column * (_CELL + _GAP), _CAPTION))
    return row


def _overlay(source: RGB, target: RGB) -> RGB:
    red, cyan = (_normalised(_grey(picture)) for picture in (source, target))
    return np.stack([red, cyan, cyan], axis=2)


def _normalised(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Local mean and contrast normalised, so that haze does not colour the overlay."""
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 16)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), 16)) + 0.01
    return np.clip(0.5 + detail / contrast / 5, 0, 1)


def _busiest(grey: NDArray[np.float32], across: int, down: int) -> tuple[int, int]:
    """Top and left of the window with the most structure."""
    structure = np.abs(cv2.Laplacian(cv2.GaussianBlur(_normalised(grey), (0, 0), 2), cv2.CV_32F))
    sums = cv2.boxFilter(structure, -1, (across, down), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inner = sums[: len(grey) - down + 1, : grey.shape[1] - across + 1]
    top, left = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(top), int(left)


def _fitted(rgb: RGB) -> Image.Image:
    picture = _as_image(rgb)
    picture.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
    return picture


def _as_image(rgb: RGB) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet
