"""Pixels moved between space, channels and batch, by loops and PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from afterlens.conversion.mil.ops.rearrange import REARRANGE
from tests.conversion.mil.definitions import (
    blocks_loops,
)
from tests.conversion.mil.programs import INPUTS, Cases, Computed, X, names_of


def block_position_first(c: int, i: int, j: int) -> int:
    """TensorFlow's channel order of a 2x2 block of one channel."""
    return i * 2 + j + c


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add

    add(
        "pixel_shuffle",
        lambda x, **v: mb.pixel_shuffle(x=x, upscale_factor=2),
        lambda: F.pixel_shuffle(X["x"], 2),
    )
    add(
        "pixel_unshuffle",
        lambda square, **v: mb.pixel_unshuffle(x=square, downscale_factor=np.uint32(2)),
        lambda: F.pixel_unshuffle(X["square"], 2),
    )
    add(
        "depth_to_space",
        lambda x, **v: mb.depth_to_space(x=x, block_size=2),
        lambda: blocks_loops(INPUTS["x"], 2, block_position_first),
    )
    add(
        "space_to_depth",
        lambda square, **v: mb.space_to_depth(x=square, block_size=2),
        lambda: np.concatenate([INPUTS["square"][:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
    )
    add(
        "space_to_batch",
        lambda square, **v: mb.space_to_batch(x=square, block_shape=[2, 3], paddings=[[0, 2], [1, 1]]),
        lambda: np.concatenate(
            [
                np.pad(INPUTS["square"], [(0, 0), (0, 0), (0, 2), (1, 1)])[:, :, i::2, j::3]
                for i in (0, 1)
                for j in (0, 1, 2)
            ]
        ),
    )
    add(
        "batch_to_space",
        lambda square, **v: mb.batch_to_space(
            x=mb.space_to_batch(x=square, block_shape=[2, 2], paddings=[[1, 1], [0, 2]]),
            block_shape=[2, 2],
            crops=[[1, 1], [0, 2]],
        ),
        lambda: X["square"],
    )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_its_definition(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(REARRANGE) - computed.operators == set()
