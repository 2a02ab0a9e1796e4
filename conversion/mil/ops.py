"""The MIL operators that this executor knows: `OPERATORS` maps the operator type to a function.

A function takes the operator's inputs as keyword arguments under MIL's parameter names, with MIL's defaults (the
saved program leaves many out), and returns an array, or a tuple for several outputs. Floating-point inputs arrive as
float32, whatever their declared type; the caller casts the result to the declared type. Semantics follow
coremltools 9.0's operator definitions; where an operator changed between iOS versions, both forms are accepted.

Images and feature maps: `spatial.py`. Compressed weights: `compressed.py`. Here: everything element-wise, reductions,
normalization, products, and moving data about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from afterlens.conversion.mil.compressed import COMPRESSED
from afterlens.conversion.mil.spatial import SPATIAL, Array, bounded, ints

Operator = Callable[..., Any]

# Parameters that hold a tuple of values even when there is only one.
TUPLE_PARAMETERS = frozenset({"values", "ref_tensors", "begins", "ends", "end_masks"})


# Element-wise, one input


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
    "shape": lambda x: np.array(x.shape, np.int32),
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


def to_integer(x: Array, dtype: np.dtype[Any]) -> Array:
    """Truncated towards 0 and limited to the type's range; NaN becomes 0 (NumPy leaves both undefined)."""
    if x.dtype.kind != "f":
        return x.astype(dtype)
    limits = np.iinfo(dtype)
    whole = np.clip(
        np.nan_to_num(np.trunc(x.astype(np.float64)), posinf=np.inf, neginf=-np.inf), limits.min, limits.max
    )
    return whole.astype(dtype)


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
    return np.where(x >= 0, x, _per_channel(alpha, x) * x)


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
    return _per_channel(alpha, x) * np.logaddexp(0, x * _per_channel(beta, x))


def softmax(x: Array, axis: Any = -1) -> Array:
    """e^x / sum(e^x) along an axis."""
    e = np.exp(x - np.max(x, axis=int(axis), keepdims=True))
    return e / np.sum(e, axis=int(axis), keepdims=True)


def _per_channel(vector: Array, x: Array) -> Array:
    """(C,) shaped to broadcast along axis 1 of x."""
    return vector.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)])


# Element-wise, two inputs


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


# Reductions


def _log_sum_exp(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else np.squeeze(total, axis=axis)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_l1_norm": lambda x, **how: np.sum(np.abs(x), **how),
    "reduce_l2_norm": lambda x, **how: np.sqrt(np.sum(np.square(x), **how)),
    "reduce_log_sum": lambda x, **how: np.log(np.sum(x, **how)),
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **how: np.sum(np.square(x), **how),
}


def _reduction(function: Callable[..., Any]) -> Operator:
    def operator(x: Array, axes: Any = None, keep_dims: Any = False) -> Any:
        axis = None if axes is None else tuple(ints(axes))
        return function(x, axis=axis, keepdims=bool(keep_dims))

    return operator


