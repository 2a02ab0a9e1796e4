"""Operators on tensors of any kind (`ops.py`) against PyTorch, on programs read back from disk.

The executor computes these with NumPy. Two programs hold all cases: one for the iOS 18 operator set, one for forms that
a later set replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops import OPERATORS
from afterlens.conversion.mil.spatial import SPATIAL
from tests.conversion.mil.programs import INPUTS, RNG, Cases, Computed, Save, X, names_of, normal


def cases_ios18(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy

    def truth(build: Callable[..., Any]) -> Callable[..., Any]:
        """Truth values cannot leave a program: as integers."""
        return lambda **v: mb.cast(x=build(**v), dtype="int32")

    # Element-wise
    for op, function, operand in [
        ("abs", torch.abs, "x"), ("acos", torch.acos, "unit"), ("asin", torch.asin, "unit"),
        ("atan", torch.atan, "x"), ("atanh", torch.atanh, "unit"), ("ceil", torch.ceil, "x"),
        ("cos", torch.cos, "x"), ("cosh", torch.cosh, "x"), ("exp", torch.exp, "x"), ("exp2", torch.exp2, "x"),
        ("floor", torch.floor, "x"), ("identity", torch.clone, "x"), ("relu", F.relu, "x"),
        ("round", torch.round, "volume"), ("sigmoid", torch.sigmoid, "volume"), ("sign", torch.sign, "x"),
        ("silu", F.silu, "x"), ("sin", torch.sin, "x"), ("sinh", torch.sinh, "x"), ("softplus", F.softplus, "x"),
        ("softsign", F.softsign, "x"), ("sqrt", torch.sqrt, "y"), ("square", torch.square, "x"),
        ("tan", torch.tan, "unit"), ("tanh", torch.tanh, "x"),
    ]:  # fmt: skip
        add(op, lambda op=op, n=operand, **v: getattr(mb, op)(x=v[n]), lambda f=function, n=operand: f(X[n]))
    add("erf", lambda x, **v: mb.erf(x=x), lambda: np.vectorize(math.erf)(INPUTS["x"]))
    add("relu6", lambda x, **v: mb.relu6(x=mb.mul(x=x, y=5.0)), lambda: F.relu6(X["x"] * 5))
    add("clip", lambda x, **v: mb.clip(x=x, alpha=-0.5, beta=0.25), lambda: X["x"].clamp(-0.5, 0.25))
    add("threshold", lambda x, **v: mb.threshold(x=x, alpha=0.3), lambda: X["x"].clamp(min=0.3))
    add("inverse", lambda y, **v: mb.inverse(x=y), lambda: 1 / (X["y"] + 1e-4))
    add("rsqrt", lambda y, **v: mb.rsqrt(x=y, epsilon=0.5), lambda: torch.rsqrt(X["y"] + 0.5))
    add("log", lambda y, **v: mb.log(x=y), lambda: torch.log(X["y"]))
    add("log epsilon", lambda y, **v: mb.log(x=y, epsilon=0.5), lambda: torch.log(X["y"] + 0.5))
    for mode, expected in [
        ("EXACT", lambda: F.gelu(X["x"])),
        ("TANH_APPROXIMATION", lambda: F.gelu(X["x"], approximate="tanh")),
        ("SIGMOID_APPROXIMATION", lambda: X["x"] * torch.sigmoid(1.702 * X["x"])),
    ]:
        add(f"gelu {mode}", lambda x, mode=mode, **v: mb.gelu(x=x, mode=mode), expected)
    add("elu", lambda x, **v: mb.elu(x=x, alpha=0.7), lambda: F.elu(X["x"], 0.7))
    add("leaky_relu", lambda x, **v: mb.leaky_relu(x=x, alpha=0.1), lambda: F.leaky_relu(X["x"], 0.1))
    slopes = np.array([0.1, 0.2, -0.3, 2.0], np.float32)
    add(
        "prelu", lambda x, **v: mb.prelu(x=x, alpha=slopes), lambda: F.prelu(X["x"], torch.from_numpy(slopes))
    )
    add(
        "clamped_relu",
        lambda x, **v: mb.clamped_relu(x=x, alpha=0.2, beta=0.6),
        lambda: F.leaky_relu(X["x"], 0.2).clamp(max=0.6),
    )
    add(
        "thresholded_relu",
        lambda x, **v: mb.thresholded_relu(x=x, alpha=0.4),
        lambda: F.threshold(X["x"], 0.4, 0),
    )
    add(
        "linear_activation",
        lambda x, **v: mb.linear_activation(x=x, alpha=2.0, beta=-1.0),
        lambda: 2 * X["x"] - 1,
    )
    add(
        "scaled_tanh",
        lambda x, **v: mb.scaled_tanh(x=x, alpha=1.7, beta=0.6),
        lambda: 1.7 * torch.tanh(0.6 * X["x"]),
    )
    add(
        "sigmoid_hard",
        lambda x, **v: mb.sigmoid_hard(x=x, alpha=0.2, beta=0.5),
        lambda: (0.2 * X["x"] + 0.5).clamp(0, 1),
    )
    add(
        "softplus_parametric",
        lambda x, **v: mb.softplus_parametric(x=x, alpha=slopes, beta=slopes + 1),
        lambda: (
            torch.from_numpy(slopes)[:, None, None]
            * torch.log(1 + torch.exp(X["x"] * torch.from_numpy(slopes + 1)[:, None, None]))
        ),
    )
    add("softmax", lambda x, **v: mb.softmax(x=x, axis=1), lambda: X["x"].softmax(1))
    add(
        "cast to int",
        lambda x, **v: mb.cast(x=mb.mul(x=x, y=3.0), dtype="int32"),
        lambda: torch.trunc(X["x"] * 3),
    )
    add(
        "logical_not",
        truth(lambda signs, **v: mb.logical_not(x=mb.cast(x=signs, dtype="bool"))),
        lambda: X["signs"] == 0,
    )

    for op, function in [
        ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("real_div", torch.div), ("maximum", torch.maximum),
        ("minimum", torch.minimum),
    ]:  # fmt: skip
        add(
            f"{op} broadcast",
            lambda x, y, op=op, **v: getattr(mb, op)(x=x, y=mb.reduce_max(x=y, axes=[2], keep_dims=True)),
            lambda f=function: f(X["x"], X["y"].amax(2, keepdim=True)),
        )
    add("pow", lambda x, y, **v: mb.pow(x=y, y=x), lambda: torch.pow(X["y"], X["x"]))
    add("floor_div", lambda x, y, **v: mb.floor_div(x=x, y=y), lambda: torch.floor(X["x"] / X["y"]))
    add("mod", lambda x, y, **v: mb.mod(x=x, y=y), lambda: torch.remainder(X["x"], X["y"]))
    add("floor_div int", lambda j, **v: mb.floor_div(x=j, y=4), lambda: [-2, 1, 2])
    add("mod int", lambda j, **v: mb.mod(x=j, y=4), lambda: [1, 1, 1])
    add("real_div int", lambda j, **v: mb.real_div(x=j, y=4), lambda: [-1, 1, 2])
    for op, function in [
        ("equal", torch.eq), ("not_equal", torch.ne), ("greater", torch.gt), ("greater_equal", torch.ge),
        ("less", torch.lt), ("less_equal", torch.le),
    ]:  # fmt: skip
        add(
            op,
            truth(lambda signs, op=op, **v: getattr(mb, op)(x=signs, y=np.array([0, 0, 3], np.int32))),
            lambda f=function: f(X["signs"], torch.tensor([0, 0, 3])),
        )
    for op, function in [
        ("logical_and", torch.logical_and), ("logical_or", torch.logical_or), ("logical_xor", torch.logical_xor),
    ]:  # fmt: skip
        add(
            op,
            truth(
                lambda signs, op=op, **v: getattr(mb, op)(
                    x=mb.cast(x=signs, dtype="bool"), y=np.array([True, False, True])
                )
            ),
            lambda f=function: f(X["signs"] != 0, torch.tensor([True, False, True])),
        )
    add(
        "select",
        lambda x, y, **v: mb.select(cond=mb.greater(x=x, y=0.0), a=y, b=-1.0),
        lambda: torch.where(X["x"] > 0, X["y"], torch.tensor(-1.0)),
    )

    # Reductions
    for op, function in [
        ("reduce_l1_norm", lambda t, a, k: t.abs().sum(a, keepdim=k)),
        ("reduce_l2_norm", lambda t, a, k: torch.linalg.vector_norm(t, dim=a, keepdim=k)),
        ("reduce_log_sum", lambda t, a, k: t.sum(a, keepdim=k).log()),
        ("reduce_log_sum_exp", lambda t, a, k: t.logsumexp(a, keepdim=k)),
        ("reduce_max", lambda t, a, k: t.amax(a, keepdim=k)),
        ("reduce_mean", lambda t, a, k: t.mean(a, keepdim=k)),
        ("reduce_min", lambda t, a, k: t.amin(a, keepdim=k)),
        ("reduce_sum", lambda t, a, k: t.sum(a, keepdim=k)),
        ("reduce_sum_square", lambda t, a, k: t.square().sum(a, keepdim=k)),
    ]:  # fmt: skip
        add(
            op,
            lambda y, op=op, **v: getattr(mb, op)(x=y, axes=[-1, 1]),
            lambda f=function: f(X["y"], (1, 3), False),
        )
        add(
            f"{op} kept",
            lambda y, op=op, **v: getattr(mb, op)(x=y, axes=[2], keep_dims=True),
            lambda f=function: f(X["y"], 2, True),
        )
    add("reduce_prod", lambda y, **v: mb.reduce_prod(x=y, axes=[2], keep_dims=False), lambda: X["y"].prod(2))
    add(
        "reduce_argmax",
        lambda x, **v: mb.reduce_argmax(x=x, axis=1, keep_dims=True),
        lambda: X["x"].argmax(1, keepdim=True),
    )
    add("reduce_argmin", lambda x, **v: mb.reduce_argmin(x=x), lambda: X["x"].argmin(-1))

    # Normalization
    mean, variance = normal(4), RNG.uniform(0.5, 2, 4).astype(np.float32)
    gamma, beta = normal(4), normal(4)
    add(
        "batch_norm",
        lambda x, **v: mb.batch_norm(x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=1e-3),
        lambda: F.batch_norm(X["x"], t(mean), t(variance), t(gamma), t(beta), eps=1e-3),
    )
    add(
        "instance_norm",
        lambda x, **v: mb.instance_norm(x=x, gamma=gamma, beta=beta),
        lambda: F.instance_norm(X["x"], weight=t(gamma), bias=t(beta)),
    )
    scale, shift = normal(6, 5), normal(6, 5)
    add(
        "layer_norm",
        lambda x, **v: mb.layer_norm(x=x, axes=[-2, -1], gamma=scale, beta=shift, epsilon=1e-2),
        lambda: F.layer_norm(X["x"], (6, 5), t(scale), t(shift), 1e-2),
    )
    add(
        "layer_norm channels",
        lambda x, **v: mb.layer_norm(x=x, axes=[1]),
        lambda: F.layer_norm(X["x"].movedim(1, -1), (4,)).movedim(-1, 1),
    )
    add(
        "l2_norm",
        lambda square, **v: mb.l2_norm(x=square, epsilon=0.1),
        lambda: X["square"] / torch.sqrt(X["square"].square().sum((1, 2, 3), keepdim=True) + 0.1),
    )
    add(
        "local_response_norm",
        lambda x, **v: mb.local_response_norm(x=x, size=3, alpha=0.2, beta=0.6, k=1.5),
        lambda: F.local_response_norm(X["x"], 3, 0.2, 0.6, 1.5),
    )

    add(
        "local_response_norm even",
        lambda x, **v: mb.local_response_norm(x=x, size=2, alpha=0.2),
        lambda: F.local_response_norm(X["x"], 2, 0.2, 0.75, 1.0),
    )

    # Products
    weight, bias = normal(6, 4), normal(6)
    add(
        "linear",
        lambda rows, **v: mb.linear(x=rows, weight=weight, bias=bias),
        lambda: F.linear(X["rows"], t(weight), t(bias)),
    )
    add("matmul", lambda rows, columns, **v: mb.matmul(x=rows, y=columns), lambda: X["rows"] @ X["columns"])
    add(
        "matmul transposed",
        lambda rows, columns, **v: mb.matmul(x=columns, y=rows, transpose_x=True, transpose_y=True),
        lambda: (X["rows"] @ X["columns"]).T,
    )
    other = normal(1, 5, 1, 2)
    add(
        "einsum",
        lambda x, **v: mb.einsum(values=(x, other), equation="nchw,nwhu->nchu"),
        lambda: torch.einsum("nchw,nwhu->nchu", X["x"], t(other).expand(-1, -1, 6, -1)),
    )
    mask = RNG.random((4, 4)) < 0.7
    mask[:, 0] = True
    add(
        "attention",
        lambda square, **v: mb.scaled_dot_product_attention(
            query=square, key=square, value=square, attn_mask=mask
        ),
        lambda: F.scaled_dot_product_attention(X["square"], X["square"], X["square"], attn_mask=t(mask)),
    )

    # Joining, splitting, shape
    add(
        "concat",
        lambda x, y, **v: mb.concat(values=(x, y, x), axis=-2),
        lambda: torch.cat([X["x"], X["y"], X["x"]], 2),
    )
    add(
        "concat interleaved",
        lambda x, y, **v: mb.concat(values=(x, y), axis=1, interleave=True),
        lambda: torch.stack([X["x"], X["y"]], 2).flatten(1, 2),
    )
    add("stack", lambda x, y, **v: mb.stack(values=(x, y), axis=2), lambda: torch.stack([X["x"], X["y"]], 2))
    add(
        "split sizes",
        lambda x, **v: mb.split(x=x, split_sizes=[1, 3, 2], axis=2),
        lambda: X["x"].split([1, 3, 2], 2),
    )
    add("split even", lambda x, **v: mb.split(x=x, num_splits=2, axis=-3), lambda: X["x"].chunk(2, 1))
    add("shape", lambda x, **v: mb.shape(x=x), lambda: [1, 4, 6, 5])
    add("reshape", lambda x, **v: mb.reshape(x=x, shape=[0, 2, -1, 5]), lambda: X["x"].reshape(1, 2, 12, 5))
    add(
        "reshape from the right",
        lambda rows, **v: mb.reshape(x=rows, shape=[1, 0, -1, 0]),
        lambda: X["rows"].reshape(1, 1, 3, 4),
    )
    add(
        "reshape_like",
        lambda x, y, rows, **v: mb.reshape_like(
            x=x, ref_tensors=(rows, y), begins=(1, 2), ends=(2, 0), end_masks=(False, True)
        ),
        lambda: X["x"].reshape(4, 6, 5),
    )
    add("transpose", lambda x, **v: mb.transpose(x=x, perm=[0, -1, 1, 2]), lambda: X["x"].permute(0, 3, 1, 2))
    add(
        "expand_dims",
        lambda rows, **v: mb.expand_dims(x=rows, axes=[0, -1]),
        lambda: X["rows"][None, :, :, None],
    )
    add("squeeze", lambda x, **v: mb.squeeze(x=x, axes=[0]), lambda: X["x"][0])
    add("squeeze all", lambda pair, **v: mb.squeeze(x=pair), lambda: [0.0, 1.0])
    add("flatten2d", lambda x, **v: mb.flatten2d(x=x, axis=-2), lambda: X["x"].reshape(4, 30))
    add("reverse", lambda x, **v: mb.reverse(x=x, axes=[1, 3]), lambda: X["x"].flip(1, 3))
    add(
        "reverse_sequence",
        lambda rows, **v: mb.reverse_sequence(x=rows, lengths=[2, 4, 0], seq_axis=1, batch_axis=0),
        lambda: torch.stack([X["rows"][0, [1, 0, 2, 3]], X["rows"][1].flip(0), X["rows"][2]]),
    )
    add("tile", lambda rows, **v: mb.tile(x=rows, reps=[2, 3]), lambda: X["rows"].repeat(2, 3))
    for mode, torch_mode in (("reflect", "reflect"), ("replicate", "replicate")):
        add(
            f"pad {mode}",
            lambda x, mode=mode, **v: mb.pad(x=x, pad=[2, 1, 0, 3], mode=mode),
            lambda mode=torch_mode: F.pad(X["x"], (0, 3, 2, 1), mode=mode),
        )
    add(
        "pad constant",
        lambda x, **v: mb.pad(x=x, pad=[1, 0, 2, 0, 0, 1], constant_val=-3.0),
        lambda: F.pad(X["x"], (0, 1, 2, 0, 1, 0), value=-3.0),
    )
    add(
        "sliding_windows",
        lambda line, **v: mb.sliding_windows(x=line, axis=-1, size=4, stride=3),
        lambda: X["line"].unfold(-1, 4, 3),
    )
    add(
        "slice_by_index",
        lambda x, **v: mb.slice_by_index(x=x, begin=[0, 1, -1, 0], end=[1, 4, 0, 5], stride=[1, 2, -2, 3]),
        lambda: INPUTS["x"][:, 1:4:2, -1:0:-2, ::3],
    )
    add(
        "slice_by_index masks",
        lambda x, **v: mb.slice_by_index(
            x=x,
            begin=[0, 3, -2, 2],
            end=[0, 0, 0, 4],
            begin_mask=[True, False, False, False],
            end_mask=[True, True, True, False],
            squeeze_mask=[False, True, False, False],
        ),
        lambda: X["x"][:, 3, -2:, 2:4],
    )
    add(
        "slice_by_size",
        lambda x, **v: mb.slice_by_size(x=x, begin=[0, 1, 2, -2], size=[1, 2, -1, 2]),
        lambda: X["x"][:, 1:3, 2:, -2:],
    )
    patch = normal(1, 2, 6, 2)
    updated = X["x"].clone()
    updated[:, 1:3, :, 3:] = t(patch)
    add(
        "slice_update",
        lambda x, **v: mb.slice_update(x=x, update=patch, begin=[0, 1, 0, 3], end=[1, 3, 6, 5]),
        lambda: updated,
    )

    # Gather and scatter
    add("gather", lambda x, i, **v: mb.gather(x=x, indices=i, axis=1), lambda: X["x"][:, [2, 0, 2]])
    add(
        "gather batched",
        lambda rows, **v: mb.gather(
            x=rows, indices=np.array([[3, 0], [1, 1], [2, 3]], np.int32), axis=1, batch_dims=1
        ),
        lambda: X["rows"].gather(1, torch.tensor([[3, 0], [1, 1], [2, 3]])),
    )
    along = np.array([[0, 2, 1, 0], [2, 2, 0, 1], [1, 0, 0, 2]], np.int32)
    add(
        "gather_along_axis",
        lambda rows, **v: mb.gather_along_axis(x=rows, indices=along, axis=0),
        lambda: X["rows"].gather(0, t(along).long()),
    )
    nd = np.array([[2, 0], [0, 3]], np.int32)
    add("gather_nd", lambda rows, **v: mb.gather_nd(x=rows, indices=nd), lambda: X["rows"][[2, 0], [0, 3]])
    batched = np.array([[[3], [0]], [[1], [2]]], np.int32)
    add(
        "gather_nd batched",
        lambda square, **v: mb.gather_nd(
            x=mb.transpose(x=square, perm=[0, 2, 1, 3]), indices=batched, batch_dims=1
        ),
        lambda: torch.stack(
            [X["square"].permute(0, 2, 1, 3)[n][[a, b]] for n, (a, b) in enumerate(((3, 0), (1, 2)))]
        ),
    )
    news = normal(3, 4)
    for mode, torch_mode in (("mul", "prod"), ("max", "amax"), ("min", "amin")):
        add(
            f"scatter_along_axis {mode}",
            lambda rows, mode=mode, **v: mb.scatter_along_axis(
                data=rows, indices=along, updates=news, axis=0, mode=mode
            ),
            lambda mode=torch_mode: X["rows"].scatter_reduce(0, t(along).long(), t(news), mode),
        )
    add(
        "scatter add",
        lambda rows, i, **v: mb.scatter(data=rows, indices=i, updates=news, axis=0, mode="add"),
        lambda: X["rows"].index_add(0, torch.tensor([2, 0, 2]), t(news)),
    )
    add(
        "scatter update",
        lambda rows, **v: mb.scatter(
            data=rows, indices=np.array([3, 1], np.int32), updates=news[:, :2], axis=1, mode="update"
        ),
        lambda: X["rows"].index_copy(1, torch.tensor([3, 1]), t(news[:, :2])),
    )
    for mode, sign in (("add", 1), ("sub", -1)):
        add(
            f"scatter_nd {mode}",
            lambda rows, mode=mode, **v: mb.scatter_nd(data=rows, indices=nd, updates=news[0, :2], mode=mode),
            lambda sign=sign: X["rows"].index_put(
                (torch.tensor([2, 0]), torch.tensor([0, 3])), sign * t(news[0, :2]), accumulate=True
            ),
        )
    add(
        "scatter_nd div",
        lambda rows, **v: mb.scatter_nd(data=rows, indices=nd, updates=news[0, :2], mode="div"),
        lambda: X["rows"].index_put(
            (torch.tensor([2, 0]), torch.tensor([0, 3])), X["rows"][[2, 0], [0, 3]] / t(news[0, :2])
        ),
    )

    # Making and ordering
    add("fill", lambda i, **v: mb.fill(shape=mb.add(x=i, y=1), value=1.5), lambda: torch.full((3, 1, 3), 1.5))
    add(
        "fill_like",
        lambda x, **v: mb.fill_like(ref_tensor=x, value=-2.0),
        lambda: torch.full((1, 4, 6, 5), -2.0),
    )
    add(
        "range_1d",
        lambda i, **v: mb.range_1d(start=2, end=mb.add(x=mb.reduce_max(x=i, keep_dims=False), y=9), step=4),
        lambda: [2, 6, 10],
    )
    add(
        "one_hot",
        lambda i, **v: mb.one_hot(indices=i, one_hot_vector_size=4, axis=0, on_value=3, off_value=-1),
        lambda: (F.one_hot(X["i"].long(), 4) * 4 - 1).T,
    )
    add(
        "band_part",
        lambda square, **v: mb.band_part(x=square, lower=1, upper=0),
        lambda: X["square"].tril().triu(-1),
    )
    add("cumsum", lambda x, **v: mb.cumsum(x=x, axis=2), lambda: X["x"].cumsum(2))
    add(
        "cumsum exclusive reverse",
        lambda x, **v: mb.cumsum(x=x, axis=-1, exclusive=True, reverse=True),
        lambda: F.pad(X["x"][..., 1:].flip(-1).cumsum(-1).flip(-1), (0, 1)),
    )
    add("non_zero", lambda signs, **v: mb.non_zero(x=signs), lambda: [[0, 0], [0, 2], [1, 2]])
    add("argsort", lambda x, **v: mb.argsort(x=x, axis=2), lambda: X["x"].argsort(2, descending=True))
    add(
        "argsort ascending", lambda x, **v: mb.argsort(x=x, axis=1, ascending=True), lambda: X["x"].argsort(1)
    )
    add("topk", lambda x, **v: mb.topk(x=x, k=2, axis=1), lambda: tuple(X["x"].topk(2, 1)))
    add(
        "topk smallest",
        lambda x, **v: mb.topk(x=x, k=3, axis=-1, ascending=True),
        lambda: tuple(X["x"].topk(3, -1, largest=False)),
    )

    # Run-time quantization
    zero = np.array([3, -4, 0, 7], np.int8)
    steps = np.array([0.1, 0.02, 0.5, 0.3], np.float32)

    add(
        "quantize",
        lambda x, **v: mb.cast(
            x=mb.quantize(input=x, scale=steps, zero_point=zero, axis=1, output_dtype="int8"), dtype="int32"
        ),
        lambda: (torch.round(X["x"] / t(steps)[:, None, None]) + t(zero)[:, None, None]).clamp(-128, 127),
    )
    add(
        "dequantize",
        lambda x, **v: mb.dequantize(
            input=mb.quantize(input=x, scale=steps, zero_point=zero, axis=1, output_dtype="int8"),
            scale=steps,
            zero_point=zero,
            axis=1,
        ),
        lambda: torch.fake_quantize_per_channel_affine(X["x"], t(steps), t(zero).int(), 1, -128, 127),
    )
    return cases


def cases_ios16(mb: Any) -> Cases:
    """Forms that a later operator set replaced."""
    cases = Cases()
    cases.add(
        "topk values only",
        lambda x, **v: mb.topk(x=x, k=2, axis=1, return_indices=False),
        lambda: X["x"].topk(2, 1).values,
    )
    cases.add(
        "reshape zeros",
        lambda x, **v: mb.reshape(x=x, shape=[0, 0, -1, 3]),
        lambda: X["x"].reshape(1, 4, 10, 3),
    )
    cases.add(
        "gather negative",
        lambda x, i, **v: mb.gather(x=x, indices=mb.sub(x=i, y=3), axis=1),
        lambda: X["x"][:, [3, 1, 3]],
    )
    return cases


@pytest.fixture(scope="module")
def ios18(save_program: Save) -> Computed:
    return Computed(save_program, cases_ios18, "iOS18")


@pytest.fixture(scope="module")
def ios16(save_program: Save) -> Computed:
    return Computed(save_program, cases_ios16, "iOS16")


@pytest.mark.parametrize("name", names_of(cases_ios18))
def test_operator_agrees_with_pytorch(ios18: Computed, name: str) -> None:
    ios18.check(name)


@pytest.mark.parametrize("name", names_of(cases_ios16))
def test_older_form_agrees_with_pytorch(ios16: Computed, name: str) -> None:
    ios16.check(name)


def test_no_operator_is_left_untested(ios18: Computed) -> None:
    elsewhere = {function.__name__ for function in SPATIAL}  # test_spatial.py
    elsewhere |= {name for name in OPERATORS if name.startswith("constexpr_")}  # test_compressed.py
    assert set(OPERATORS) - elsewhere - ios18.operators == set()
