"""MIL operators that compute each element by itself: activations, arithmetic, comparisons, type conversion."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded, per_channel, to_integer


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _erf(x: Array) -> Array:
    return torch.erf(torch.from_numpy(np.array(x, np.float32))).numpy()


_UNARY: dict[str, Callable[[Array], Any]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": _erf,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "identity": lambda x: x,
    "logical_not": np.logical_not,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "round": np.rint,
    "sigmoid": _sigmoid,
    "sign": np.sign,
    "silu": lambda x: x * _sigmoid(x),
    "sin": np.sin,
    "sinh": np.sinh,
    "softplus": lambda x: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
}


def _unary(function: Callable[[Array], Any]) -> Operator:
    def operator(x: Array) -> Any:  # NumPy's own functions do not take `x` as a keyword
        return function(x)

    return operator


def clip(x: Array, alpha: Array, beta: Array) -> Array:
    """x limited to [alpha, beta]."""
    return np.minimum(np.maximum(x, alpha), beta)


def threshold(x: Array, alpha: Array) -> Array:
    """max(x, alpha)."""
    return np.maximum(x, alpha)


def inverse(x: Array, epsilon: Any = 1e-4) -> Array:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


def rsqrt(x: Array, epsilon: Any = 1e-12) -> Array:
    """1 / sqrt(x + epsilon)."""
    return 1 / np.sqrt(x + epsilon)


def log(x: Array, epsilon: Any = 1e-45) -> Array:
    """Natural logarithm of x + epsilon."""
    return np.log(x + epsilon)


def cast(x: Array, dtype: str) -> Array:
    """To another type: a number becomes an integer by truncation, a truth value by comparison with 0."""
    if dtype in ("fp16", "fp32", "fp64"):
        return x.astype(np.float32)
    if dtype == "bool":
        return x != 0
    return to_integer(x, np.dtype(dtype))


def gelu(x: Array, mode: str = "EXACT") -> Array:
    """Gaussian error linear unit, exact or in one of two approximations."""
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + 0.044715 * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return x * _sigmoid(1.702 * x)
    if mode != "EXACT":
        raise ValueError(f"mode {mode!r}")
    return 0.5 * x * (1 + _erf(x * np.float32(math.sqrt(0.5))))


def elu(x: Array, alpha: Array) -> Array:
    """x where positive, else alpha (e^x - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def leaky_relu(x: Array, alpha: Array) -> Array:
    """x where positive, else alpha x."""
    return np.where(x >= 0, x, alpha * x)


def prelu(x: Array, alpha: Array) -> Array:
    """x where positive, else alpha x, with one alpha per channel (axis 1)."""
    return np.where(x >= 0, x, per_channel(alpha, x) * x)


def clamped_relu(x: Array, alpha: Array, beta: Array) -> Array:
    """min(beta, x) where x is positive, else min(beta, alpha x)."""
    return np.minimum(beta, np.where(x >= 0, x, alpha * x))


def thresholded_relu(x: Array, alpha: Array) -> Array:
    """x where x >= alpha, else 0."""
    return np.where(x >= alpha, x, np.float32(0))


def linear_activation(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha x + beta."""
    return alpha * x + beta


def scaled_tanh(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha tanh(beta x)."""
    return alpha * np.tanh(beta * x)


def sigmoid_hard(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha x + beta limited to [0, 1]."""
    return np.clip(alpha * x + beta, 0, 1)


def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    """alpha log(1 + e^(beta x)), with one alpha and beta per channel (axis 1)."""
    return per_channel(alpha, x) * np.logaddexp(0, x * per_channel(beta, x))


def _real_div(x: Array, y: Array) -> Array:
    return np.true_divide(x, y).astype(np.float32)


_BINARY: dict[str, Callable[[Array, Array], Any]] = {
    "add": np.add,
    "equal": np.equal,
    "floor_div": np.floor_divide,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "not_equal": np.not_equal,
    "pow": np.power,
    "real_div": _real_div,
    "sub": np.subtract,
}


def _binary(function: Callable[[Array, Array], Any]) -> Operator:
    def operator(x: Array, y: Array) -> Any:
        bounded(np.broadcast_shapes(x.shape, y.shape))
        return function(x, y)

    return operator


def select(cond: Array, a: Array, b: Array) -> Array:
    """a where cond, else b, with broadcasting."""
    bounded(np.broadcast_shapes(cond.shape, a.shape, b.shape))
    return np.where(cond, a, b)


ELEMENTWISE: dict[str, Operator] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    "cast": cast,
    "clamped_relu": clamped_relu,
    "clip": clip,
    "elu": elu,
    "gelu": gelu,
    "inverse": inverse,
    "leaky_relu": leaky_relu,
    "linear_activation": linear_activation,
    "log": log,
    "prelu": prelu,
    "rsqrt": rsqrt,
    "scaled_tanh": scaled_tanh,
    "select": select,
    "sigmoid_hard": sigmoid_hard,
    "softplus_parametric": softplus_parametric,
    "threshold": threshold,
    "thresholded_relu": thresholded_relu,
}
