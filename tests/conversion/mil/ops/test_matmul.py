"""Matrix products against PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.matmul import MATMUL
from tests.conversion.mil.programs import RNG, Cases, Computed, X, names_of, normal


def cases(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy

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
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(MATMUL) - computed.operators == set()
