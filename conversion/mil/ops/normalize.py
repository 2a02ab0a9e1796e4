"""MIL operators that normalize: batch, instance, layer and local response normalization, softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, ints, per_channel


def _scaled(x: Array, gamma: Array | None, beta: Array | None) -> Array:
    if gamma is not None:
        x = x * gamma
    return x if beta is None else x + beta


def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = 1e-5,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, all per channel (axis 1)."""
    normal = (x - per_channel(mean, x)) / np.sqrt(per_channel(variance, x) + epsilon)
    return _scaled(
        normal,
        None if gamma is None else per_channel(gamma, x),
        None if beta is None else per_channel(beta, x),
    )


def _standardised(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    # Summed in float64: what is left of a bright picture with little contrast is as small as float32's error of the sum.
    centred = x - np.mean(x, axis=axes, keepdims=True, dtype=np.float64).astype(x.dtype)
    return centred / np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True) + epsilon)


def instance_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Each channel of each image to mean 0 and variance 1, then gamma and beta per channel."""
    return _scaled(
        _standardised(x, tuple(range(2, x.ndim)), epsilon),
        None if gamma is None else per_channel(gamma, x),
        None if beta is None else per_channel(beta, x),
    )


def layer_norm(
    x: Array,
    axes: Any = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = 1e-5,
) -> Array:
    """Mean 0 and variance 1 over `axes` (all of them by default), then gamma and beta of these axes' shape."""
    over = tuple(sorted(a % x.ndim for a in (range(x.ndim) if axes is None else ints(axes))))
    shape = [x.shape[a] if a in over else 1 for a in range(x.ndim)]
    return _scaled(
        _standardised(x, over, epsilon),
        None if gamma is None else gamma.reshape(shape),
        None if beta is None else beta.reshape(shape),
    )


def l2_norm(x: Array, epsilon: Any = 1e-6) -> Array:
    """x divided by the square root of its sum of squares (over the last three axes) + epsilon."""
    return x / np.sqrt(np.sum(np.square(x), axis=(-3, -2, -1), keepdims=True) + epsilon)


def local_response_norm(
    x: Array,
    size: Any,
    alpha: Any = 1e-4,
    beta: Any = 0.75,
    k: Any = 1.0,
) -> Array:
    """x / (k + alpha / size * sum of squares over `size` neighbouring channels) ^ beta, as in PyTorch.

    Of an even size, the odd neighbour is the channel before.
    """
    size = int(size)
    squares, sums = np.square(x), np.zeros_like(x)
    for channel in range(x.shape[1]):
        sums[:, channel] = squares[:, max(channel - size // 2, 0) : channel + (size + 1) // 2].sum(axis=1)
    return x / (k + alpha / size * sums) ** beta


def softmax(x: Array, axis: Any = -1) -> Array:
    """e^x / sum(e^x) along an axis."""
    e = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    return e / np.sum(e, axis=int(axis), keepdims=True)


NORMALIZE: dict[str, Operator] = {
    "batch_norm": batch_norm,
    "instance_norm": instance_norm,
    "l2_norm": l2_norm,
    "layer_norm": layer_norm,
    "local_response_norm": local_response_norm,
    "softmax": softmax,
}
