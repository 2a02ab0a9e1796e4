"""Pooling, in programs read back from disk.

The executor uses PyTorch here, so loops over the definition are the reference.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch.nn.functional as F

from afterlens.conversion.mil.ops.pooling import POOLING
from tests.conversion.mil.definitions import (
    counted_mean,
    inside_mean,
    largest,
    pads_of,
    pool_loops,
    root_of_squares,
)
from tests.conversion.mil.programs import INPUTS, Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add
    given: dict[str, Any]

    for kind in ("valid", "same", "same_lower", "custom"):
        pads = {"valid": [[0, 0], [0, 0]], "custom": [[1, 0], [2, 1]]}.get(kind) or pads_of(
            kind, (6, 5), (3, 4), (2, 2)
        )
        given = {"pad": [1, 0, 2, 1]} if kind == "custom" else {}
        for op, how, reduce, extra in [
            ("avg_pool", "counted", counted_mean, {}),
            ("avg_pool", "excluded", inside_mean, {"exclude_padding_from_average": True}),
            ("max_pool", "", largest, {}),
            ("l2_pool", "", root_of_squares, {}),
        ]:
            add(
                f"{op} {kind} {how}",
                lambda x, op=op, kind=kind, given=given, extra=extra, **v: getattr(mb, op)(
                    x=x, kernel_sizes=[3, 4], strides=[2, 2], pad_type=kind, **given, **extra
                ),
                lambda pads=pads, reduce=reduce: pool_loops(INPUTS["x"], (3, 4), (2, 2), pads, reduce),
            )
    for border in (0, 1):
        add(
            f"avg_pool ceil {border}",
            lambda x, border=border, **v: mb.avg_pool(
                x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[border] * 4, ceil_mode=True
            ),
            lambda border=border: F.avg_pool2d(X["x"], 3, 2, border, ceil_mode=True),
        )
        add(
            f"max_pool ceil {border}",
            lambda x, border=border, **v: mb.max_pool(
                x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[border] * 4, ceil_mode=True
            ),
            lambda border=border: pool_loops(
                INPUTS["x"], (3, 3), (2, 2), [[border] * 2] * 2, largest, ceil=True
            ),
        )
    add(
        "avg_pool 3-D",
        lambda volume, **v: mb.avg_pool(
            x=volume, kernel_sizes=[2, 3, 2], strides=[1, 2, 2], pad_type="valid"
        ),
        lambda: pool_loops(INPUTS["volume"], (2, 3, 2), (1, 2, 2), [[0, 0]] * 3, counted_mean),
    )
    for op, reduce in (("avg_pool", counted_mean), ("max_pool", largest), ("l2_pool", root_of_squares)):
        add(
            f"{op} 1-D",
            lambda line, op=op, **v: getattr(mb, op)(
                x=line, kernel_sizes=[4], strides=[3], pad_type="same_lower"
            ),
            lambda reduce=reduce: pool_loops(
                INPUTS["line"], (4,), (3,), pads_of("same_lower", (11,), (4,), (3,)), reduce
            ),
        )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_its_definition(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(POOLING) - computed.operators == set()
