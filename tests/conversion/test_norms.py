"""Normalization by a picture's own statistics: written out, the same function, and exact on bright pictures too."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.lower import lower
from afterlens.training.deployable import Deployable, Port
from tests.conversion.tflite.float32 import run_float32


class _Net(nn.Module):
    def __init__(self, *layers: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer for layer in layers if isinstance(layer, nn.Module))
        self.functions = layers

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(function(x) for function in self.functions)


class _Beside(_Net):
    """The results as the channels of one picture."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (torch.cat(super().forward(x), 1),)


def _deployable(shape: tuple[int, ...], *layers: Callable[[Tensor], Tensor]) -> Deployable:
    for layer in layers:
        if isinstance(layer, nn.Module):
            for weight in layer.parameters():
                nn.init.normal_(weight, generator=torch.Generator().manual_seed(weight.numel()))
    outputs = tuple(Port(f"out{i}", shape, (-9.0, 9.0)) for i in range(len(layers)))
    return Deployable(
        _Net(*layers).eval(), "norms", "Norms", "1", (Port("image", shape, (0.0, 1.0)),), outputs
    )


NORMS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...], int]] = {  # what, of which shape, means
    "instances": (nn.InstanceNorm2d(6, affine=True), (1, 6, 6, 8), 3),
    "instances, no weights": (nn.InstanceNorm2d(6, eps=0.1), (1, 6, 6, 8), 3),
    "instances, two pictures": (nn.InstanceNorm2d(6, affine=True), (2, 6, 5, 8), 3),
    "one group": (nn.GroupNorm(1, 6), (1, 6, 6, 8), 3),
    "groups": (nn.GroupNorm(3, 6, eps=0.1), (1, 6, 8, 6), 3),
    "groups, no weights": (nn.GroupNorm(2, 6, affine=False), (2, 6, 8, 6), 3),
    "groups of one channel": (nn.GroupNorm(6, 6), (1, 6, 8, 6), 3),
    "layer": (nn.LayerNorm([6, 8, 7], eps=0.1), (1, 6, 8, 7), 3),
    "layer, rows and columns": (nn.LayerNorm([8, 7]), (1, 6, 8, 7), 3),
}


@pytest.mark.parametrize("name", NORMS)
def test_it_is_written_out_with_its_mean_taken_twice(name: str) -> None:
    layer, shape, means = NORMS[name]
    deployable = _deployable(shape, layer)
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    program = lower(deployable, for_onnx=True)
    torch.testing.assert_close(program.module()(picture)[0], deployable.module(picture)[0])
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert not any("norm" in operator for operator in used)
    assert sum("mean" in operator for operator in used) == means


def _weighted_by_the_picture(x: Tensor) -> Tensor:
    return F.instance_norm(x, weight=x.mean((0, 2, 3)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.InstanceNorm1d(6), (1, 6, 8)),
        (nn.GroupNorm(2, 6), (1, 6, 8)),
        (nn.LayerNorm(8), (1, 6, 7, 8)),
        (_weighted_by_the_picture, (1, 6, 7, 8)),
        (lambda x: F.instance_norm(x, bias=torch.ones(6)), (1, 6, 7, 8)),
    ],
    ids=["a line", "groups of a line", "the last axis", "computed weights", "a bias alone"],
)
def test_what_it_does_not_know_is_left_alone(
    layer: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    program = lower(_deployable(shape, layer), for_onnx=True)
    assert any("norm" in str(node.target) for node in program.graph.nodes)


def test_core_ml_keeps_its_own_operator_for_instances() -> None:
    program = lower(_deployable((1, 6, 7, 8), nn.InstanceNorm2d(6), nn.GroupNorm(2, 6)))
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [name for name in used if "norm" in name] == ["aten.instance_norm.default"]


def test_a_tflite_file_is_exact_on_a_bright_picture(tmp_path: Path) -> None:
    """With one mean alone it is 2e-3 off."""
    network = _Beside(nn.InstanceNorm2d(6), nn.GroupNorm(1, 6), nn.GroupNorm(3, 6), nn.LayerNorm([6, 64, 60]))
    picture = 0.97 + 0.005 * torch.rand(1, 6, 64, 60, generator=torch.Generator().manual_seed(0))
    got = run_float32(network, picture, (1, 24, 64, 60), tmp_path)
    with torch.no_grad():
        (exact,) = network.double()(picture.double())
    errors = np.abs(got - exact.numpy()).max((0, 2, 3))
    print(errors)
    assert errors.max() < 1e-4
