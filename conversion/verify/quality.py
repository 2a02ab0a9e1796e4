"""Judges an artifact by its pictures: PSNR and SSIM against the truth, and what is lost to PyTorch in float32.

    verdict = evaluate_quality(rows_of_one_artifact, budget=0.3)

A file can be far from PyTorch in every number and as good a camera, or near it and ruin one picture in ten. So the
gate is the mean loss against the truth, and the worst picture, and its worst tile, are named and drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.conversion.bundle.proof import Tile
from afterlens.training.media.images import write_png
from afterlens.training.metrics import psnr, ssim

Picture = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]

TILES = 8  # the worst tile is one of 8 x 8
STEEPEST = 16  # a heat-map is white where a value is off by 1/16 of the range or more


@dataclass(frozen=True)
class QualityRow:
    """One picture of one artifact. PSNR in dB against the truth, SSIM likewise; ``reference_*`` is PyTorch's own."""

    image: str
    psnr: float
    ssim: float
    reference_psnr: float
    reference_ssim: float
    input_psnr: float
    drop: float  # reference_psnr - psnr
    fidelity: float  # PSNR against PyTorch
    tile: Tile


def measure(image: str, got: Picture, reference: Picture, given: Picture, truth: Picture) -> QualityRow:
    """What an artifact made of a picture, beside PyTorch; all (H, W, 3), ``given`` is the untouched input."""
    got = np.clip(np.nan_to_num(got, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    mine, theirs, real = _batch(got), _batch(reference), _batch(truth)
    own, best = psnr(mine, real), psnr(theirs, real)
    return QualityRow(
        image,
        own,
        ssim(mine, real),
        best,
        ssim(theirs, real),
        psnr(_batch(given), real),
        best - own,
        psnr(mine, theirs),
        worst_tile(got, reference, truth),
    )


def worst_tile(got: Picture, reference: Picture, truth: Picture) -> Tile:
    """Of 8 x 8 tiles the one whose PSNR against the truth lost most."""
    height, width = got.shape[:2]
    rows = np.linspace(0, height, min(TILES, height) + 1).astype(int)
    columns = np.linspace(0, width, min(TILES, width) + 1).astype(int)
    own = np.square(got.astype(np.float64) - truth).mean(axis=2)
    best = np.square(reference.astype(np.float64) - truth).mean(axis=2)
    floor = max(float(best.mean()), 1e-6)  # a tile that PyTorch got right to the last bit loses no end of dB
    found = None
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            part = np.s_[top:bottom, left:right]
            drop = 10.0 * float(np.log10((own[part].mean() + floor) / (best[part].mean() + floor)))
            if found is None or drop > found.drop:
                found = Tile(int(left), int(top), int(right - left), int(bottom - top), drop)
    assert found is not None
    return found


def evaluate_quality(rows: list[QualityRow], budget: float | None) -> dict[str, Any]:
    """The means over the pictures, the worst one, and whether the mean loss is within ``budget`` dB; for proof.json."""
    means = {
        key: float(np.mean([getattr(row, key) for row in rows]))
        for key in ("psnr", "ssim", "reference_psnr", "reference_ssim", "input_psnr", "drop")
    }
    worst = max(rows, key=lambda row: row.drop)
    return {
        "budget": budget,
        **means,
        "passed": budget is None or means["drop"] <= budget,
        "worst": {"image": worst.image, "drop": worst.drop, "tile": asdict(worst.tile), "heatmap": None},
        "rows": [{key: value for key, value in asdict(row).items() if key != "tile"} for row in rows],
    }


def over_budget(verdict: Mapping[str, Any]) -> str | None:
    """One line that says how far over its budget an artifact is, and where; None within it."""
    if verdict["passed"]:
        return None
    worst = verdict["worst"]
    tile = worst["tile"]
    return (
        f"loses {verdict['drop']:.3f} dB against the truth (PyTorch {verdict['reference_psnr']:.2f} dB, this "
        f"{verdict['psnr']:.2f}), at most {verdict['budget']:g} is allowed; worst image {worst['image']}: "
        f"{worst['drop']:.2f} dB, there {tile['width']}x{tile['height']} pixels at x {tile['x']}, y {tile['y']}"
    )


def write_heatmap(path: Path, got: Picture, reference: Picture) -> None:
    """PNG of the largest difference of the three channels: black where equal, over red and yellow to white."""
    error = np.abs(np.nan_to_num(got, nan=1.0).astype(np.float64) - reference).max(axis=2)
    heat = np.clip(error * STEEPEST, 0.0, 1.0)
    ramp = np.stack([np.clip(heat * 3.0 - shift, 0.0, 1.0) for shift in (0.0, 1.0, 2.0)], axis=2)
    write_png(path, ramp.astype(np.float32))


def _batch(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
