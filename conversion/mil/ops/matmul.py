"""MIL operators that multiply matrices: linear layers, einsum, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array, Operator, bounded
from afterlens.conversion.mil.ops.normalize import softmax


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """x (..., D_in) times weight (D_out, D_in) transposed, plus bias (D_out,)."""
    bounded([*x.shape[:-1], len(weight)])
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
    return matmul(softmax(scores.astype(np.float32)), value)


MATMUL: dict[str, Operator] = {
    "einsum": einsum,
    "linear": linear,
    "matmul": matmul,
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
