"""MIL's convolutions. Arrays are (N, C, *spatial).

Sums run in PyTorch for speed, in float32; paddings and output sizes are computed here.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, ints, padded, tensor
from afterlens.conversion.mil.ops.windows import pads_of, per_axis

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
    strides, dilations = per_axis(strides, rank), per_axis(dilations, rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = pads_of(pad_type, pad, x.shape[2:], kernel, strides)
    bounded([*x.shape[:2], *(n + sum(width) for n, width in zip(x.shape[2:], pads, strict=True))])
    symmetric = all(before == after for before, after in pads)  # torch can then pad without a copy
    result = _CONV[rank](
        tensor(x if symmetric else padded(x, pads)),
        tensor(weight),
        None if bias is None else tensor(bias),
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
    strides, dilations = per_axis(strides, rank), per_axis(dilations, rank)
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]
    if output_shape is not None:
        sizes = ints(output_shape)[2:]
    elif pad_type in ("same", "same_lower"):
        sizes = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    else:
        pads = pads_of(pad_type, pad, full, kernel, strides)
        sizes = [n - sum(cut) for n, cut in zip(full, pads, strict=True)]
    bounded([x.shape[0], weight.shape[1] * int(groups), *full])
    bounded([x.shape[0], weight.shape[1] * int(groups), *sizes])
    before = [cut for cut, _ in pads_of(pad_type, pad, sizes, kernel, strides)]
    result = _CONV_TRANSPOSE[rank](
        tensor(x), tensor(weight), stride=strides, dilation=dilations, groups=int(groups)
    ).numpy()
    for axis, (start, size) in enumerate(zip(before, sizes, strict=True), 2):
        result = result[(slice(None),) * axis + (slice(start, start + size),)]
    missing = [(0, n - got) for n, got in zip(sizes, result.shape[2:], strict=True)]
    result = padded(result, missing)
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


CONVOLUTION: dict[str, Operator] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
}
