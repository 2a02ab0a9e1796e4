"""Known warps are found again to half a pixel, whatever the haze; and of a folder of pairs the good ones come out."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import ProjectiveTransform
from skimage.transform import warp as resample

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo, write_png
from afterlens.training.pairs import check_sizes, find_pairs
from afterlens.training.udc.alignment import (
    Outcome,
    _preview_row,
    _seen_from_input,
    align,
    align_pairs,
    common_box,
)
from afterlens.training.udc.block_matching import local_shifts
from afterlens.training.udc.geometry import warp
from afterlens.training.udc.mutual_information import BINS, mutual_information
from afterlens.training.udc.registration import Registration

LIMITS = {"threshold": 16.0, "max_residual": 1.0}
Array = NDArray[Any]


def mapping(
    size: tuple[int, ...], x: float, y: float, degrees: float = 0.0, scale: float = 1.0, tilt: float = 0.0
) -> Array:
    """Input pixel -> target pixel: turned and scaled about the middle, tilted, then moved."""
    height, width = size[:2]
    angle = np.deg2rad(degrees)
    turn = scale * np.array(
        [[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1 / scale]]
    )
    turn[2, 0] = tilt / width
    middle = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    move = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
    return move @ middle @ turn @ np.linalg.inv(middle)


def seen(photo: Array, matrix: Array) -> Array:
    """The photo through scikit-image's warp; mirrored beyond its border, so that there is something to be fooled by."""
    view = resample(photo, ProjectiveTransform(matrix), order=3, mode="reflect")
    return np.clip(view, 0, 1).astype(np.float32)


def half(rgb: Array) -> Array:
    """Half the size, for tests in which pixels do not matter but time does."""
    return np.asarray(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def grey(rgb: Array) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32)


def plain(rgb: Array) -> Array:
    return rgb


def dark(rgb: Array) -> Array:
    """Two stops less light, with noise."""
    noise = np.random.default_rng(5).normal(0, 0.012, rgb.shape)
    return eight_bit((rgb**2.2 / 4) ** (1 / 2.2) + noise)


def hazy(rgb: Array) -> Array:
    """Blurred, and under a veil that is twice as dense at the left as at the right, with noise."""
    through = np.linspace(0.45, 0.75, rgb.shape[1])[:, None]
    noise = np.random.default_rng(6).normal(0, 0.012, rgb.shape)
    return eight_bit(cv2.GaussianBlur(rgb, (0, 0), 1.5) * through + 0.7 * (1 - through) + noise)


def eight_bit(rgb: Array) -> Array:
    return (np.rint(np.clip(rgb, 0, 1) * 255) / 255).astype(np.float32)


def distances(found: Array, truth: Array, size: tuple[int, ...]) -> Array:
    """How far the two mappings are apart, at the input pixels that the target holds."""
    height, width = size[:2]
    y, x = np.mgrid[0:height:4, 0:width:4].astype(float)
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    ours, theirs = ((matrix @ pixels)[:2] / (matrix @ pixels)[2] for matrix in (found, truth))
    shared = (theirs >= 0).all(axis=0) & (theirs[0] < width) & (theirs[1] < height)
    return np.linalg.norm(ours - theirs, axis=0)[shared]


