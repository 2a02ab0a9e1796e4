import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio

from afterlens.conversion.bundle.difference import difference
from afterlens.conversion.bundle.variants import FORMATS, VARIANTS, Gate, Variant, gate
from afterlens.conversion.verify.gates import check_output
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
    ground_truth = got.copy()
    got[0, 0] += 5e-5  # inside the error gate, and yet no picture
    row = check_output(gate("tflite", "float32"), UNIT, "room", got, ground_truth)
    assert (
        len(row.faults) == 1
        and "leave the range [0, 1]; furthest at x 0, y 0, R: got 1.00005" in row.faults[0]
    )


# Every limit, on both sides. The numbers stand here once more: to change one is to change what a pass means.

LIMITS = {
    ("tflite", "float32"): Gate(max_error=1e-4, max_levels=1, range_slack=1e-6),
    ("tflite", "float16"): Gate(min_psnr=60.0, max_stored_error=1e-4, max_levels=1, range_slack=1e-6),
    ("tflite", "integer_quant_with_int16_act"): Gate(
        min_psnr=30.0, max_levels=255, max_flat_levels=16, range_slack=1e-4
    ),
    ("tflite", "dynamic_range_quant"): Gate(
        min_psnr=30.0, max_levels=255, max_flat_levels=16, range_slack=1e-6
    ),
    ("tflite", "mixed"): Gate(min_psnr=20.0, max_levels=255, max_flat_levels=18, range_slack=1e-6),
    ("tflite", "full_integer_quant"): Gate(
        min_psnr=20.0, max_levels=255, max_flat_levels=18, range_slack=1e-6
    ),
    ("coreml", "float16"): Gate(min_psnr=60.0, max_stored_error=1e-4, max_levels=1, range_slack=1e-6),
    ("coreml", "int8"): Gate(min_psnr=30.0, max_levels=255, max_flat_levels=16, range_slack=1e-6),
    ("coreml", "palettized6"): Gate(min_psnr=25.0, max_levels=255, max_flat_levels=18, range_slack=1e-6),
    ("coreml", "palettized4"): Gate(min_psnr=15.0, max_levels=255, max_flat_levels=24, range_slack=1e-6),
    ("coreml", "mixed"): Gate(min_psnr=20.0, max_levels=255, max_flat_levels=18, range_slack=1e-6),
}
BUDGETS = {
    ("tflite", "float32"): None,
    ("tflite", "float16"): 0.05,
    ("tflite", "integer_quant_with_int16_act"): 0.3,
    ("tflite", "dynamic_range_quant"): 0.1,
    ("tflite", "mixed"): 0.3,
    ("tflite", "full_integer_quant"): 0.3,
    ("coreml", "float16"): 0.05,
    ("coreml", "int8"): 0.3,
    ("coreml", "palettized6"): 0.3,
    ("coreml", "palettized4"): 1.0,
    ("coreml", "mixed"): 0.3,
}


def test_every_variant_has_the_limits_that_the_proof_promises() -> None:
    assert {(variant.format, variant.name): variant.gate for variant in VARIANTS} == LIMITS
    assert {(variant.format, variant.name): variant.budget for variant in VARIANTS} == BUDGETS


def test_formats_that_share_a_variants_name_share_its_gate() -> None:
    """proof.json says once for each name what was asked."""
    for (format_, name), limits in LIMITS.items():
        for other in FORMATS:
            assert LIMITS.get((other, name), limits) == limits, (format_, other, name)


def test_the_page_on_the_proof_has_the_same_levels() -> None:
    page = (Path(__file__).parents[3] / "docs" / "proof.md").read_text("utf-8")
    for (format_, name), limits in LIMITS.items():
        if limits.max_flat_levels < 255:
            (row,) = [line for line in page.splitlines() if line.endswith(f"| {limits.max_flat_levels} |")]
            (names,) = [part for part in row.split(";") if FORMATS[format_] in part]
            assert name in names.replace(",", " ").split(), (row, name)


