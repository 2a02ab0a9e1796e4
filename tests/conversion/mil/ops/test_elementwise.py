"""Operators that compute each element by itself, against PyTorch, in programs read back from disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.elementwise import ELEMENTWISE
from tests.conversion.mil.programs import INPUTS, Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add

    def as_integers(build: Callable[..., Any]) -> Callable[..., Any]:
        """Booleans cannot leave a program: as integers."""
        return lambda **v: mb.cast(x=build(**v), dtype="int32")

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
    add(
        "cast to int",
        lambda x, **v: mb.cast(x=mb.mul(x=x, y=3.0), dtype="int32"),
        lambda: torch.trunc(X["x"] * 3),
    )
    add(
        "logical_not",
        as_integers(lambda signs, **v: mb.logical_not(x=mb.cast(x=signs, dtype="bool"))),
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
            as_integers(lambda signs, op=op, **v: getattr(mb, op)(x=signs, y=np.array([0, 0, 3], np.int32))),
            lambda f=function: f(X["signs"], torch.tensor([0, 0, 3])),
        )
    for op, function in [
        ("logical_and", torch.logical_and), ("logical_or", torch.logical_or), ("logical_xor", torch.logical_xor),
    ]:  # fmt: skip
        add(
            op,
            as_integers(
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
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(ELEMENTWISE) - computed.operators == set()