# --- known warps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "warp", "condition", "branch"),
    [
        ("room", {"x": 0.5, "y": 0.0}, plain, "mutual information"),
        ("bottles", {"x": -0.4, "y": 0.7, "degrees": 0.3}, hazy, "mutual information"),
        ("visitor", {"x": 9.0, "y": -6.0, "degrees": -0.5}, dark, "mutual information"),
        ("bottles", {"x": 25.0, "y": -15.0, "degrees": 1.0, "scale": 1.01}, dark, "keypoints"),
        ("visitor", {"x": 40.0, "y": 10.0, "degrees": 2.0, "tilt": 0.04}, plain, "keypoints"),
        ("room", {"x": -110.0, "y": 48.0, "degrees": 8.0, "scale": 1.03}, hazy, "keypoints"),
    ],
)
def test_known_warps_are_found_to_half_a_pixel(
    photo_path: Path, name: str, warp: dict[str, float], condition: Callable[[Array], Array], branch: str
) -> None:
    target = read_photo(photo_path.with_name(f"{name}.jpg")).rgb
    truth = mapping(target.shape[:2], **warp)
    found, aligned, box, reason = align(condition(seen(target, truth)), target, **LIMITS)
    assert reason is None and aligned is not None and box is not None
    errors = distances(found.mapping, truth, target.shape[:2])
    moved = float(np.median(distances(np.eye(3), truth, target.shape[:2])))
    print(
        f"moved {moved:.2f}, measured {found.deviation:.2f}; error {errors.mean():.3f}, at most {errors.max():.3f}"
    )
    assert errors.max() <= 0.5
    assert found.branch == branch
    assert found.deviation == pytest.approx(moved, abs=0.3, rel=0.2)
    # The residual is measured without knowing the truth: it must not flatter.
    assert errors.mean() - 0.2 < found.residual < 0.5


def test_a_target_of_more_pixels_comes_at_the_inputs_size(photo: Array) -> None:
    height, width = 216, 384
    source = half(photo)[4:, 6:]
    found, aligned, box, reason = align(source, photo, **LIMITS)
    assert reason is None and aligned is not None and box is not None
    # Pixel (0, 0) of the input covers the target's pixels 12 and 13 across, 8 and 9 down.
    truth = np.array([[2, 0, 12.5], [0, 2, 8.5], [0, 0, 1]])
    assert distances(found.mapping, truth, source.shape[:2]).max() < 0.5
    left, top, box_width, box_height = box
    assert box_width > width - 12 and box_height > height - 10
    assert np.abs(aligned - source[top : top + box_height, left : left + box_width]).mean() < 0.01


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 3.0])
def test_a_target_is_sampled_at_the_middles_of_the_inputs_pixels(scale: float) -> None:
    """A plane of grey comes through every filter as it is, so what is off is a shift: half a pixel would show."""
    slope_x, slope_y = 1e-3, 2e-3
    y, x = np.mgrid[:240, :300].astype(np.float32)
    target = np.repeat((0.1 + slope_x * x + slope_y * y)[..., None], 3, axis=2)
    mapping = np.array([[scale, 0, 20.5], [0, scale, 9.25], [0, 0, 1]])
    source = np.zeros((60, 80, 3), np.float32)
    got = _seen_from_input(source, target, Registration(None, "keypoints", mapping, 0.0, 1.0))[8:-8, 8:-8, 0]
    y, x = np.mgrid[8:52, 8:72]
    off = got - (0.1 + slope_x * (scale * x + 20.5) + slope_y * (scale * y + 9.25))
    print(f"off by {np.abs(off).max() / slope_x:.3f} pixels")
    assert np.abs(off).max() < 0.2 * slope_x  # by 1.5, averages of whole and half pixels waver by a sixth


def test_an_aligned_pair_is_left_alone(photo: Array) -> None:
    photo = half(photo)
    found, aligned, box, reason = align(photo, photo, **LIMITS)
    assert reason is None and box == (0, 0, 384, 216)
    assert aligned is not None and np.array_equal(aligned, photo)
    assert found.deviation == pytest.approx(0.0, abs=0.05)


def test_what_no_plane_explains_is_left_out(photo: Array) -> None:
    photo = half(photo)
    height, width = photo.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wavy = cv2.remap(photo, x + 5 * np.sin(y / 15), y + 5 * np.sin(x / 15), cv2.INTER_CUBIC)
    found, aligned, _, reason = align(np.clip(wavy, 0, 1), photo, **LIMITS)
    assert aligned is None and found.residual > 1.0
    assert reason is not None and "expected at most 1.00" in reason


# --- the parts against what they should compute -------------------------------------------------------------


