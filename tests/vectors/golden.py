"""golden/: small frames with known answers: PSNR against a floor, and a camera's frame as a renderer must draw it."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afterlens.samples import CALIBRATION
from tests.vectors.geometry import Case, Size, entry, sensor_from_artifact, sensor_from_view

Picture = NDArray[np.float64]  # (H, W, 3), RGB, [0, 1]

SIZE = Size(32, 24)
SENSOR = Size(160, 120)
ARTIFACT = Size(48, 48)
VIEW = Size(60, 96)
DIVIDER = 0.5  # in parts of the view's width
LINE = 2  # pixels
AMOUNTS = (0.0, 0.5, 1.0)  # how much of the network's change is shown
AMOUNT_FRAMES = ("0_back_crop", "270_front_fit")
AMOUNT_RANGE = (0.1, 0.9)  # of the output: brighter and darker than the screen can show, too


def files() -> dict[str, bytes]:
    """The binary files of golden/, by name."""
    photo = scaled_photo(SIZE)
    found = {"input.png": png(photo)}
    found |= {f"{name}.float32": raw(picture) for name, picture in outputs(photo).items()}
    frame = scaled_photo(SENSOR)
    found["sensor.png"] = png(frame)
    for name, case in frames().items():
        seen = in_levels(sampled(frame, sensor_from_artifact(case), case.artifact))
        found[f"{name}_artifact.png"] = png(seen)
        found[f"{name}_view.png"] = png(screen(case, frame, 1 - seen))
        if name in AMOUNT_FRAMES:
            for amount in AMOUNTS:
                shown = screen(case, frame, 1 - seen, amount, AMOUNT_RANGE)
                found[f"{amount_name(name, amount)}_view.png"] = png(shown)
    return found


def document() -> dict[str, Any]:
    """golden.json: what the files of golden/ are and what is expected of them."""
    return {
        "self_tests": self_tests(),
        "divider": DIVIDER,
        "line_pixels": LINE,
        "frames": [{"name": name, **entry(case)} for name, case in frames().items()],
        "amounts": [
            {"name": amount_name(name, amount), "frame": name, "amount": amount, "range": AMOUNT_RANGE}
            for name in AMOUNT_FRAMES
            for amount in AMOUNTS
        ],
    }


def amount_name(frame: str, amount: float) -> str:
    """Of a picture of this frame."""
    return f"{frame}_amount_{amount:.0%}".removesuffix("%")


def outputs(photo: Picture) -> dict[str, Picture]:
    """The expected output, and what a runtime may have computed instead."""
    expected = np.clip(photo * 1.1 - 0.03, 0, 1).astype(np.float32).astype(np.float64)
    noise = np.random.default_rng(5).standard_normal(photo.shape)
    broken = expected.copy()
    broken[3, 4, 1] = np.nan
    return {
        "expected": expected,
        "equal": expected,
        "near": expected + 1e-3 * noise,
        "far": expected + 0.1 * noise,
        "not_finite": broken,
    }


def self_tests() -> list[dict[str, Any]]:
    """The verdicts, with the line that a person reads."""
    found = outputs(scaled_photo(SIZE))
    expected = stored(found["expected"])
    entries = []
    for name, floor in (
        ("equal", 60.0),
        ("near", 50.0),
        ("near", 65.0),
        ("far", 20.0),
        ("far", 25.0),
        ("not_finite", 40.0),
    ):
        decibels = psnr(stored(found[name]), expected)
        passed = name != "not_finite" and decibels >= floor
        reason = ", and not every value is a finite number" if name == "not_finite" else ""
        entries.append(
            {
                "got": f"{name}.float32",
                "expected": "expected.float32",
                "width": SIZE.width,
                "height": SIZE.height,
                "range": [0.0, 1.0],
                "floor_db": floor,
                "psnr_db": round(decibels, 6),
                "passed": passed,
                "line": f"restored: {decibels:.2f} dB from the golden output, at least {floor:.2f} expected{reason}",
            }
        )
    return entries


def psnr(got: Picture, expected: Picture) -> float:
    """dB, peak 1, at most 100; a value that is not finite counts as an error of the whole range."""
    error = np.where(np.isfinite(got), got - expected, 1.0)
    square = math.fsum((error * error).ravel()) / error.size
    return 100.0 if square == 0 else min(100.0, -10 * math.log10(square))


def frames() -> dict[str, Case]:
    """Every rotation and lens, each once cropped and once fitted."""
    return {
        f"{rotation}_{'front' if mirrored else 'back'}_{scale}": Case(
            SENSOR, rotation, mirrored, ARTIFACT, True, scale, VIEW, scale
        )
        for rotation in (0, 90, 180, 270)
        for mirrored in (False, True)
        for scale in ("crop", "fit")
    }


def screen(
    case: Case,
    frame: Picture,
    result: Picture,
    amount: float = 1.0,
    output_range: tuple[float, float] = (0.0, 1.0),
) -> Picture:
    """The view: raw left of the divider in the middle, a white line, the result right of it, black around both.

    Of the result's change, `amount` is shown. The result's colours end where the screen's do.
    """
    from_view = sensor_from_view(case)
    to_result = np.linalg.inv(sensor_from_artifact(case)) @ from_view
    right = np.arange(case.view.width) + 0.5 >= case.view.width * DIVIDER
    low, high = output_range
    raw_picture = sampled(frame, from_view, case.view)
    restored = np.clip((sampled(result, to_result, case.view) - low) / (high - low), 0, 1)
    # raw + amount * (restored - raw), written so that no rounding is left at 0 and 1.
    blended = (1 - amount) * raw_picture + amount * restored
    picture = np.where(right[:, None], blended, raw_picture)
    places = np.concatenate([points(matrix, case.view)[..., :2] for matrix in (from_view, to_result)], -1)
    picture[((places < 0) | (places > 1)).any(-1)] = 0
    picture[:, np.abs(np.arange(case.view.width) + 0.5 - case.view.width * DIVIDER) < LINE / 2] = 1
    return picture


def points(matrix: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    """Where a matrix takes the middle of each pixel: (H, W, 4)."""
    across, down = (np.arange(size.width) + 0.5) / size.width, (np.arange(size.height) + 0.5) / size.height
    return np.stack(np.broadcast_arrays(across[None], down[:, None], 0.0, 1.0), -1) @ matrix.T


def sampled(frame: Picture, matrix: NDArray[np.float64], size: Size) -> Picture:
    """A frame drawn through a matrix, bilinear; beyond its edges it goes on as its own mirror image."""
    height, width = frame.shape[:2]
    places = points(matrix, size)
    x, y = (1 - np.abs(1 - np.abs(places[..., axis])) for axis in (0, 1))
    x, y = x * width - 0.5, y * height - 0.5
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = (x - left)[..., None], (y - top)[..., None]

    def texel(column: NDArray[np.float64], row: NDArray[np.float64]) -> Picture:
        rows = np.clip(row, 0, height - 1).astype(int)
        picture: Picture = frame[rows, np.clip(column, 0, width - 1).astype(int)]
        return picture

    above = texel(left, top) * (1 - right_share) + texel(left + 1, top) * right_share
    below = texel(left, top + 1) * (1 - right_share) + texel(left + 1, top + 1) * right_share
    result: Picture = above * (1 - bottom_share) + below * bottom_share
    return result


def scaled_photo(size: Size) -> Picture:
    """A bundled photo, in 8-bit steps."""
    with Image.open(CALIBRATION[0]) as photo:
        small = photo.convert("RGB").resize(size, Image.Resampling.BOX)
    return np.asarray(small, np.float64) / 255


def in_levels(picture: Picture) -> Picture:
    """Rounded to 8 bits."""
    levels: Picture = np.rint(np.clip(picture, 0, 1) * 255) / 255
    return levels


def png(picture: Picture) -> bytes:
    """8-bit RGB."""
    stream = io.BytesIO()
    Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def raw(picture: Picture) -> bytes:
    """Little-endian float32, (H, W, 3), as the bundle's golden files."""
    return picture.astype("<f4").tobytes()


def stored(picture: Picture) -> Picture:
    """The values that the file holds."""
    return picture.astype(np.float32).astype(np.float64)
