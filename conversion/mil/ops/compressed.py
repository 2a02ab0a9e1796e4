"""MIL operators that expand compressed weights (`constexpr_*`), iOS 16 and iOS 18 forms, and run-time quantization.

They run once, when the program is loaded. float16 is computed in float32 and rounded by the caller.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, ints
from afterlens.conversion.mil.package import unpack_bits


def _along(parameter: Array, data: Array, axis: Any) -> Array:
    """A scalar or a vector along `axis`, shaped to broadcast over `data`."""
    parameter = np.asarray(parameter, np.float32)
    if parameter.size == 1:
        return parameter.reshape(())
    if parameter.ndim != 1 or axis is None or parameter.size != data.shape[int(axis)]:
        raise ValueError(f"parameter of shape {parameter.shape} along axis {axis} of {data.shape}")
    return parameter.reshape([-1 if a == int(axis) % data.ndim else 1 for a in range(data.ndim)])


def constexpr_affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Any) -> Array:
    """scale * (quantized_data - zero_point), scale and zero_point per tensor or along `axis`."""
    shifted = quantized_data.astype(np.float32) - _along(zero_point, quantized_data, axis)
    return _along(scale, quantized_data, axis) * shifted


def constexpr_cast(source_val: Array, output_dtype: str) -> Array:
    """float16 weights as float32."""
    if output_dtype != "fp32":
        raise ValueError(f"output_dtype {output_dtype!r}, expected 'fp32'")
    return source_val


def constexpr_lut_to_dense(
    indices: Array, lut: Array, shape: Array | None = None, vector_axis: Any = None
) -> Array:
    """Weights from a palette.

    iOS 16 (`shape` given): indices packed log2(len(lut)) bits each, one palette. iOS 18: indices of any rank K, lut of
    rank K + 2, (*groups, palette size, vector size); each palette serves a block of indices, and a vector fills
    consecutive positions along `vector_axis`.
    """
    if shape is not None:
        sizes = bounded(ints(shape))
        bits = int(lut.size).bit_length() - 1
        if lut.ndim != 1 or lut.size != 1 << bits or not 1 <= bits <= 8:
            raise ValueError(f"a palette of shape {lut.shape}, expected 2 to 256 values, a power of two")
        return lut[unpack_bits(indices.astype(np.uint8), bits, math.prod(sizes))].reshape(sizes)
    if lut.ndim != indices.ndim + 2:
        raise ValueError(f"a palette of rank {lut.ndim} for indices of rank {indices.ndim}")
    groups, (entries, vector) = lut.shape[:-2], lut.shape[-2:]
    if indices.size and int(indices.max()) >= entries:
        raise ValueError(f"index {int(indices.max())} into a palette of {entries}")
    # The number of the palette that serves each index, then one look-up in all of them laid end to end.
    palette = np.arange(math.prod(groups)).reshape(groups)
    palette = _blocks(palette, indices.shape)
    bounded([*indices.shape, vector])
    dense = lut.reshape(-1, vector)[palette * entries + indices]  # (*indices.shape, vector)
    if vector == 1:
        return dense[..., 0]
    axis = int(vector_axis) % indices.ndim
    filled = [size * vector if a == axis else size for a, size in enumerate(indices.shape)]
    return np.moveaxis(dense, -1, axis + 1).reshape(filled)


def _blocks(values: Array, shape: tuple[int, ...]) -> Array:
    """`values` repeated blockwise to `shape`."""
    if values.ndim != len(shape):
        raise ValueError(f"blocks of shape {values.shape} for {shape}")
    for axis, (have, want) in enumerate(zip(values.shape, shape, strict=True)):
        if have == 0 or want % have:
            raise ValueError(f"blocks of shape {values.shape} for {shape}")
        if have != want:
            values = np.repeat(values, want // have, axis)
    return values


def constexpr_blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale * (data - offset), each value of scale and offset serving a block of data."""
    dense = data.astype(np.float32)
    if offset is not None:
        dense = dense - _blocks(offset.astype(np.float32), data.shape)
    return _blocks(scale, data.shape) * dense


def constexpr_sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """Values where the mask is set, 0 elsewhere; iOS 16 packs the mask a bit each and gives `shape`."""
    if shape is not None:
        sizes = bounded(ints(shape))
        mask = unpack_bits(mask.astype(np.uint8), 1, math.prod(sizes)).reshape(sizes)
    if np.count_nonzero(mask) != nonzero_data.size:
        raise ValueError(f"{nonzero_data.size} values for {np.count_nonzero(mask)} set bits")
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data.ravel()
    return dense


def constexpr_lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Any = None
) -> tuple[Array, Array]:
    """Palette values of the set positions only: (mask, values)."""
    dense = constexpr_lut_to_dense(
        constexpr_sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis=vector_axis
    )
    vector = lut.shape[-1]
    mask = indices_mask if vector == 1 else np.repeat(indices_mask, vector, int(vector_axis))
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """Dequantized values of the set positions only: (mask, values)."""
    dense = constexpr_blockwise_shift_scale(constexpr_sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def quantize(
    input: Array,
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: Any = None,
) -> Array:
    """clip(round(input / scale) + zero_point) to int8 or uint8; halves round to even."""
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}[output_dtype]
    rounded = np.rint(input / _along(scale, input, axis))
    if zero_point is not None:
        rounded = rounded + _along(zero_point, input, axis)
    return np.clip(np.nan_to_num(rounded), low, high).astype(output_dtype)


def dequantize(
    input: Array,
    scale: Array,
    zero_point: Array | None = None,
    axis: Any = None,
) -> Array:
    """scale * (input - zero_point)."""
    shifted = input.astype(np.float32)
    if zero_point is not None:
        shifted = shifted - _along(zero_point, input, axis)
    return _along(scale, input, axis) * shifted


COMPRESSED: dict[str, Operator] = {
    "constexpr_affine_dequantize": constexpr_affine_dequantize,
    "constexpr_cast": constexpr_cast,
    "constexpr_lut_to_dense": constexpr_lut_to_dense,
    "constexpr_blockwise_shift_scale": constexpr_blockwise_shift_scale,
    "constexpr_sparse_to_dense": constexpr_sparse_to_dense,
    "constexpr_lut_to_sparse": constexpr_lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": constexpr_sparse_blockwise_shift_scale,
    "quantize": quantize,
    "dequantize": dequantize,
}
