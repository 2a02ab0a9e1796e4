"""Operators that coremltools translates by a formula of its own, written out: the same results."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.conversion.functions import rewritten

PICTURE = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))


def _operators(function: Callable[[Tensor], Tensor], picture: Tensor = PICTURE) -> list[str]:
    return rewritten(function, picture)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: 3 / (x + 0.01), ["add", "div"]),
        (lambda x: (x + 0.01).reciprocal() + 1, ["add", "div", "add"]),
        (lambda x: torch.rsqrt(x + 1e-6), ["add", "sqrt", "div"]),
        (lambda x: F.rms_norm(x, (20,), eps=1e-6), ["square", "mean", "add", "sqrt", "div"]),
        (lambda x: F.celu(x - 0.5, 0.5), ["sub", "div", "elu", "mul"]),
        (lambda x: torch.remainder(x * 3, 1.0), ["mul", "floor", "sub"]),
        (lambda x: F.softplus(4 * x, beta=2.0, threshold=2.0), ["mul", "mul", "gt", "softplus", "where"]),
        (lambda x: F.softplus(4 * x), ["mul", "softplus"]),
    ],
    ids=[
        "quotient",
        "reciprocal",
        "reciprocal root",
        "root mean square",
        "CELU",
        "rest",
        "threshold",
        "softplus",
    ],
)
def test_it_is_written_out_and_computes_the_same(
    function: Callable[[Tensor], Tensor], expected: list[str]
) -> None:
    assert _operators(function) == expected


@pytest.mark.parametrize(
    "how", [{"stride": 4}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 1}], ids=str
)
def test_windows_are_cut_out_and_put_back_by_convolutions(how: dict[str, int]) -> None:
    def function(x: Tensor) -> Tensor:
        cut = F.unfold(x, (4, 3), **how)
        return F.fold(cut * cut.mean(1, keepdim=True), x.shape[2:], (4, 3), **how)

    operators = _operators(function)
    assert not {"im2col", "col2im"} & set(operators) and "conv_transpose2d" in operators


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.std((2, 3), keepdim=True),
        lambda x: x.var(1, unbiased=False, keepdim=True),
        lambda x: torch.std(x, -1, correction=2, keepdim=True),
        lambda x: x.std(1)[:, None],
        lambda x: torch.std(x, 1, correction=None, keepdim=True),
        lambda x: torch.var(x, (1, 2), correction=None, keepdim=True),
        lambda x: torch.var(x, -2, correction=0, keepdim=True),
        lambda x: x.std() + x.var(unbiased=False),
    ],
    ids=[
        *("of a picture", "of channels", "with a correction", "without the axis"),
        *("with no correction named", "of planes", "without a correction", "of everything"),
    ],
)
def test_deviations_are_means_of_squares(function: Callable[[Tensor], Tensor]) -> None:
    operators = _operators(lambda x: x / (function(x) + 0.1))
    assert "mean" in operators and not {"std", "var"} & set(operators)


KEPT: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "the rest of whole numbers": (lambda x: torch.remainder((x * 99).int(), 7).float(), "remainder"),
    "a softplus whose threshold is where it is exact": (lambda x: F.softplus(x, threshold=16.0), "softplus"),
    "a deviation of one number": (lambda x: x + x.std(0).nan_to_num(0.5), "std"),
    "the variance of two less two": (
        lambda x: x + torch.var(x[:, :2], 1, correction=2).nan_to_num(posinf=1),
        "var",
    ),
    "windows without a batch": (lambda x: F.unfold(x[0], 4, stride=4).reshape(x.shape), "im2col"),
    "windows put back without a batch": (
        lambda x: F.fold(x.reshape(48, 30), (24, 20), 4, stride=4)[None],
        "col2im",
    ),
    "whole numbers, bit by bit": (lambda x: ((x * 9).int() & (x * 7).int()).float(), "__and__"),
    "a table of two places": (
        lambda x: (x * 2)[:, torch.tensor([2, 0, 1])[:, None], torch.arange(24)[None]],
        "index",
    ),
    "places of two axes in a table of four": (
        lambda x: (x * 2)[:, :, torch.arange(24).reshape(12, 2)],
        "index",
    ),
    "part of a slice": (lambda x: (x * 2)[..., 1:, :], "slice"),
}


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize(("function", "kept"), KEPT.values(), ids=KEPT)
def test_what_differs_in_one_point_stays(function: Callable[[Tensor], Tensor], kept: str) -> None:
    assert kept in _operators(function)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda r: r * 2 + r, ["div", "mul", "add"]),  # another reader
        (lambda r: r * 2 + r * 3, ["div", "mul", "mul", "add"]),
        (lambda r: r * r, ["div", "mul"]),
        (lambda r: r + 2, ["div", "add"]),
        (lambda r: r * torch.arange(20), ["div", "mul"]),
        (lambda r: r * 2, ["div"]),
        (lambda r: 0.5 * r, ["div"]),
    ],
    ids=["and itself", "twice", "its square", "a sum", "a tensor", "whole", "half"],
)
def test_a_reciprocal_takes_the_number_that_it_alone_is_multiplied_by(
    function: Callable[[Tensor], Tensor], expected: list[str]
) -> None:
    assert _operators(lambda x: function((x + 0.5).reciprocal())) == ["add", *expected]


@pytest.mark.parametrize("threshold", [15.9, 1.0])
def test_a_threshold_below_is_kept(threshold: float) -> None:
    assert "where" in _operators(lambda x: F.softplus(40 * x - 20, threshold=threshold))


@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((4, 2), (4, 2)), ((4, 4), (4, 2)), ((5, 5), (5, 5)), ((3, 3), (3, 3)), ((1, 1), (2, 2))],
    ids=str,
)
def test_other_windows_are_put_back_by_a_convolution(
    kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    """They are no squares, overlap, or leave a rest at the edge."""
    operators = _operators(
        lambda x: F.fold(F.unfold(x, kernel, stride=stride) * 2, x.shape[2:], kernel, stride=stride)
    )
    assert "conv_transpose2d" in operators and "pixel_shuffle" not in operators


def test_square_windows_side_by_side_are_a_shuffle() -> None:
    operators = _operators(lambda x: F.fold(F.unfold(x, 4, stride=4) * 2, x.shape[2:], 4, stride=4))
    assert "pixel_shuffle" in operators and "conv_transpose2d" not in operators


def test_a_layer_norm_of_whole_pictures_is_written_out_and_of_the_last_axis_not() -> None:
    weight, bias = torch.rand(3, 24, 20), torch.rand(3, 24, 20)
    assert "layer_norm" not in _operators(lambda x: F.layer_norm(x, (3, 24, 20), weight, bias))
    assert _operators(lambda x: F.layer_norm(x, (20,))) == ["layer_norm"]


def test_a_table_is_read_by_a_list_of_places() -> None:
    table = torch.linspace(0, 1, 256) ** 0.8
    operators = _operators(lambda x: table[(x * 255).round().long()])
    assert "index" not in operators and "index_select" in operators


def test_channels_are_chosen_by_a_list_of_places() -> None:
    assert _operators(lambda x: (x * 2)[:, torch.tensor([2, 0, 1])]) == ["mul", "index_select"]


def test_masks_are_joined_by_logic() -> None:
    operators = _operators(lambda x: torch.where((x > 0.3) & ~(x > 0.7) | (x < 0.1) ^ (x > 0.9), x, 1 - x))
    assert {"logical_and", "logical_or", "logical_xor"} <= set(operators)
    assert not [name for name in operators if name.startswith("__")]


def test_a_slice_of_everything_leaves_nothing() -> None:
    assert _operators(lambda x: (x * 2)[..., :99, :99]) == ["mul"]


def test_the_root_mean_square_of_zeros_is_zero() -> None:
    _operators(lambda x: F.rms_norm(x, (20,), eps=1e-6), torch.zeros_like(PICTURE))


def _with_positions(x: Tensor) -> Tensor:
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 24), torch.arange(20) / 3, indexing="ij")
    return x + torch.stack((rows, columns, rows * columns))


def test_what_no_picture_changes_becomes_one_constant() -> None:
    assert _operators(_with_positions) == ["add"]


def test_a_constant_that_is_a_result_stays_one() -> None:
    """A mask as the only result of a branch: no operator is left, and nothing else is lost."""
    assert _operators(lambda x: x * (torch.linspace(0, 1, 20) > 0.5).float()) == ["mul"]
