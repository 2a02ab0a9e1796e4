"""Artifacts judged by their pictures: the loss against the ground truth, the worst tile, the budget, the heat-map."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from afterlens.conversion.verify.quality import (
    evaluate_quality,
    measure,
    over_budget,
    worst_tile,
    write_heatmap,
)
from afterlens.training.media.images import read_photo

Picture = NDArray[np.float32]


@pytest.fixture
def ground_truth() -> Picture:
    return np.random.default_rng(0).random((64, 80, 3), np.float32) * 0.5 + 0.25


def test_losses_are_what_they_are_defined_to_be(ground_truth: Picture) -> None:
    reference, got, given = (
        ground_truth + np.float32(0.01),
        ground_truth + np.float32(0.02),
        ground_truth + np.float32(0.1),
    )
    row = measure("one", got, reference, given, ground_truth)
    assert row.reference_psnr == pytest.approx(40.0, abs=1e-3)
    assert row.psnr == pytest.approx(40.0 - 20.0 * math.log10(2.0), abs=1e-3)
    assert row.drop == pytest.approx(20.0 * math.log10(2.0), abs=1e-3)
    assert row.input_psnr == pytest.approx(20.0, abs=1e-3)
    assert row.fidelity == pytest.approx(40.0, abs=1e-3)
    assert row.ssim <= row.reference_ssim <= 1.0


@pytest.mark.parametrize(
    ("theirs", "own", "lost"),
    [(84.0, 82.0, 0.0), (84.0, 60.0, 0.0), (84.0, 50.0, 8.92), (55.0, 84.0, -3.92), (40.0, 39.0, 1.0)],
)
def test_above_what_rounding_leaves_nothing_is_lost(
    ground_truth: Picture, theirs: float, own: float, lost: float
) -> None:
    """A photo that needs nothing comes back at more than 8 bits can hold, from PyTorch and from a file."""
    reference, got = (ground_truth + np.float32(10.0 ** (-level / 20.0)) for level in (theirs, own))
    row = measure("one", got, reference, ground_truth, ground_truth)
    assert row.drop == pytest.approx(lost, abs=0.05) and row.psnr == pytest.approx(own, abs=0.05)


def test_a_picture_that_is_not_finite_loses_everything(ground_truth: Picture) -> None:
    broken = ground_truth.copy()
    broken[:32] = np.nan
    assert measure("nan", broken, ground_truth, ground_truth, ground_truth).psnr < 12.0


def test_the_worst_tile_is_where_the_damage_is(ground_truth: Picture) -> None:
    reference = ground_truth + np.float32(0.01)
    got = reference.copy()
    got[40:48, 30:40] += 0.2
    tile = worst_tile(got, reference, ground_truth)
    assert (tile.x, tile.y, tile.width, tile.height) == (30, 40, 10, 8)
    assert tile.drop > 10.0


def test_the_mean_loss_is_gated_and_the_worst_picture_named(ground_truth: Picture) -> None:
    reference = ground_truth + np.float32(0.01)
    rows = [
        measure("good", reference, reference, ground_truth, ground_truth),
        measure("bad", ground_truth + np.float32(0.0113), reference, ground_truth, ground_truth),
    ]
    verdict = evaluate_quality(rows, 0.6)
    assert verdict.passed and over_budget(verdict) is None
    assert verdict.drop == pytest.approx(np.mean([row.drop for row in rows]))
    assert verdict.worst.image == "bad"
    strict = evaluate_quality(rows, 0.5)
    assert not strict.passed
    assert "at most 0.5 is allowed; worst image bad: 1.06 dB" in (over_budget(strict) or "")
    assert evaluate_quality(rows, None).passed


def test_the_heat_map_is_black_where_nothing_differs(ground_truth: Picture, tmp_path: Path) -> None:
    got = ground_truth.copy()
    got[10, 20] += 0.02
    got[11, 20] += 0.5
    write_heatmap(tmp_path / "heat.png", got, ground_truth)
    heat = read_photo(tmp_path / "heat.png").rgb
    assert heat.shape == ground_truth.shape
    assert heat[11, 20].tolist() == [1.0, 1.0, 1.0]
    assert heat[10, 20, 0] > 0.8 and heat[10, 20, 2] == 0.0
    heat[10:12, 20] = 0.0
    assert float(heat.max()) == 0.0


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_heat_map_shows_the_channel_that_differs_most(
    ground_truth: Picture, tmp_path: Path, channel: int
) -> None:
    got = ground_truth.copy()
    got[30, 40, channel] += 0.5
    write_heatmap(tmp_path / "heat.png", got, ground_truth)
    assert read_photo(tmp_path / "heat.png").rgb[30, 40].tolist() == [1.0, 1.0, 1.0]


def test_values_outside_the_range_count_as_a_screen_would_show_them(ground_truth: Picture) -> None:
    white = np.ones_like(ground_truth)
    row = measure("overshoot", white + np.float32(0.5), white, ground_truth, white)
    assert row.psnr == row.reference_psnr  # nobody sees what is whiter than white


def test_means_over_the_pictures_are_means(ground_truth: Picture) -> None:
    reference = ground_truth + np.float32(0.01)
    rows = [
        measure(
            str(off), ground_truth + np.float32(off), reference, ground_truth + np.float32(off), ground_truth
        )
        for off in (0.01, 0.012, 0.1)
    ]
    verdict = evaluate_quality(rows, None)
    for key in ("psnr", "ssim", "reference_psnr", "reference_ssim", "input_psnr", "drop"):
        own = [getattr(row, key) for row in rows]
        assert getattr(verdict, key) == pytest.approx(sum(own) / 3), key
    assert verdict.psnr != pytest.approx(sorted(row.psnr for row in rows)[1], abs=0.5)  # no median
