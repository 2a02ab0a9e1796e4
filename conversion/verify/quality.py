"""Evaluates an artifact by its pictures: PSNR and SSIM against ground truth, and what is lost to PyTorch in float32.

    quality = evaluate_quality(rows_of_one_artifact, budget=0.3)

A file can be far from PyTorch in every number and just as good to look at, or near it and ruin one picture in ten. So the
gate is the mean loss against ground truth, and the worst picture and its worst tile are named and drawn.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.conversion.bundle.proof import EvaluatedImage, Quality, Tile, Worst
from afterlens.training.media.images import write_png
from afterlens.training.metrics import psnr, ssim

Picture = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]

TILES = 8  # the worst tile is one of 8 x 8
ROUNDING = 58.92
"""dB, ``10 log10(12 x 255^2)``: what rounding to 8 bits leaves. From there on nothing is lost: a photo that needs nothing may
come back at 84 dB from PyTorch and at 82 from a file, and both are the photo."""

STEEPEST = 16  # a heat-map is white where a value is off by 1/16 of the range or more


def measure(
    image: str, got: Picture, reference: Picture, given: Picture, ground_truth: Picture
) -> EvaluatedImage:
    """Score what an artifact made of a picture, beside PyTorch; all (H, W, 3), ``given`` is the untouched input."""
    got = np.clip(np.nan_to_num(got, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    mine, theirs, real = _batch(got), _batch(reference), _batch(ground_truth)
    own, best = psnr(mine, real), psnr(theirs, real)
    return EvaluatedImage(
        image=image,
        psnr=own,
        ssim=ssim(mine, real),
        reference_psnr=best,
        reference_ssim=ssim(theirs, real),
        input_psnr=psnr(_batch(given), real),
        drop=min(best, ROUNDING) - min(own, ROUNDING),
        fidelity=psnr(mine, theirs),
        tile=worst_tile(got, reference, ground_truth),
    )


def worst_tile(got: Picture, reference: Picture, ground_truth: Picture) -> Tile:
    """Of 8 x 8 tiles, the one that lost most PSNR against ground truth."""
    height, width = got.shape[:2]
    rows = np.linspace(0, height, min(TILES, height) + 1).astype(int)
    columns = np.linspace(0, width, min(TILES, width) + 1).astype(int)
    own = np.square(got.astype(np.float64) - ground_truth).mean(axis=2)
    best = np.square(reference.astype(np.float64) - ground_truth).mean(axis=2)
    floor = max(
        float(best.mean()), 1e-6
    )  # a tile that PyTorch got exactly right would lose infinitely many dB
    found = None
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            part = np.s_[top:bottom, left:right]
            drop = 10.0 * float(np.log10((own[part].mean() + floor) / (best[part].mean() + floor)))
            if found is None or drop > found.drop:
                found = Tile(int(left), int(top), int(right - left), int(bottom - top), drop)
    assert found is not None
    return found


def evaluate_quality(rows: list[EvaluatedImage], budget: float | None) -> Quality:
    """The means over the pictures, the worst one, and whether the mean loss is within ``budget`` dB."""

    def mean(key: str) -> float:
        return float(np.mean([getattr(row, key) for row in rows]))

    worst = max(rows, key=lambda row: row.drop)
    drop = mean("drop")
    return Quality(
        budget=budget,
        psnr=mean("psnr"),
        ssim=mean("ssim"),
        reference_psnr=mean("reference_psnr"),
        reference_ssim=mean("reference_ssim"),
        input_psnr=mean("input_psnr"),
        drop=drop,
        passed=budget is None or drop <= budget,
        worst=Worst(worst.image, worst.drop, worst.tile, None),
        rows=tuple(rows),
    )


def with_heatmap(quality: Quality, name: str) -> Quality:
    """The same, with the file of the worst picture's heat-map."""
    return replace(quality, worst=replace(quality.worst, heatmap=name))


def over_budget(quality: Quality) -> str | None:
    """One line that says how far over its budget an artifact is, and where; None within it."""
    if quality.passed or quality.budget is None:
        return None
    worst, tile = quality.worst, quality.worst.tile
    return (
        f"loses {quality.drop:.3f} dB against ground truth (PyTorch {quality.reference_psnr:.2f} dB, this "
        f"{quality.psnr:.2f}), at most {quality.budget:g} is allowed; worst image {worst.image}: "
        f"{worst.drop:.2f} dB, most of it in {tile.width}x{tile.height} pixels at x {tile.x}, y {tile.y}"
    )


def write_heatmap(path: Path, got: Picture, reference: Picture) -> None:
    """PNG of the largest difference of the three channels: black where equal, over red and yellow to white."""
    error = np.abs(np.nan_to_num(got, nan=1.0).astype(np.float64) - reference).max(axis=2)
    heat = np.clip(error * STEEPEST, 0.0, 1.0)
    ramp = np.stack([np.clip(heat * 3.0 - shift, 0.0, 1.0) for shift in (0.0, 1.0, 2.0)], axis=2)
    write_png(path, ramp.astype(np.float32))


def _batch(picture: Picture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
