"""Normalizations against PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.normalize import NORMALIZE
from tests.conversion.mil.programs import RNG, Cases, Computed, X, names_of, normal


def cases(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy

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
    add("softmax", lambda x, **v: mb.softmax(x=x, axis=1), lambda: X["x"].softmax(1))
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(NORMALIZE) - computed.operators == set()


def test_a_bright_picture_with_little_contrast_keeps_its_digits() -> None:
    """Its mean in float32 is off by as much as a thousandth of its deviation."""
    bright = (0.97 + 0.002 * np.random.default_rng(0).random((1, 3, 129, 127))).astype(np.float32)
    exact = bright.astype(np.float64)
    exact -= exact.mean((2, 3), keepdims=True)
    exact /= np.sqrt(np.square(exact).mean((2, 3), keepdims=True) + 1e-5)
    error = float(np.abs(NORMALIZE["instance_norm"](bright) - exact).max())
    assert error < 2e-5