def reduce_argmax(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
    """Index of the first maximum along an axis."""
    return np.argmax(x, axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


def reduce_argmin(x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Array:
    """Index of the first minimum along an axis."""
    return np.argmin(x, axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


# Normalization


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
    normal = (x - _per_channel(mean, x)) / np.sqrt(_per_channel(variance, x) + epsilon)
    return _scaled(
        normal,
        None if gamma is None else _per_channel(gamma, x),
        None if beta is None else _per_channel(beta, x),
    )


def _standardised(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    centred = x - np.mean(x, axis=axes, keepdims=True)
    return centred / np.sqrt(np.mean(np.square(centred), axis=axes, keepdims=True) + epsilon)


def instance_norm(
    x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Array:
    """Each channel of each image to mean 0 and variance 1, then gamma and beta per channel."""
    return _scaled(
        _standardised(x, tuple(range(2, x.ndim)), epsilon),
        None if gamma is None else _per_channel(gamma, x),
        None if beta is None else _per_channel(beta, x),
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


# Products


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x (..., D_in) times weight (D_out, D_in) transposed, plus bias (D_out,)."""
    product = np.matmul(x, weight.T)
    return product if bias is None else product + bias


def matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    """Matrix product with NumPy's broadcasting; either factor's last two axes may be swapped first."""
    if transpose_x and x.ndim > 1:
        x = np.swapaxes(x, -1, -2)
    if transpose_y and y.ndim > 1:
        y = np.swapaxes(y, -1, -2)
    if x.ndim > 1 and y.ndim > 1:
        bounded([*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]])
    return np.matmul(x, y)


def einsum(values: Sequence[Array], equation: str) -> Array:
    """The two products that MIL allows, `nchw,nwhu->nchu` and `chw,whr->chr`, with broadcasting of n and h."""
    letters: dict[str, str] = {}
    canonical = "".join(
        letters.setdefault(c, "abcde"[len(letters) % 5]) if c.isalpha() else c for c in equation if c != " "
    )
    if canonical not in ("abcd,adce->abce", "abc,cbd->abd") or len(values) != 2:
        raise ValueError(f"equation {equation!r} of {len(values)} tensors")
    x, y = values
    return np.swapaxes(matmul(np.swapaxes(x, -3, -2), np.swapaxes(y, -3, -2)), -3, -2)


def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None
) -> Array:
    """softmax(query key^T / sqrt(E) + mask) value; a mask of truth values keeps what is true."""
    scores = matmul(query, key, transpose_y=True) / np.float32(math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        scores = scores + (np.where(attn_mask, 0, -np.inf) if attn_mask.dtype == bool else attn_mask)
    return np.matmul(softmax(scores.astype(np.float32)), value)


# Joining and splitting


def concat(values: Sequence[Array], axis: Any, interleave: Any = False) -> Array:
    """Tensors one behind the other along an axis, or element by element in turn."""
    if values[0].ndim == 0:
        return np.stack(values)
    axis = int(axis) % values[0].ndim
    if not interleave:
        return np.concatenate(values, axis=axis)
    shape = [size * len(values) if a == axis else size for a, size in enumerate(values[0].shape)]
    return np.stack(values, axis=axis + 1).reshape(shape)


def stack(values: Sequence[Array], axis: Any) -> Array:
    """Tensors of one shape along a new axis."""
    return np.stack(values, axis=int(axis))


def split(x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> tuple[Array, ...]:
    """Equal parts, or parts of the given sizes, along an axis."""
    axis = int(axis)
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("neither num_splits nor split_sizes is given")
        return tuple(np.split(x, int(num_splits), axis=axis))
    sizes = ints(split_sizes)
    if min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise ValueError(f"split_sizes {sizes} of an axis of {x.shape[axis]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


# Shape


def reshape(x: Array, shape: Array) -> Array:
    """New shape: -1 is what is left over, 0 the size at the same place counted from the right (1 beyond the left)."""
    target = ints(shape)
    for back in range(1, len(target) + 1):
        if target[-back] == 0 and x.size > 0:
            target[-back] = x.shape[-back] if back <= x.ndim else 1
    return x.reshape(target)


def reshape_like(
    x: Array,
    ref_tensors: Sequence[Array],
    begins: Sequence[Any],
    ends: Sequence[Any],
    end_masks: Sequence[Any],
) -> Array:
    """New shape put together from ranges of other tensors' shapes."""
    shape: list[int] = []
    for reference, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += reference.shape[int(begin) : None if to_the_end else int(end)]
    return x.reshape(shape)


def transpose(x: Array, perm: Array) -> Array:
    """Axes in another order."""
    return np.transpose(x, ints(perm)) if x.ndim else x


def expand_dims(x: Array, axes: Array) -> Array:
    """New axes of size 1 at these places of the result."""
    return np.expand_dims(x, tuple(ints(axes)))


def squeeze(x: Array, axes: Any = None) -> Array:
    """Without the axes of size 1, or without those of the given ones that have size 1."""
    chosen = range(x.ndim) if axes is None else [a % x.ndim for a in ints(axes)]
    return np.squeeze(x, tuple(a for a in chosen if x.shape[a] == 1))


def flatten2d(x: Array, axis: Any = 1) -> Array:
    """Two axes: everything before `axis` and everything from it on."""
    return x.reshape(math.prod(x.shape[: int(axis)]), math.prod(x.shape[int(axis) :]))


def reverse(x: Array, axes: Any = None) -> Array:
    """Order turned round along the given axes, all by default."""
    return np.flip(x, None if axes is None else tuple(ints(axes)))


def reverse_sequence(x: Array, lengths: Array, seq_axis: Any = 0, batch_axis: Any = 0) -> Array:
    """The first lengths[i] elements along seq_axis turned round, i counting along batch_axis."""
    moved = np.moveaxis(x, (int(batch_axis), int(seq_axis)), (0, 1)).copy()
    for row, length in zip(moved, ints(lengths), strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(moved, (0, 1), (int(batch_axis), int(seq_axis)))


def tile(x: Array, reps: Array) -> Array:
    """Repeated along every axis."""
    bounded([size * count for size, count in zip(x.shape, ints(reps), strict=True)])
    return np.tile(x, ints(reps))


def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0.0) -> Array:
    """The last axes padded before and after: with a constant, by reflection without the edge, or with the edge."""
    sizes = ints(pad) if np.size(pad) else []
    pairs = [(0, 0)] * (x.ndim - len(sizes) // 2) + list(zip(sizes[::2], sizes[1::2], strict=True))
    bounded([size + before + after for size, (before, after) in zip(x.shape, pairs, strict=True)])
    if mode == "constant":
        return np.pad(x, pairs, constant_values=constant_val)
    if mode not in ("reflect", "replicate"):
        raise ValueError(f"mode {mode!r}")
    if mode == "reflect" and any(
        max(pair) >= size for pair, size in zip(pairs, x.shape, strict=True) if max(pair)
    ):
        raise ValueError(f"reflection by {pairs} of shape {x.shape}")
    return np.pad(x, pairs, mode="reflect" if mode == "reflect" else "edge")


def sliding_windows(x: Array, axis: Any, size: Any, stride: Any = 1) -> Array:
    """All windows along an axis; the window's own axis follows it."""
    axis = int(axis) % x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, int(size), axis)  # the new axis comes last
    windows = windows[
        tuple(slice(None, None, int(stride)) if a == axis else slice(None) for a in range(x.ndim))
    ]
    bounded(windows.shape)
    return np.moveaxis(windows, -1, axis + 1)


# Slices


def _slices(
    x: Array, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any, squeeze_mask: Any
) -> tuple[slice | int, ...]:
    rank = x.ndim
    strides = [1] * rank if stride is None else ints(stride)
    no = [False] * rank
    masks = [no if mask is None else np.atleast_1d(mask) for mask in (begin_mask, end_mask, squeeze_mask)]
    index: list[slice | int] = []
    for b, e, s, first, last, single in zip(ints(begin), ints(end), strides, *masks, strict=True):
        if single:
            index.append(0 if first else b)
        else:
            index.append(slice(None if first else b, None if last else e, s))
    return tuple(index)


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """x[begin:end:stride] per axis; masks leave an end open or take a single element and its axis away."""
    return x[_slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Array:
    """A copy of x with that slice replaced."""
    result = x.copy()
    target = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result[target] = update.reshape(result[target].shape)
    return result


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    """`size` elements from `begin` on per axis; -1 is all that follow."""
    index = []
    for b, count, whole in zip(ints(begin), ints(size), x.shape, strict=True):
        start = b + whole if b < 0 else b
        index.append(slice(start, whole if count == -1 else start + count))
    return x[tuple(index)]


# Gather and scatter


def gather(
    x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0, validate_indices: Any = False
) -> Array:
    """Elements of x at `indices` along an axis, the first batch_dims axes taken pairwise."""
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    if batch == 0:
        return np.take(x, indices, axis)
    lead = x.shape[:batch]
    pairs = zip(x.reshape(-1, *x.shape[batch:]), indices.reshape(-1, *indices.shape[batch:]), strict=True)
    rows = np.stack([np.take(row, chosen, axis - batch) for row, chosen in pairs])
    return rows.reshape(*lead, *rows.shape[1:])


def gather_along_axis(x: Array, indices: Array, axis: Any = 0, validate_indices: Any = False) -> Array:
    """Elements of x at `indices` (of x's rank) along an axis."""
    return np.take_along_axis(x, indices.astype(np.intp), int(axis))


def gather_nd(x: Array, indices: Array, batch_dims: Any = 0, validate_indices: Any = False) -> Array:
    """Slices of x; the last axis of `indices` counts axes of x after the first batch_dims."""
    batch = int(batch_dims)
    lead = np.indices(indices.shape[:batch], sparse=True) if batch else ()
    extra = indices.ndim - 1 - batch
    grid = [i.reshape(i.shape + (1,) * extra) for i in lead]
    return x[(*grid, *np.moveaxis(indices.astype(np.intp), -1, 0))]


_SCATTER: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _scattered(data: Array, index: tuple[Any, ...], updates: Array, mode: str) -> Array:
    result = data.copy()
    if mode == "update":
        result[index] = updates
    else:
        _SCATTER[mode].at(result, index, updates)
    return result


def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Any = 0,
    mode: str = "add",
    validate_indices: Any = False,
) -> Array:
    """`updates` combined into data at `indices` along an axis."""
    axis = int(axis) % data.ndim
    return _scattered(data, (*[slice(None)] * axis, indices.astype(np.intp)), updates, mode)


def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: Any = 0,
    mode: str = "add",
    validate_indices: Any = False,
) -> Array:
    """`updates` combined into data at `indices` (of data's rank) along an axis."""
    axis = int(axis) % data.ndim
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = indices.astype(np.intp)
    return _scattered(data, tuple(index), updates, mode)


def scatter_nd(
    data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: Any = False
) -> Array:
    """`updates` combined into slices of data; the last axis of `indices` counts data's first axes."""
    return _scattered(data, tuple(np.moveaxis(indices.astype(np.intp), -1, 0)), updates, mode)


# Making and ordering


def fill(shape: Array, value: Any = 0.0) -> Array:
    """A constant tensor."""
    return np.full(bounded(ints(shape) if np.size(shape) else []), value)


def fill_like(ref_tensor: Array, value: Any = 0.0) -> Array:
    """A constant tensor of another's shape."""
    return np.full(ref_tensor.shape, value)


def range_1d(end: Array, start: Array, step: Array) -> Array:
    """start, start + step, ... below end."""
    bounded([math.ceil(abs((float(end) - float(start)) / float(step)))])
    return np.arange(start, end, step).astype(np.asarray(start).dtype)


def one_hot(
    indices: Array, one_hot_vector_size: Any, axis: Any = -1, on_value: Any = 1, off_value: Any = 0
) -> Array:
    """on_value at the index, off_value elsewhere along a new axis."""
    depth = int(one_hot_vector_size)
    bounded([*indices.shape, depth])
    hit = np.expand_dims(indices, int(axis))
    spread = [1] * (indices.ndim + 1)
    spread[int(axis)] = depth
    return np.where(hit == np.arange(depth).reshape(spread), on_value, off_value)


def band_part(x: Array, lower: Any = -1, upper: Any = -1) -> Array:
    """Zero outside of `lower` diagonals below and `upper` above the main one; negative keeps all."""
    m, n = np.indices(x.shape[-2:], sparse=True)
    keep = ((int(lower) < 0) | (m - n <= int(lower))) & ((int(upper) < 0) | (n - m <= int(upper)))
    return np.where(keep, x, np.zeros((), x.dtype))


def cumsum(x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Array:
    """Running sum along an axis, without the element itself if exclusive, from the end if reverse."""
    axis = int(axis)
    turned = np.flip(x, axis) if reverse else x
    total = np.cumsum(turned, axis=axis, dtype=x.dtype)
    if exclusive:  # shifted by one, not `total - turned`, which would lose small sums beside large elements
        total = np.roll(total, 1, axis)
        total[(slice(None),) * (axis % x.ndim) + (0,)] = 0
    return np.flip(total, axis) if reverse else total


def non_zero(x: Array) -> Array:
    """Indices of what is not 0, one row each."""
    return np.argwhere(x).astype(np.int32)


def argsort(x: Array, axis: Any = -1, ascending: Any = False) -> Array:
    """Indices that sort along an axis, equal elements in their order."""
    return _order(x, int(axis), bool(ascending))


def _order(x: Array, axis: int, ascending: bool) -> Array:
    if not ascending:
        x = -x.astype(np.int64) if x.dtype.kind in "iub" else -x
    return np.argsort(x, axis=axis, kind="stable").astype(np.int32)


def topk(
    x: Array,
    k: Any = 1,
    axis: Any = -1,
    ascending: Any = False,
    sort: Any = True,
    return_indices: Any = True,
    output_indices_dtype: str = "int32",
) -> Any:
    """The k largest (smallest if ascending) elements along an axis, and their indices; k = -1 takes all."""
    axis = int(axis)
    count = x.shape[axis] if int(k) == -1 else int(k)
    indices = np.take(_order(x, axis, bool(ascending)), np.arange(count), axis)
    values = np.take_along_axis(x, indices, axis)
    return (values, indices.astype(output_indices_dtype)) if return_indices else values


_HERE = (
    argsort,
    band_part,
    batch_norm,
    cast,
    clamped_relu,
    clip,
    concat,
    cumsum,
    einsum,
    elu,
    expand_dims,
    fill,
    fill_like,
    flatten2d,
    gather,
    gather_along_axis,
    gather_nd,
    gelu,
    instance_norm,
    inverse,
    l2_norm,
    layer_norm,
    leaky_relu,
    linear,
    linear_activation,
    local_response_norm,
    log,
    matmul,
    non_zero,
    one_hot,
    pad,
    prelu,
    range_1d,
    reduce_argmax,
    reduce_argmin,
    reshape,
    reshape_like,
    reverse,
    reverse_sequence,
    rsqrt,
    scaled_dot_product_attention,
    scaled_tanh,
    scatter,
    scatter_along_axis,
    scatter_nd,
    select,
    sigmoid_hard,
    slice_by_index,
    slice_by_size,
    slice_update,
    sliding_windows,
    softmax,
    softplus_parametric,
    split,
    squeeze,
    stack,
    threshold,
    thresholded_relu,
    tile,
    topk,
    transpose,
)

OPERATORS: dict[str, Operator] = {
    **{name: _unary(function) for name, function in _UNARY.items()},
    **{name: _binary(function) for name, function in _BINARY.items()},
    **{name: _reduction(function) for name, function in _REDUCTIONS.items()},
    **{function.__name__: function for function in (*_HERE, *SPATIAL, *COMPRESSED)},
}
