"""Operators that create tensors, against PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.create import CREATE
from tests.conversion.mil.programs import Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add

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
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(CREATE) - computed.operators == set()
