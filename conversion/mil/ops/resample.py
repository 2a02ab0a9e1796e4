"""MIL operators that sample images at computed positions: grid sampling, affine warps, boxes. Images are (N, C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded


def _fold(positions: Array, low: float, high: float) -> Array:
    """Reflects positions at both ends of [low, high] until they lie inside."""
    span = high - low
    if span <= 0:
        return np.zeros_like(positions)
    offset = np.mod(positions - low, 2 * span)
    return low + np.minimum(offset, 2 * span - offset)


def _sample(x: Array, columns: Array, rows: Array, nearest: bool, outside: float) -> Array:
    """x (C, H, W) at positions (h, w) -> (C, h, w); what lies outside of the image has the value `outside`."""
    height, width = x.shape[-2:]

    def tap(row: Array, column: Array) -> Array:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        # Far positions and NaN must not reach the integer conversion.
        r = np.where(inside, row, 0).astype(np.intp)
        c = np.where(inside, column, 0).astype(np.intp)
        return np.where(inside, x[:, r, c], np.float32(outside))

    if nearest:
        return tap(np.rint(rows), np.rint(columns))
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    result = np.zeros((x.shape[0], *rows.shape), np.float32)
    for row, row_share in ((top, 1 - down), (top + 1, down)):
        for column, column_share in ((left, 1 - right), (left + 1, right)):
            share = row_share * column_share
            result += np.where(share == 0, 0, tap(row, column) * share)
    return result


def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Any,
    coordinates_mode: str,
    align_corners: Any,
) -> Array:
    """x (N, C, H, W) at coordinates (N, h, w, 2) in (x, y) order -> (N, C, h, w), torch's grid_sample.

    Positions are folded or clamped into the image before the nearest pixel is chosen.
    """
    if sampling_mode not in ("bilinear", "nearest"):
        raise ValueError(f"sampling_mode {sampling_mode!r}")
    positions = []
    for axis, size in ((0, x.shape[3]), (1, x.shape[2])):
        p = coordinates[..., axis].astype(np.float32)
        if coordinates_mode != "unnormalized":
            if coordinates_mode == "normalized_minus_one_to_one":
                p = (p + 1) / 2
            elif coordinates_mode != "normalized_zero_to_one":
                raise ValueError(f"coordinates_mode {coordinates_mode!r}")
            p = p * (size - 1) if align_corners else p * size - 0.5
        if padding_mode == "border":
            p = np.clip(p, 0, size - 1)
        elif padding_mode == "reflection":
            p = _fold(p, 0, size - 1)
        elif padding_mode == "symmetric":
            p = np.clip(_fold(p, -0.5, size - 0.5), 0, size - 1)
        elif padding_mode != "constant":
            raise ValueError(f"padding_mode {padding_mode!r}")
        positions.append(p)
    bounded([x.shape[0], x.shape[1], *coordinates.shape[1:3]])
    nearest = sampling_mode == "nearest"
    samples = [
        _sample(image, columns, rows, nearest, float(padding_value))
        for image, columns, rows in zip(x, *positions, strict=True)
    ]
    return np.stack(samples)


def affine(
    x: Array,
    transform_matrix: Array,
    output_height: Any,
    output_width: Any,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Any,
    coordinates_mode: str,
    align_corners: Any,
) -> Array:
    """x (N, C, H, W) under the matrices (N or 1, 6) that lead from output to input coordinates."""
    height, width = int(output_height), int(output_width)
    bounded([x.shape[0], x.shape[1], height, width])
    if coordinates_mode == "normalized_zero_to_one":
        low, high = 0.0, 1.0
    else:
        low, high = -1.0, 1.0
    columns, rows = np.meshgrid(
        np.linspace(low, high, width, dtype=np.float32), np.linspace(low, high, height, dtype=np.float32)
    )
    matrices = np.broadcast_to(transform_matrix, (x.shape[0], 6)).reshape(-1, 2, 3)
    plane = np.stack([columns, rows, np.ones_like(rows)])  # (3, h, w)
    coordinates = np.einsum("nij,jhw->nhwi", matrices, plane)
    return resample(
        x, coordinates, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners
    )


def crop_resize(
    x: Array,
    roi: Array | None = None,
    target_height: Any = 1,
    target_width: Any = 1,
    normalized_coordinates: Any = False,
    spatial_scale: Any = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: Any = 0.0,
    boxes: Array | None = None,
    box_indices: Array | None = None,
) -> Array:
    """Boxes of x (N, C, H, W) resized bilinearly.

    Before iOS 17: `roi` (B, 1, 4 or 5, 1, 1) -> (B, N or 1, C, h, w), five numbers begin with the image's index.
    From iOS 17: `boxes` (B, 4) and `box_indices` (B,) -> (B, C, h, w).
    """
    if (roi is None) == (boxes is None):
        raise ValueError("either roi or boxes must be given")
    height, width = int(target_height), int(target_width)
    flat = boxes if boxes is not None else np.asarray(roi).reshape(len(np.asarray(roi)), -1)
    every = roi is not None and flat.shape[1] == 4
    if roi is not None and flat.shape[1] == 5:
        box_indices, flat = flat[:, 0], flat[:, 1:]
    if box_indices is None:
        box_indices = np.arange(len(flat))
    bounded([len(flat), len(x) if every else 1, x.shape[1], height, width])
    results = []
    for box, index in zip(flat.astype(np.float64), box_indices, strict=True):
        (top, bottom), (left, right) = _box_sides(box, box_coordinate_mode)
        factors = [size - 1 if normalized_coordinates else 1 for size in x.shape[2:]]
        scale = float(spatial_scale)
        if roi is not None and normalized_coordinates and (bottom < top or right < left):
            # Such a box stands for the whole image: what coremltools' own test expects of Core ML.
            (top, bottom), (left, right), scale = (0.0, 1.0), (0.0, 1.0), 1.0
        rows = _box_grid(top * factors[0] * scale, bottom * factors[0] * scale, height, sampling_mode)
        columns = _box_grid(left * factors[1] * scale, right * factors[1] * scale, width, sampling_mode)
        grid_columns, grid_rows = np.meshgrid(columns, rows)
        for image in x if every else [x[int(index)]]:
            results.append(_sample_in_frame(image, grid_columns, grid_rows, float(pad_value)))
    stacked = np.stack(results)
    return stacked if roi is None else stacked.reshape(len(flat), -1, *stacked.shape[1:])


def _box_sides(box: Array, mode: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """((top, bottom), (left, right)) of a box in MIL's four notations."""
    a, b, c, d = (float(v) for v in box)
    if mode.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CORNERS_"):
        return (a, c), (b, d)
    if mode.startswith("CENTER_SIZE_"):
        return (a - c / 2, a + c / 2), (b - d / 2, b + d / 2)
    raise ValueError(f"box_coordinate_mode {mode!r}")


def _box_grid(start: float, end: float, count: int, mode: str) -> Array:
    """The sampling modes of resize_bilinear between two corners of a box."""
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.array([(start + end) / 2 if mode == "ALIGN_CORNERS" else start])
        return start + i * ((end - start) / (count - 1))
    if mode == "DEFAULT":
        return start + i * ((end - start + 1) / count)
    if mode == "OFFSET_CORNERS":
        return start + (i + 0.5) * ((end - start) / count)
    if mode == "UNALIGN_CORNERS":
        return start + (i + 0.5) * ((end - start + 1) / count) - 0.5
    raise ValueError(f"sampling_mode {mode!r}")


def _sample_in_frame(image: Array, columns: Array, rows: Array, outside: float) -> Array:
    """Bilinear samples of image (C, H, W); a position outside of the outermost pixel centres is all `outside`."""
    height, width = image.shape[-2:]
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    return np.where(inside, _sample(image, columns, rows, False, outside), np.float32(outside))


RESAMPLE: dict[str, Operator] = {
    "affine": affine,
    "crop_resize": crop_resize,
    "resample": resample,
}
