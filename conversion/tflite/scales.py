"""The arithmetic of quantization: scales and zero points of activations and weights.

It follows TFLite's quantization specification (tensorflow.org/lite/performance/quantization_spec): a number is
``scale * (q - zero_point)``. int8 activations are asymmetric, int16 activations symmetric, weights symmetric with a
scale for each output channel.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

INT16_HEADROOM = 4.0
"""int16 has steps to spare, so that pictures unlike the calibration's, such as noise, need not saturate."""


class Scheme(Enum):
    """How activations and weights are stored where an operator is quantized."""

    INT8 = "int8 activations, int8 weights"
    INT16 = "int16 activations, int8 weights"
    DYNAMIC = "float32 activations, int8 weights"


def scale_and_zero_point(low: float, high: float, scheme: Scheme) -> tuple[float, int]:
    """For values from ``low`` to ``high``; zero is always among them, and exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme is Scheme.INT16:
        return INT16_HEADROOM * max(-low, high, 1e-8) / 32767, 0
    scale = max(high - low, 1e-8) / 255
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def quantized_weights(
    weights: NDArray[np.float32], axis: int = 0, at_least: NDArray[np.float64] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Float weights -> int8 in [-127, 127], and a scale for each output channel, which are counted along ``axis``.

    ``at_least``: the smallest scale allowed, for each channel: the bias is counted in steps of it too.
    """
    others = tuple(other for other in range(weights.ndim) if other != axis)
    largest = np.abs(weights).max(axis=others).astype(np.float64)
    scales = np.maximum(largest, 1e-8) / 127
    scales[largest == 0] = scales.max()  # any scale would do, and a tiny one leaves the range of the kernels
    scales = np.maximum(scales, at_least)
    stored = np.rint(weights / np.expand_dims(scales, others))
    return np.clip(stored, -127, 127).astype(np.int8), scales
