import math
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio

from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.verify.gates import check_output, difference
from afterlens.training.deployable import Port

SHAPE = (1, 3, 24, 40)
UNIT = Port("clean", SHAPE, (0.0, 1.0))


@pytest.fixture
def expected(photo: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(photo[100:124, 200:240])


def test_errors_agree_with_scikit_image_and_with_a_loop(expected: NDArray[np.float32]) -> None:
    got = np.clip(expected + np.random.default_rng(0).normal(0, 0.01, expected.shape), 0, 1).astype(
        np.float32
    )
    found = difference(UNIT, got, expected)
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(expected, got, data_range=1.0), abs=1e-3)
    worst, place, total = -1.0, (0, 0, ""), 0.0
    for y in range(24):
        for x in range(40):
            for c in range(3):
                error = abs(float(got[y, x, c]) - float(expected[y, x, c]))
                total += error
                if error > worst:
                    worst, place = error, (x, y, "RGB"[c])
    assert found.max_error == pytest.approx(worst)
    assert found.mean_error == pytest.approx(total / got.size)
    assert found.worst.where == "x {}, y {}, {}".format(*place)


def test_errors_are_shares_of_the_declared_range(expected: NDArray[np.float32]) -> None:
    got = np.clip(expected + 0.01, 0, 1)
    wide = Port("clean", SHAPE, (-5.0, 15.0))
    wide_got, wide_expected = (np.asarray(picture * 20 - 5, np.float32) for picture in (got, expected))
    in_unit, in_wide = difference(UNIT, got, expected), difference(wide, wide_got, wide_expected)
    assert in_wide.max_error == pytest.approx(in_unit.max_error, rel=1e-3)
    assert in_wide.psnr == pytest.approx(in_unit.psnr, abs=1e-3)
    assert (
        check_output(gate("tflite", "float32"), wide, "room", wide_got, wide_expected).levels == 3
    )  # 0.01 * 255


def test_equal_pictures_have_the_highest_psnr_and_no_fault(expected: NDArray[np.float32]) -> None:
    row = check_output(gate("tflite", "float32"), UNIT, "room", expected, expected)
    assert (row.max_error, row.mean_error, row.psnr, row.levels, row.faults) == (0.0, 0.0, 100.0, 0, ())


@pytest.mark.parametrize(
    ("variant", "error", "passes"),
    [
        ("float32", 0.9e-4, True),
        ("float32", 1.1e-4, False),
        ("float16", 1.1e-4, True),
        ("float16", 0.9e-3, True),
    ],
)
def test_one_value_that_is_off(
    expected: NDArray[np.float32], variant: str, error: float, passes: bool
) -> None:
    got = expected.copy()
    got[7, 11, 2] += error if got[7, 11, 2] < 0.5 else -error
    row = check_output(gate("tflite", variant), UNIT, "room", got, expected)
    assert (row.faults == ()) is passes
    if not passes:
        assert f"x 11, y 7, B: got {got[7, 11, 2]:.6g}, expected {expected[7, 11, 2]:.6g}" in row.faults[0]


def test_float16_is_held_to_60_db(expected: NDArray[np.float32]) -> None:
    inside = np.clip(expected, 0.01, 0.99)
    sign = np.where(np.random.default_rng(0).random(expected.shape) < 0.5, -1, 1)
    for psnr, passes in ((60.1, True), (59.9, False)):
        got = (inside + sign * 10 ** (-psnr / 20)).astype(np.float32)
        row = check_output(gate("tflite", "float16"), UNIT, "room", got, inside)
        assert row.psnr == pytest.approx(psnr, abs=0.01)
        assert any("PSNR" in fault for fault in row.faults) is not passes


def test_a_single_wrong_value_that_hardly_moves_the_psnr_is_caught_by_its_levels(
    photo: NDArray[np.float32],
) -> None:
    got = photo.copy()
    got[300, 500, 1] += 0.1 if got[300, 500, 1] < 0.5 else -0.1
    row = check_output(
        gate("tflite", "float16"), Port("clean", (1, 3, 432, 768), (0.0, 1.0)), "room", got, photo
    )
    assert row.psnr > 60
    assert len(row.faults) == 1 and "levels off" in row.faults[0] and "x 500, y 300, G" in row.faults[0]


def test_a_fault_smaller_than_float16_rounding_shows_against_the_stored_weights(
    expected: NDArray[np.float32],
) -> None:
    rounded = expected.astype(np.float16).astype(np.float32)
    stored = np.clip(expected + 2e-4, 0, 1)
    row = check_output(gate("tflite", "float16"), UNIT, "room", rounded, expected, stored=(stored, expected))
    assert row.psnr > 60
    assert row.stored_error == pytest.approx(2e-4, rel=0.01)
    assert len(row.faults) == 1 and "against PyTorch with float16 weights" in row.faults[0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_fail_and_stay_out_of_the_json(
    expected: NDArray[np.float32], value: float
) -> None:
    got = expected.copy()
    got[3, 4, 0] = value
    row = check_output(gate("tflite", "float16"), UNIT, "room", got, expected)
    assert (
        "1 of 2880 values are not finite" in row.faults[0] and "x 4, y 3, R: got not finite" in row.faults[0]
    )
    assert row.worst.got is None and row.max_error == 1.0
    numbers = [v for v in asdict(row).values() if isinstance(v, float)]
    assert all(math.isfinite(number) for number in numbers)


def test_values_outside_the_declared_range_fail(expected: NDArray[np.float32]) -> None:
    got = expected.copy()
    got[0, 0] = 1.0
    truth = got.copy()
    got[0, 0] += 5e-5  # inside the error gate, and yet no picture
    row = check_output(gate("tflite", "float32"), UNIT, "room", got, truth)
    assert (
        len(row.faults) == 1
        and "leave the range [0, 1]; furthest at x 0, y 0, R: got 1.00005" in row.faults[0]
    )
