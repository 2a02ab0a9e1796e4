"""Operators that coremltools does not know: written in others, with the same results."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.elementary import _FUNCTIONS
from afterlens.conversion.lower import lower
from afterlens.training.deployable import Deployable, Port

SHAPE = (1, 3, 12, 10)
PICTURE = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
EDGES = torch.tensor([-2.0, 0.0, 1.0])
THETA = torch.tensor([[[0.9, 0.1, 0.05], [-0.1, 0.8, 0.0]]])


class _Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(8 * x - 4),)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "trunc": torch.trunc,
    "frac": torch.frac,
    "fmod": lambda x: torch.fmod(x, 0.7),
    "lerp": lambda x: torch.lerp(x, x.abs(), 0.3),
    "log_sigmoid": lambda x: F.logsigmoid(40 * x),
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "softshrink": lambda x: F.softshrink(x, 0.1),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "fmax": lambda x: torch.fmax(x, -x),
    "erfc": torch.erfc,
    "isinf": lambda x: x * (1 / (x - x.amax())).isinf().float(),
    "isfinite": lambda x: x * (1 / (x - x.amax())).isfinite().float(),
    "median.dim": lambda x: x - x.median(1, keepdim=True)[0],
    "median.default": lambda x: x - x.median(),
    "kthvalue": lambda x: x - x.flatten(2).kthvalue(7, 2)[0][:, :, None, None],
    "prod": lambda x: x.prod(1, keepdim=True),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x.abs(), dim=1),
    "acosh": lambda x: torch.acosh(x.abs() + 1.1),
    "copysign": lambda x: torch.copysign(x + 9, x),
    "bucketize": lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 2.0])).float(),
    "where.ScalarOther": lambda x: torch.where(x > 0, x, 0),
    "where.ScalarSelf": lambda x: torch.where(x > 0, 0.3, x),
    "where.Scalar": lambda x: x * torch.where(x > 0, 1.0, 0.3),
    "unfold": lambda x: x.unfold(2, 4, 3).amax(-1),
    "affine_grid": lambda x: F.affine_grid(THETA * x.mean(), [1, 3, 12, 10], align_corners=False),
    "var_mean": lambda x: torch.add(*torch.var_mean(x, 1, keepdim=True)),
    "std_mean": lambda x: x - torch.std_mean(x, (2, 3), keepdim=True)[0],
    "fmin": lambda x: torch.fmin(x, -x),
    "frac.": lambda x: torch.frac(x.round() / 2),
    "fmod.Tensor": lambda x: torch.fmod(x, x.abs() + 0.3),
    "fmod.Scalar": lambda x: torch.fmod(x.round(), -2),
    "lerp.Tensor": lambda x: torch.lerp(x, x * x, x.abs() / 4),
    # At the edge: whole numbers, of which some are the limit itself.
    "hardshrink.": lambda x: F.hardshrink(x.round(), 1.0),
    "softshrink.": lambda x: F.softshrink(x.round(), 1.0),
    "bucketize.": lambda x: torch.bucketize(x.round(), EDGES).float(),
    "bucketize.Tensor": lambda x: torch.bucketize(x.round(), EDGES, right=True).float(),
    # Of an even number the lower one of the two in the middle; with and without the axis.
    "median.": lambda x: x - x.flatten(2).median(2)[0][..., None, None],
    "kthvalue.": lambda x: x - x.kthvalue(2, 1, keepdim=True)[0],
    "kthvalue.default": lambda x: (x + torch.arange(10) / 99).kthvalue(3, -1)[1].float(),
    "prod.": lambda x: x.prod(1),
    "prod.dim_int": lambda x: x.round().prod(-1, keepdim=True, dtype=torch.float64).float(),
    # Infinite on both sides, and no number.
    "isinf.": lambda x: (1 / x.round()).isinf().float(),
    "isinf.default": lambda x: (x.round() / x.round()).isinf().float(),
    "isfinite.": lambda x: (1 / x.round()).isfinite().float(),
    "isfinite.default": lambda x: (x.round() / x.round()).isfinite().float(),
    "cosine_similarity.": lambda x: F.cosine_similarity(x, x.flip(3), dim=-1, eps=9.0),
    "copysign.": lambda x: torch.copysign(x, 0.5 - x),
    "acosh.": lambda x: torch.acosh(1 + x.round().abs()),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_written_in_others(name: str) -> None:
    module = _Net(FUNCTIONS[name]).eval()
    ports = (Port("image", SHAPE, (0.0, 1.0)),), (Port("out", SHAPE, (0.0, 1.0)),)
    program = lower(Deployable(module, "net", "Net", "1", *ports))
    used = {
        str(node.target).removeprefix("aten.") for node in program.graph.nodes if node.op == "call_function"
    }
    gone = name.partition(".")[0] if name.endswith(".") else name
    assert not any(operator.startswith(gone) for operator in used)
    for picture in (PICTURE, 0 * PICTURE, 0 * PICTURE + 1):
        torch.testing.assert_close(program.module()(picture)[0], module(picture)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("trunc", lambda x: x.int().trunc().float()),
        ("prod", lambda x: x.int().prod(1).float()),
        ("kthvalue", lambda x: x.int().kthvalue(2, 1)[0].float()),
        ("median", lambda x: x.int().median(1)[0].float()),
    ],
)
def test_of_whole_numbers_it_stays(name: str, function: Callable[[Tensor], Tensor]) -> None:
    module = _Net(function).eval()
    ports = (Port("image", SHAPE, (0.0, 1.0)),), (Port("out", SHAPE, (0.0, 1.0)),)
    program = lower(Deployable(module, "net", "Net", "1", *ports))
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert any(operator.startswith(f"aten.{name}") for operator in used), used
    assert torch.equal(program.module()(PICTURE)[0], module(PICTURE)[0])


@pytest.mark.parametrize("operator", _FUNCTIONS, ids=str)
def test_what_is_left_out_has_the_operators_own_default(operator: Any) -> None:
    """A captured graph leaves out what is not given."""
    function = _FUNCTIONS[operator]
    if function in (torch.maximum, torch.minimum):
        return  # they have none
    own = list(inspect.signature(function).parameters.values())
    theirs = operator._schema.arguments
    assert len(own) == len(theirs)
    for one, other in zip(own, theirs, strict=True):
        default = other.default_value if other.has_default_value() else inspect.Parameter.empty
        assert one.default == default, one.name