def _grey(value: float = 0.5) -> NDArray[np.float32]:
    return np.full((24, 40, 3), value, np.float32)


def _faults(variant: Variant, got: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[str, ...]:
    return check_output(variant.gate, UNIT, "grey", got, expected).faults


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.file_ending)
def test_each_limit_lets_pass_what_is_within_and_nothing_beyond(variant: Variant) -> None:
    limits = LIMITS[variant.format, variant.name]
    grey = _grey()
    if limits.min_psnr is not None:
        for decibels, passes in ((limits.min_psnr + 0.1, True), (limits.min_psnr - 0.1, False)):
            found = _faults(variant, grey + np.float32(10 ** (-decibels / 20)), grey)
            assert any(line.startswith("PSNR") for line in found) is not passes, (decibels, found)
    if limits.max_error is not None:
        for share, passes in ((0.95, True), (1.05, False)):
            got = grey.copy()
            got[3, 5, 1] -= np.float32(share * limits.max_error)
            assert (_faults(variant, got, grey) == ()) is passes, share
    if limits.max_levels < 255:
        expected = _grey(100 / 255)
        for levels, passes in ((limits.max_levels, True), (limits.max_levels + 1, False)):
            got = expected.copy()
            got[3, 5, 1] += np.float32(levels / 255)
            found = _faults(variant, got, expected)
            assert any("levels off" in line for line in found) is not passes, (levels, found)
    for image in ("flat", "black", "white"):
        most = min(limits.max_flat_levels, limits.max_levels)
        for levels, passes in ((most, True), (most + 1, False)):
            if most < 255:
                got = _grey(100 / 255)
                got[3, 5, 1] += np.float32(levels / 255)
                faults = check_output(variant.gate, UNIT, image, got, _grey(100 / 255)).faults
                assert any("levels off" in line for line in faults) is not passes, (image, levels, faults)
    if limits.max_stored_error is not None:
        for share, passes in ((0.95, True), (1.05, False)):
            off = grey.copy()
            off[3, 5, 1] += np.float32(share * limits.max_stored_error)
            faults = check_output(variant.gate, UNIT, "grey", grey, grey, stored=(off, grey)).faults
            assert (faults == ()) is passes, (share, faults)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.file_ending)
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_values_may_leave_the_range_by_the_slack_and_no_further(variant: Variant, end: float) -> None:
    slack = LIMITS[variant.format, variant.name].range_slack
    wide = Port("clean", SHAPE, (-8.0, 8.0))
    outward = 1.0 if end else -1.0
    for port, size in ((UNIT, 1.0), (wide, 16.0)):
        edge = _grey(port.range[int(end)])
        for share, passes in ((0.5, True), (2.0, False)):
            got = edge.astype(np.float64)
            got[3, 5, 1] += outward * share * slack * size
            # As float64: a float32 near 8 does not resolve a millionth of 16.
            found = check_output(variant.gate, port, "edge", got, edge).faults  # type: ignore[arg-type]
            assert any("leave the range" in line for line in found) is not passes, (port.range, share, found)


@pytest.mark.parametrize(
    ("format_", "name"),
    [
        *(("tflite", name) for name in ("mixed", "full_integer_quant", "integer_quant_with_int16_act")),
        *(("coreml", name) for name in ("int8", "palettized6", "palettized4", "mixed")),
    ],
)
def test_white_that_comes_out_too_dark_fails_although_its_psnr_would_pass(format_: str, name: str) -> None:
    """36 levels off: calibration pictures that never reached white did that, and 20 dB is all that a PSNR asks for."""
    white = _grey(1.0)
    got = white.copy()
    got[:1, :4] -= np.float32(36 / 255)
    got[1:] -= np.float32(3 / 255)
    row = check_output(gate(format_, name), UNIT, "white", got, white)
    assert row.psnr > 30.0 >= (gate(format_, name).min_psnr or 0.0)
    assert any(line.startswith("36 of 255 levels off") for line in row.faults), row.faults
