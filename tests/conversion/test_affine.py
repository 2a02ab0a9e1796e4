"""Factors and offsets behind a convolution become its weights; everything else stays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from afterlens.conversion.lower import lower
from afterlens.training.deployable import Deployable, Port

CHANNELS = torch.tensor([0.3, -2.0, 1.5]).reshape(1, 3, 1, 1)
MAP = torch.linspace(0, 1, 20)
PICTURE = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))


class _Net(nn.Module):
    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(self.layer(x)),)


def _lowered(layer: nn.Module, function: Callable[[Tensor], Tensor]) -> tuple[nn.Module, list[str]]:
    """The rewritten network, checked to compute the same, and its operators."""
    shape = (1, 3, 24, 20)
    module = _Net(layer, function).eval()
    ports = (Port("image", shape, (0.0, 1.0)),), (Port("restored", shape, (0.0, 1.0)),)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    program = lower(Deployable(module, "net", "Net", "1", *ports))
    with torch.no_grad():
        result, expected = program.module()(PICTURE)[0], module(PICTURE)[0]
    print(f"max error {float((result - expected).abs().max()):.2e}")
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    names = [str(n.target).split(".")[1] for n in program.graph.nodes if n.op == "call_function"]
    return module, names


def _convolution(**how: object) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 3, 3, padding=1, **how)  # type: ignore[arg-type]


FOLDED: dict[str, Callable[[Tensor], Tensor]] = {
    "factor": lambda f: 0.2 * f,
    "factor of channels": lambda f: f * CHANNELS,
    "offset": lambda f: f + 0.3,
    "offset of channels": lambda f: CHANNELS + f,
    "difference": lambda f: f - CHANNELS,
    "difference from a number": lambda f: 1 - f,
    "difference from channels": lambda f: CHANNELS - f,
    "quotient": lambda f: f / CHANNELS,
    "standardized, and back": lambda f: (f - CHANNELS) / (CHANNELS * CHANNELS) * 3 + 1,
}


@pytest.mark.parametrize("function", FOLDED.values(), ids=FOLDED)
@pytest.mark.parametrize("bias", [True, False])
def test_what_follows_a_convolution_becomes_its_weights(
    function: Callable[[Tensor], Tensor], bias: bool
) -> None:
    assert _lowered(_convolution(bias=bias), function)[1] == ["conv2d"]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_transposed_convolution_has_its_outputs_in_groups(groups: int) -> None:
    torch.manual_seed(0)
    up = nn.Sequential(
        nn.Conv2d(3, 6, 2, 2), nn.ConvTranspose2d(6, 6, 2, 2, groups=groups), nn.Conv2d(6, 3, 1)
    )
    factor = torch.linspace(0.5, 2, 6).reshape(6, 1, 1)
    middle = nn.Sequential(up[0], _Scaled(up[1], factor), up[2])
    assert _lowered(middle, lambda f: f)[1] == ["conv2d", "conv_transpose2d", "conv2d"]


class _Scaled(nn.Module):
    def __init__(self, layer: nn.Module, factor: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("factor", factor)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.factor


KEPT: dict[str, tuple[Callable[[Tensor], Tensor], list[str]]] = {
    "a factor by place": (lambda f: f * MAP, ["conv2d", "mul"]),
    "a number divided": (lambda f: 2 / (f + 9), ["conv2d", "div"]),
    "a convolution that something else reads": (lambda f: f * 0.2 + f, ["conv2d", "mul", "add"]),
    "the square": (lambda f: f * f, ["conv2d", "mul"]),
    "weights that float16 would lose": (lambda f: f * 1e-5, ["conv2d", "mul"]),
    "a multiple of what is added": (lambda f: torch.add(f, CHANNELS, alpha=2), ["conv2d", "add"]),
    "a multiple taken from a number": (lambda f: torch.rsub(f, 1.0, alpha=2), ["conv2d", "rsub"]),
    "a quotient by zero": (lambda f: f / torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1), ["conv2d", "div"]),
    "the larger one": (lambda f: torch.maximum(f, CHANNELS), ["conv2d", "maximum"]),
    "a sum with what is computed": (
        lambda f: f + PICTURE.mean() * f.mean(),
        ["conv2d", "mean", "mul", "add"],
    ),
    "a result of two steps": (lambda f: torch.relu(f) * 0.2, ["conv2d", "relu", "mul"]),
}


@pytest.mark.parametrize(("function", "kept"), KEPT.values(), ids=KEPT)
def test_everything_else_stays(function: Callable[[Tensor], Tensor], kept: list[str]) -> None:
    assert _lowered(_convolution(), function)[1] == kept


def test_factors_of_columns_that_are_as_many_as_channels_stay() -> None:
    torch.manual_seed(0)
    wide = nn.Conv2d(3, 20, 3, padding=1)
    assert _lowered(wide, lambda f: f * MAP)[1] == ["conv2d", "mul"]
    assert _lowered(wide, lambda f: f * MAP.reshape(20, 1, 1))[1] == ["conv2d"]
    assert _lowered(wide, lambda f: f * MAP.reshape(1, 20, 1, 1))[1] == ["conv2d"]


@pytest.mark.parametrize(
    ("largest", "factor", "folded"),
    [
        (1.0, 1.001e-3, True),
        (1.0, 0.999e-3, False),
        (2e-3, 0.501, True),  # what float16 would lose begins at a thousandth
        (2e-3, 0.499, False),
        (1e-4, 1.0, True),  # no smaller than they are
        (1e-4, 1.5, True),
        (1e-4, -1.0, True),
        (1e-4, 0.99, False),
    ],
)
def test_weights_are_not_made_smaller_than_float16_likes(largest: float, factor: float, folded: bool) -> None:
    layer = _convolution()
    with torch.no_grad():
        layer.weight *= largest / layer.weight.abs().max()  # type: ignore[operator]
    assert _lowered(layer, lambda f: f * factor)[1] == (["conv2d"] if folded else ["conv2d", "mul"])


class _Computed(nn.Module):
    """A convolution whose weight or bias depends on the picture."""

    def __init__(self, what: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.what, self.weight, self.bias = (
            what,
            nn.Parameter(torch.rand(3, 3, 1, 1)),
            nn.Parameter(torch.rand(3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((0, 2, 3))
        weight = self.weight * mean.reshape(3, 1, 1, 1) if self.what == "weight" else self.weight
        bias = self.bias * mean if self.what == "bias" else self.bias
        return nn.functional.conv2d(x, weight, bias)


@pytest.mark.parametrize(("what", "kept"), [("neither", 0), ("weight", 1), ("bias", 1)])
def test_what_the_network_computes_is_no_weight(what: str, kept: int) -> None:
    names = _lowered(_Computed(what), lambda f: f * 0.2)[1]
    assert names[names.index("conv2d") + 1 :] == ["mul"] * kept


def test_a_convolution_that_keeps_the_size_is_folded_too() -> None:
    layer = nn.Conv2d(3, 3, 3, padding="same")
    assert _lowered(layer, lambda f: (f - CHANNELS) / 3)[1] == ["conv2d"]
