"""Joining, splitting, reshaping and padding, against PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.ops.shape import SHAPE
from tests.conversion.mil.programs import Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add

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
    return cases


def older_cases(mb: Any) -> Cases:
    """Forms that a later operator set replaced."""
    cases = Cases()
    add = cases.add
    add(
        "reshape zeros",
        lambda x, **v: mb.reshape(x=x, shape=[0, 0, -1, 3]),
        lambda: X["x"].reshape(1, 4, 10, 3),
    )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


@pytest.mark.parametrize("name", names_of(older_cases))
def test_older_form_agrees_with_pytorch(computed_by_ios16: Computed, name: str) -> None:
    computed_by_ios16.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(SHAPE) - computed.operators == set()
