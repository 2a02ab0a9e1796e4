"""Slices, gather and scatter, against PyTorch, in programs read back from disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from afterlens.conversion.mil.ops.gather import (
    GATHER,
    gather,
    gather_along_axis,
    gather_nd,
    scatter,
    scatter_along_axis,
    scatter_nd,
)
from tests.conversion.mil.programs import INPUTS, Cases, Computed, X, names_of, normal


def cases(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy

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
    add("non_zero", lambda signs, **v: mb.non_zero(x=signs), lambda: [[0, 0], [0, 2], [1, 2]])
    return cases


def older_cases(mb: Any) -> Cases:
    """Forms that a later operator set replaced."""
    cases = Cases()
    add = cases.add
    add(
        "gather negative",
        lambda x, i, **v: mb.gather(x=x, indices=mb.sub(x=i, y=3), axis=1),
        lambda: X["x"][:, [3, 1, 3]],
    )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_pytorch(computed: Computed, name: str) -> None:
    computed.check(name)


@pytest.mark.parametrize("name", names_of(older_cases))
def test_older_form_agrees_with_pytorch(computed_by_ios16: Computed, name: str) -> None:
    computed_by_ios16.check(name)


def test_a_product_may_pass_beyond_the_range_on_its_way() -> None:
    """Three updates of one element, in an order that overflows in between."""
    data, updates = np.array([2e30, 1.0], np.float32), np.array([1e20, 1e-30, 3.0], np.float32)
    places = np.zeros(3, np.int32)
    expected = np.array([6e20, 1.0], np.float32)
    for result in (
        scatter(data, places, updates, 0, "mul"),
        scatter_along_axis(data, places, updates, 0, "mul"),
        scatter_nd(data, places[:, None], updates, "mul"),
    ):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert scatter(data, places[:1], updates[:1], 0, "mul")[0] == np.inf


@pytest.mark.parametrize("validated", [True, False])
def test_from_ios_17_on_a_negative_index_is_refused(validated: bool) -> None:
    data, places = np.ones((3, 2), np.float32), np.array([0, -1])
    for index in (places, np.array([0, 3])):
        for compute in (
            lambda i: gather(data, i, 0, 0, validated),
            lambda i: gather_along_axis(data, i[:, None], 0, validated),
            lambda i: gather_nd(data, i[:, None], 0, validated),
            lambda i: scatter(data, i, data[:2], 0, "add", validated),
            lambda i: scatter_along_axis(data, i[:, None], data[:2, :1], 0, "add", validated),
            lambda i: scatter_nd(data, i[:, None], data[:2], "add", validated),
        ):
            with pytest.raises((ValueError, IndexError), match="out of range|out of bounds"):
                compute(index)
    assert gather(data, places).shape == scatter(data, places, data[:2])[:2].shape  # before


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(GATHER) - computed.operators == set()
