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


def test_a_tile_that_pytorch_got_right_loses_as_much_as_against_a_millionth() -> None:
    """Else infinitely many dB; and where PyTorch has an error, its mean is what counts."""
    ground_truth = np.zeros((64, 64, 3), np.float32)
    got = ground_truth.copy()
    got[:8, 8:16] = 0.01
    assert worst_tile(got, ground_truth, ground_truth).drop == pytest.approx(10 * math.log10(101), abs=1e-4)
    reference = ground_truth + np.float32(0.01)
    reference[:8, 8:16] = 0.0
    tile = worst_tile(got + reference, reference, ground_truth)
    mean = 1e-4 * 63 / 64
    assert (tile.x, tile.y) == (8, 0)
    assert tile.drop == pytest.approx(10 * math.log10((1e-4 + mean) / mean), abs=1e-4)


@pytest.mark.parametrize(
    ("size", "sides"), [((64, 80), (8, 10)), ((5, 3), (1, 1)), ((8, 9), (1, 1)), ((1, 16), (1, 2))], ids=str
)
def test_there_are_eight_by_eight_tiles_or_one_a_pixel(size: tuple[int, int], sides: tuple[int, int]) -> None:
    ground_truth = np.zeros((*size, 3), np.float32)
    for row, column in ((0, 0), (size[0] - 1, 0), (size[0] // 2, size[1] // 2)):
        got = ground_truth.copy()
        got[row, column] = 0.1
        tile = worst_tile(got, ground_truth, ground_truth)
        assert tile.y <= row < tile.y + tile.height and tile.x <= column < tile.x + tile.width
        assert sides[0] <= tile.height <= sides[0] + 1 and sides[1] <= tile.width <= sides[1] + 1


def test_of_equal_tiles_the_first_is_named(ground_truth: Picture) -> None:
    tile = worst_tile(ground_truth, ground_truth, ground_truth)
    assert (tile.x, tile.y, tile.drop) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("error", "colour"),
    [
        (0.0, (0.0, 0.0, 0.0)),
        (0.2 / 16, (0.6, 0.0, 0.0)),
        (0.5 / 16, (1.0, 0.5, 0.0)),
        (0.8 / 16, (1.0, 1.0, 0.4)),
        (1 / 16, (1.0, 1.0, 1.0)),
        (0.4, (1.0, 1.0, 1.0)),
        (math.nan, (1.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_heat_map_goes_from_black_over_red_and_yellow_to_white(
    error: float, colour: tuple[float, float, float], sign: int, tmp_path: Path
) -> None:
    reference = np.full((4, 6, 3), 0.5, np.float32)
    got = reference.copy()
    got[2, 3, 1] += sign * error
    write_heatmap(tmp_path / "heat.png", got, reference)
    heat = read_photo(tmp_path / "heat.png").rgb
    assert heat[2, 3] == pytest.approx(colour, abs=0.004)
    assert heat.sum() == pytest.approx(heat[2, 3].sum())


def test_what_is_infinite_is_white_or_black() -> None:
    reference = np.concatenate([np.ones((32, 64, 3)), np.zeros((32, 64, 3))]).astype(np.float32)
    got = np.where(reference > 0, np.inf, -np.inf).astype(np.float32)
    row = measure("endless", got, reference, reference, reference)
    assert row.psnr == row.fidelity == row.reference_psnr and row.drop == 0.0
    nothing = measure("none", np.full_like(reference, np.nan), reference, reference, reference)
    assert nothing.psnr == pytest.approx(-10 * math.log10(0.5), abs=1e-3)  # black


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