def test_information_grows_as_its_scores_say(photo: Array) -> None:
    values = (cv2.GaussianBlur(grey(photo), (0, 0), 3) * (BINS - 1)).astype(np.float32)
    bins = np.rint(values).astype(np.int64)

    def at(x: float) -> Any:
        move = np.array([[1, 0, x], [0, 1, 0.0], [0, 0, 1]])
        inner = np.s_[20:-20, 20:-20]
        return mutual_information(bins[inner], warp(values, move, values.shape)[inner])

    _, scores, (slope_x, _) = at(2.0)
    predicted = float((scores * slope_x).mean())
    measured = (at(2.0625)[0] - at(1.9375)[0]) / 0.125  # OpenCV warps in steps of 1/32 pixel
    print(f"slope of the information: predicted {predicted:.4f}, measured {measured:.4f} nats a pixel")
    assert measured < -0.01
    assert predicted == pytest.approx(measured, rel=0.15)


def test_information_is_that_of_the_joint_histogram() -> None:
    """Independent values have none; a permutation of grey values keeps all of it, here log(2) of two equal halves."""
    rng = np.random.default_rng(1)
    halves = rng.integers(0, 2, (200, 200))
    other = rng.integers(0, 2, (200, 200))

    def information(warped: Array) -> float:
        return mutual_information(8 + halves * 15, (8 + warped * 15).astype(np.float32))[0]

    assert information(other) == pytest.approx(0.0, abs=2e-3)
    assert information(halves) == pytest.approx(np.log(2), abs=2e-3)
    assert information(1 - halves) == pytest.approx(np.log(2), abs=2e-3)


def test_blocks_measure_a_shift_through_haze(photo: Array) -> None:
    source = hazy(seen(photo, mapping(photo.shape[:2], 2.3, -1.6)))
    shifts = local_shifts(grey(source), grey(photo), np.eye(3))
    assert shifts.matched > 0.8
    assert np.median(shifts.vectors, axis=0) == pytest.approx([2.3, -1.6], abs=0.1)
    assert shifts.length(0.5) == pytest.approx(np.hypot(2.3, 1.6), abs=0.15)


def test_a_blocks_place_is_its_middle() -> None:
    noise = np.random.default_rng(0).random((79, 79), np.float32)
    noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.float32)
    found = local_shifts(noise, noise, np.eye(3))
    assert found.matched == 1.0 and np.abs(found.vectors).max() < 0.1
    # Blocks of 15 pixels every 7, from 4 pixels off the border on: as far from each side.
    assert found.points.mean(axis=0) == pytest.approx([39.0, 39.0], abs=1e-6)


def test_the_common_box_is_the_largest_one() -> None:
    rng = np.random.default_rng(2)
    for trial in range(20):
        valid = rng.random((7, 9)) < (0.5, 0.8)[trial % 2]
        largest = max(
            (bottom - top) * (right - left)
            for top in range(7)
            for bottom in range(top, 8)
            for left in range(9)
            for right in range(left, 10)
            if valid[top:bottom, left:right].all()
        )
        left, top, width, height = common_box(valid)
        assert width * height == largest
        assert valid[top : top + height, left : left + width].all()


# --- folders ------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, photo_paths: list[Path]) -> tuple[Path, Path]:
    """Captured pairs: one that fits, a damaged one, one of two scenes, one too small."""
    inputs, targets = tmp_path / "udc", tmp_path / "reference"
    bottles, room, _ = photo_paths
    rgb = half(read_photo(room).rgb)
    write_png(inputs / "good.png", hazy(seen(rgb, mapping(rgb.shape[:2], 4.0, -2.0))))
    write_png(targets / "good.png", rgb)
    write_png(inputs / "other.png", rgb)
    write_png(targets / "other.png", half(read_photo(bottles).rgb))
    (inputs / "damaged.jpg").write_bytes(room.read_bytes()[:2000])
    shutil.copy(room, targets / "damaged.jpg")
    for folder in (inputs, targets):
        Image.new("RGB", (40, 30)).save(folder / "tiny.png")
    return inputs, targets


