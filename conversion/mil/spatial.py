"""MIL operators on images and feature maps: convolution, pooling, resizing, resampling, pixel rearrangement.

One function per operator; keyword arguments carry MIL's names and defaults, arrays are (N, C, *spatial). Convolution
and pooling sums run in torch for speed, in float32; paddings, output sizes and sampling grids are computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from afterlens.conversion.mil.package import MAX_ELEMENTS

Array = NDArray[Any]


def ints(values: Any) -> list[int]:
    """A MIL integer vector (or scalar) as Python integers."""
    return [int(v) for v in np.atleast_1d(values)]


def bounded(shape: Sequence[int]) -> tuple[int, ...]:
    """`shape`, refused where a parameter asks for a tensor that no real model holds."""
    if math.prod(max(int(size), 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(
            f"a result of shape {tuple(shape)} is asked for, at most {MAX_ELEMENTS} elements are allowed"
        )
    return tuple(int(size) for size in shape)


def _tensor(x: Array) -> torch.Tensor:
    # A float32 copy where the array is read-only (a view of the weight file), which torch warns about.
    x = np.ascontiguousarray(x, np.float32)
    return torch.from_numpy(x if x.flags.writeable else x.copy())


# Convolution


def _pads(
    pad_type: str, pad: Any, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Elements before and after each spatial dimension; `kernel` with its dilation.

    `same` keeps ceil(size / stride) outputs and puts an odd element after, `same_lower` before the image.
    """
    if pad_type == "custom":
        flat = ints(pad) if pad is not None else [0] * 2 * len(sizes)
        if len(flat) != 2 * len(sizes) or min(flat) < 0:
            raise ValueError(f"pad {flat}, expected {2 * len(sizes)} sizes of at least 0")
        return list(zip(flat[::2], flat[1::2], strict=True))
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type!r}")
    totals = [max(0, -(-n // s) * s - n + k - s) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if pad_type == "same" else [(after, before) for before, after in halves]


def _padded(x: Array, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    widths = [(0, 0)] * (x.ndim - len(pads)) + list(pads)
    if not any(before or after for before, after in widths):
        return x
    bounded([size + sum(width) for size, width in zip(x.shape, widths, strict=True)])
    return np.pad(x, widths, constant_values=value)


def _per_axis(values: Any, rank: int) -> list[int]:
    """A stride or dilation per spatial dimension, 1 where it is not given."""
    found = [1] * rank if values is None else ints(values)
    if len(found) != rank or min(found) < 1:
        raise ValueError(f"{found}, expected {rank} sizes of at least 1")
    return found


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Array:
    """Cross-correlation: x (N, C_in, *d), weight (C_out, C_in / groups, *k) -> (N, C_out, *d_out)."""
    rank = x.ndim - 2
    strides, dilations = _per_axis(strides, rank), _per_axis(dilations, rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = _pads(pad_type, pad, x.shape[2:], kernel, strides)
    bounded([*x.shape[:2], *(n + sum(width) for n, width in zip(x.shape[2:], pads, strict=True))])
    symmetric = all(before == after for before, after in pads)  # torch can then pad without a copy
    result = _CONV[rank](
        _tensor(x if symmetric else _padded(x, pads)),
        _tensor(weight),
        None if bias is None else _tensor(bias),
        stride=strides,
        padding=[before for before, _ in pads] if symmetric else 0,
        dilation=dilations,
        groups=int(groups),
    )
    return result.numpy()


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: str = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Array:
    """Transposed convolution: x (N, C_in, *d), weight (C_in, C_out / groups, *k) -> (N, C_out, *d_out).

    The full result is cropped by the padding; where `output_shape` reaches beyond it, there is only bias.
    """
    rank = x.ndim - 2
    strides, dilations = _per_axis(strides, rank), _per_axis(dilations, rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]
    if output_shape is not None:
        sizes = ints(output_shape)[2:]
    elif pad_type in ("same", "same_lower"):
        sizes = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    else:
        pads = _pads(pad_type, pad, full, kernel, strides)
        sizes = [n - sum(cut) for n, cut in zip(full, pads, strict=True)]
    bounded([x.shape[0], weight.shape[1] * int(groups), *full])
    bounded([x.shape[0], weight.shape[1] * int(groups), *sizes])
    before = [cut for cut, _ in _pads(pad_type, pad, sizes, kernel, strides)]
    result = _CONV_TRANSPOSE[rank](
        _tensor(x), _tensor(weight), stride=strides, dilation=dilations, groups=int(groups)
    ).numpy()
    for axis, (start, size) in enumerate(zip(before, sizes, strict=True), 2):
        result = result[(slice(None),) * axis + (slice(start, start + size),)]
    missing = [(0, n - got) for n, got in zip(sizes, result.shape[2:], strict=True)]
    result = _padded(result, missing)
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


# Pooling


def _pool_geometry(
    x: Array, kernel_sizes: Any, strides: Any, pad_type: str, pad: Any, ceil_mode: Any
) -> tuple[list[int], list[int], list[tuple[int, int]], list[tuple[int, int]]]:
    """(kernel, strides, declared pads, pads with the part of the last window that ceil_mode hangs over)."""
    kernel = ints(kernel_sizes)
    strides = _per_axis(strides, x.ndim - 2)
    pads = _pads(pad_type.lower(), pad, x.shape[2:], kernel, strides)
    reach = []
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        span = n + before + after - k
        outputs = (-(-span // s) if ceil_mode else span // s) + 1
        if ceil_mode and before + after > 0 and (outputs - 1) * s >= n + before:
            outputs -= 1  # a window that would start in the padding after the image is dropped
        reach.append((before, max(after, (outputs - 1) * s + k - n - before)))
    return kernel, strides, pads, reach


def _window_sums(x: Array, kernel: list[int], strides: list[int]) -> Array:
    """Sums over windows of the spatial dimensions."""
    if x.ndim == 3:
        return F.avg_pool2d(_tensor(x)[..., None], [*kernel, 1], [*strides, 1], divisor_override=1).numpy()[
            ..., 0
        ]
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    return pool(_tensor(x), kernel, strides, divisor_override=1).numpy()


def avg_pool(
    x: Array,
    kernel_sizes: Any,
    pad_type: str,
    strides: Any = None,
    pad: Any = None,
    ceil_mode: Any = False,
    exclude_padding_from_average: Any = False,
) -> Array:
    """Mean over windows; padded zeros count in the divisor unless they are excluded, the overhang never does."""
    kernel, steps, pads, reach = _pool_geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    sums = _window_sums(_padded(x, reach), kernel, steps)
    divisor = np.ones([1] * x.ndim, np.float32)
    for axis, (n, k, s, (before, after)) in enumerate(zip(x.shape[2:], kernel, steps, pads, strict=True), 2):
        start = np.arange(sums.shape[axis]) * s - before
        low, high = (0, n) if exclude_padding_from_average else (-before, n + after)
        counts = np.minimum(start + k, high) - np.maximum(start, low)
        divisor = divisor * np.maximum(counts, 1).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return sums / divisor.astype(np.float32)


def l2_pool(
    x: Array, kernel_sizes: Any, pad_type: str, strides: Any = None, pad: Any = None, ceil_mode: Any = False
) -> Array:
    """Square root of the sum of squares over windows."""
    kernel, steps, _, reach = _pool_geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return np.sqrt(_window_sums(_padded(x * x, reach), kernel, steps))


def max_pool(
    x: Array, kernel_sizes: Any, pad_type: str, strides: Any = None, pad: Any = None, ceil_mode: Any = False
) -> Array:
    """Maximum over windows; padding never wins."""
    kernel, steps, _, reach = _pool_geometry(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    padded = _tensor(_padded(x, reach, -np.inf))
    pool = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.ndim]
    return pool(padded, kernel, steps).numpy()


# Resizing


def _grid(mode: str, size: int, count: int) -> Array:
    """Where in [0, size - 1] the `count` samples of a MIL sampling mode lie."""
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            positions = np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        else:
            positions = i * ((size - 1) / (count - 1))
    elif mode == "DEFAULT":
        positions = i * (size / count)
    elif mode == "OFFSET_CORNERS":
        positions = (i + 0.5) * (max(1, size - 1) / count)
    elif mode == "UNALIGN_CORNERS":
        positions = (i + 0.5) * (size / count) - 0.5
    else:
        raise ValueError(f"sampling_mode {mode!r}")
    return np.clip(positions, 0.0, size - 1)


def _linear(x: Array, axis: int, positions: Array) -> Array:
    """`x` interpolated linearly at `positions` along `axis`."""
    if len(positions) == x.shape[axis] and np.array_equal(positions, np.arange(len(positions))):
        return x
    low = np.floor(positions).astype(np.intp)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (
        (positions - low).astype(np.float32).reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])
    )
    below, above = np.take(x, low, axis), np.take(x, high, axis)
    # An infinite neighbour of weight 0 must not turn the sample into NaN.
    return np.where(share == 0, below, below * (1 - share) + above * share)


def _resized(x: Array, sizes: Sequence[int], mode: str, nearest: str | None = None) -> Array:
    """The last len(sizes) dimensions resized; `nearest` is "floor" or "round", None for linear."""
    bounded([*x.shape[: x.ndim - len(sizes)], *sizes])
    if min(sizes) < 1:
        raise ValueError(f"target size {tuple(sizes)}")
    for axis, count in zip(range(-len(sizes), 0), sizes, strict=True):
        size = x.shape[axis]
        if nearest == "floor":
            x = np.take(x, np.arange(count) * size // count, axis)
        elif nearest == "round":
            x = np.take(x, np.floor(_grid(mode, size, count) + 0.5).astype(np.intp), axis)
        else:
            x = _linear(x, axis, _grid(mode, size, count))
    return x


def _scaled_sizes(x: Array, height: Any, width: Any) -> tuple[int, int]:
    return math.floor(x.shape[-2] * float(height)), math.floor(x.shape[-1] * float(width))


def upsample_nearest_neighbor(x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Array:
    """Nearest neighbour by a factor; sample i comes from floor(i * size / new size)."""
    return _resized(x, _scaled_sizes(x, scale_factor_height, scale_factor_width), "DEFAULT", "floor")


def resize_nearest_neighbor(x: Array, target_size_height: Any, target_size_width: Any) -> Array:
    """Nearest neighbour to a size; sample i comes from floor(i * size / new size)."""
    return _resized(x, [int(target_size_height), int(target_size_width)], "DEFAULT", "floor")


def upsample_bilinear(
    x: Array,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Array:
    """Bilinear by a factor; the grid follows from the two sizes, not from the factor."""
    half_pixel = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    if align_corners and half_pixel:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half_pixel else "DEFAULT"
    return _resized(x, _scaled_sizes(x, scale_factor_height, scale_factor_width), mode)


def resize_bilinear(
    x: Array, target_size_height: Any = 1, target_size_width: Any = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    """Bilinear to a size."""
    return _resized(x, [int(target_size_height), int(target_size_width)], sampling_mode)


def resize(
    x: Array,
    shape: Any,
    resized_dims: Any,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """iOS 17: the last `resized_dims` dimensions take the last sizes of `shape` (0 keeps a size)."""
    if interpolation_mode not in ("LINEAR", "NEAREST_NEIGHBOR"):
        raise ValueError(f"interpolation_mode {interpolation_mode!r}")
    count = int(resized_dims)
    if not 0 <= count <= min(len(ints(shape)), x.ndim):
        raise ValueError(f"resized_dims {count} of shape {ints(shape)} for {x.ndim} dimensions")
    if count == 0:
        return x
    sizes = [size or old for size, old in zip(ints(shape)[-count:], x.shape[-count:], strict=True)]
    return _resized(x, sizes, sampling_mode, "round" if interpolation_mode == "NEAREST_NEIGHBOR" else None)


def crop(x: Array, crop_height: Any, crop_width: Any) -> Array:
    """Cuts rows (top, bottom) and columns (left, right) off the last two dimensions."""
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


# Resampling


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


# Pixel rearrangement


def pixel_shuffle(x: Array, upscale_factor: Any) -> Array:
    """(N, C f^2, H, W) -> (N, C, H f, W f); channels count (C, row, column), as in torch."""
    f = int(upscale_factor)
    n, c, h, w = x.shape
    return (
        x.reshape(n, c // (f * f), f, f, h, w)
        .transpose(0, 1, 4, 2, 5, 3)
        .reshape(n, c // (f * f), h * f, w * f)
    )


def pixel_unshuffle(x: Array, downscale_factor: Any) -> Array:
    """(N, C, H, W) -> (N, C f^2, H / f, W / f); channels count (C, row, column), as in torch."""
    f = int(downscale_factor)
    n, c, h, w = x.shape
    return (
        x.reshape(n, c, h // f, f, w // f, f)
        .transpose(0, 1, 3, 5, 2, 4)
        .reshape(n, c * f * f, h // f, w // f)
    )


def depth_to_space(x: Array, block_size: Any) -> Array:
    """(N, C b^2, H, W) -> (N, C, H b, W b); channels count (row, column, C), as in TensorFlow."""
    b = int(block_size)
    n, c, h, w = x.shape
    return (
        x.reshape(n, b, b, c // (b * b), h, w)
        .transpose(0, 3, 4, 1, 5, 2)
        .reshape(n, c // (b * b), h * b, w * b)
    )


def space_to_depth(x: Array, block_size: Any) -> Array:
    """(N, C, H, W) -> (N, C b^2, H / b, W / b); channels count (row, column, C), as in TensorFlow."""
    b = int(block_size)
    n, c, h, w = x.shape
    return (
        x.reshape(n, c, h // b, b, w // b, b)
        .transpose(0, 3, 5, 1, 2, 4)
        .reshape(n, c * b * b, h // b, w // b)
    )


def space_to_batch(x: Array, block_shape: Any, paddings: Any) -> Array:
    """Pads, then moves each block's pixels into the batch, block position first (TensorFlow)."""
    rows, columns = ints(block_shape)
    x = _padded(x, [(int(a), int(b)) for a, b in paddings])
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // rows, rows, w // columns, columns).transpose(3, 5, 0, 1, 2, 4)
    return blocks.reshape(n * rows * columns, c, h // rows, w // columns)


def batch_to_space(x: Array, block_shape: Any, crops: Any) -> Array:
    """Undoes space_to_batch."""
    rows, columns = ints(block_shape)
    n, c, h, w = x.shape
    blocks = x.reshape(rows, columns, n // (rows * columns), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    image = blocks.reshape(n // (rows * columns), c, h * rows, w * columns)
    return crop(image, crops[0], crops[1])


SPATIAL = (
    conv,
    conv_transpose,
    avg_pool,
    l2_pool,
    max_pool,
    upsample_nearest_neighbor,
    resize_nearest_neighbor,
    upsample_bilinear,
    resize_bilinear,
    resize,
    crop,
    resample,
    affine,
    crop_resize,
    pixel_shuffle,
    pixel_unshuffle,
    depth_to_space,
    space_to_depth,
    space_to_batch,
    batch_to_space,
)
