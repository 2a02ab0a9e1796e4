"""Convolutions, in programs read back from disk.

The executor uses PyTorch here, so loops over the definition are the reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from afterlens.conversion.mil.ops.convolution import CONVOLUTION
from tests.conversion.mil.definitions import (
    conv_loops,
    conv_transpose_loops,
    pads_of,
)
from tests.conversion.mil.programs import INPUTS, Cases, Computed, names_of, normal


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add
    given: dict[str, Any]

    kernels = normal(6, 2, 3, 2), normal(6)
    for kind in ("valid", "same", "same_lower", "custom"):
        pads = {
            "valid": [[0, 0], [0, 0]],
            "custom": [[2, 0], [1, 3]],
        }.get(kind) or pads_of(kind, (6, 5), (3, 3), (2, 1))
        given = {"pad": [2, 0, 1, 3]} if kind == "custom" else {}
        add(
            f"conv {kind}",
            lambda x, kind=kind, given=given, **v: mb.conv(
                x=x,
                weight=kernels[0],
                bias=kernels[1],
                strides=[2, 1],
                dilations=[1, 2],
                groups=2,
                pad_type=kind,
                **given,
            ),
            lambda pads=pads: conv_loops(INPUTS["x"], *kernels, pads, (2, 1), (1, 2), 2),
        )
    flat_kernels, deep_kernels = normal(3, 4, 4), normal(2, 4, 2, 2, 3)
    nothing = np.zeros(8, np.float32)
    add(
        "conv 1-D",
        lambda line, **v: mb.conv(x=line, weight=flat_kernels, strides=[3], pad_type="same"),
        lambda: conv_loops(
            INPUTS["line"], flat_kernels, nothing, pads_of("same", (11,), (4,), (3,)), (3,), (1,), 1
        ),
    )
    add(
        "conv 3-D",
        lambda volume, **v: mb.conv(x=volume, weight=deep_kernels),
        lambda: conv_loops(INPUTS["volume"], deep_kernels, nothing, [[0, 0]] * 3, (1, 1, 1), (1, 1, 1), 1),
    )
    dynamic = normal(2, 4, 6, 5)
    add(
        "conv computed weight",
        lambda x, **v: mb.conv(x=x, weight=mb.mul(x=x, y=dynamic)),
        lambda: conv_loops(INPUTS["x"], INPUTS["x"] * dynamic, nothing, [[0, 0]] * 2, (1, 1), (1, 1), 1),
    )
    up, up_bias = normal(4, 3, 3, 2), normal(6)
    forms: list[tuple[str, dict[str, Any], tuple[int, int], tuple[int, int]]] = [
        ("valid", {}, (0, 0), (13, 10)),
        ("custom", {"pad_type": "custom", "pad": [1, 2, 0, 1]}, (1, 0), (10, 9)),
        ("same", {"pad_type": "same"}, (0, 0), (12, 10)),
        ("output_shape", {"pad_type": "custom", "pad": [1, 0, 0, 0], "output_shape": [1, 6, 13, 11]}, (1, 0), (13, 11)),
    ]  # fmt: skip
    for name, given, before, sizes in forms:
        add(
            f"conv_transpose {name}",
            lambda x, given=given, **v: mb.conv_transpose(
                x=x, weight=up, bias=up_bias, strides=[2, 2], groups=2, **given
            ),
            lambda before=before, sizes=sizes: conv_transpose_loops(
                INPUTS["x"], up, up_bias, before, sizes, (2, 2), 2
            ),
        )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_its_definition(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(CONVOLUTION) - computed.operators == set()