def test_bad_pairs_stop_no_good_one(
    cli: Callable[..., Any], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "aligned"
    result = cli("align", *folders, "-o", out, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["aligned"], document["left_out"]) == (1, 3)
    for name in ("damaged", "other", "tiny"):
        assert f"{name} is left out" in result.stderr

    rows = {row["pair"]: row for row in csv.DictReader((out / "pairs.csv").open(encoding="utf-8"))}
    assert rows.keys() == {"good", "damaged", "other", "tiny"}
    good = rows["good"]
    assert good["aligned"] == "True" and good["branch"] == "mutual information" and good["reason"] == ""
    assert float(good["deviation"]) == pytest.approx(np.hypot(4, 2), abs=0.2)
    assert float(good["residual"]) < 0.5
    for name, reason in (("damaged", "damaged or incomplete"), ("other", "agree"), ("tiny", "40x30")):
        assert rows[name]["aligned"] == "False"
        assert reason in rows[name]["reason"] or "same scene" in rows[name]["reason"], rows[name]

    (pair,) = find_pairs(out)  # as training reads them
    check_sizes([pair], 64)
    left, top, width, height = (int(good[side]) for side in ("left", "top", "width", "height"))
    cut = read_photo(folders[0] / "good.png").rgb[top : top + height, left : left + width]
    assert np.array_equal(read_photo(pair.input).rgb, cut)  # the input is never resampled
    clean = seen(read_photo(folders[1] / "good.png").rgb, mapping((216, 384), 4.0, -2.0))
    assert np.abs(read_photo(pair.target).rgb - clean[top : top + height, left : left + width]).mean() < 0.01
    with Image.open(out / "preview.png") as preview:
        assert preview.width > 6 * 320


def test_no_pair_left_is_an_error_that_leaves_the_reasons(
    cli: Callable[..., Any], tmp_path: Path, photo_paths: list[Path]
) -> None:
    shutil.copy(photo_paths[1], tmp_path / "udc_1.jpg")
    (tmp_path / "ref_1.jpg").write_bytes(b"no photo")
    out = tmp_path / "aligned"
    result = cli("align", tmp_path, "-o", out)
    assert result.code == 2
    assert "none of 1 pairs could be aligned" in result.stderr.splitlines()[-1]
    assert "ref_1.jpg" in (out / "pairs.csv").read_text("utf-8")


def test_nothing_is_overwritten_and_limits_are_limits(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pairs = [("good", folders[0] / "good.png", folders[1] / "good.png")]
    with pytest.raises(UserError, match="is not an empty folder"):
        align_pairs(pairs, folders[0], **LIMITS)
    for limits in (
        {"threshold": 0.0, "max_residual": 1.0},
        {"threshold": 16.0, "max_residual": float("nan")},
    ):
        with pytest.raises(UserError, match="above zero"):
            align_pairs(pairs, tmp_path / "aligned", **limits)
    assert not (tmp_path / "aligned").exists()


def test_the_preview_enlarges_the_place_with_the_most_structure() -> None:
    """Noise in one corner of a flat photo: both details show it, and hardly anything else."""
    photo = np.full((160, 320, 3), 0.5, np.float32)
    photo[110:150, 230:310] = np.random.default_rng(0).random((40, 80, 1))
    outcome = Outcome("pair", True, deviation=1.5, branch="keypoints", residual=0.25)
    row = np.asarray(_preview_row(outcome, photo, photo, photo), np.float32)
    assert row.shape == (160 + 26, 6 * 326, 3)
    for column in (4, 5):
        detail = row[20:180, column * 326 : column * 326 + 320]
        assert detail[:, :, 0].std() > 40, column
        assert (detail[:, :, 0] == detail[:, :, 1]).all()  # photos that agree have no coloured fringe
