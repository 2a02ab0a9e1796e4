"""Reductions, running sums and sorting, against PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.reduce import REDUCE
from tests.conversion.mil.programs import Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add

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
    add("cumsum", lambda x, **v: mb.cumsum(x=x, axis=2), lambda: X["x"].cumsum(2))
    add(
        "cumsum exclusive reverse",
        lambda x, **v: mb.cumsum(x=x, axis=-1, exclusive=True, reverse=True),
        lambda: F.pad(X["x"][..., 1:].flip(-1).cumsum(-1).flip(-1), (0, 1)),
    )
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
    return cases


def older_cases(mb: Any) -> Cases:
    """Forms that a later operator set replaced."""
    cases = Cases()
    add = cases.add
    add(
        "topk values only",
        lambda x, **v: mb.topk(x=x, k=2, axis=1, return_indices=False),
        lambda: X["x"].topk(2, 1).values,
    )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


@pytest.mark.parametrize("name", names_of(older_cases))
def test_older_form_agrees_with_pytorch(computed_by_ios16: Computed, name: str) -> None:
    computed_by_ios16.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(REDUCE) - computed.operators == set()
