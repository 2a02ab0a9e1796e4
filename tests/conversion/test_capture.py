"""What is told of a network's Python: the layer, the network's own line, and why it cannot be captured."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from torch import Tensor, nn

from afterlens.conversion.capture import _reason, capture, first_line, operator_of, place, place_of
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError

OWN = 'File "/home/me/nets/network.py", line 12, in forward\n    return self.body(x)\n'
DEEPER = 'File "/home/me/nets/blocks.py", line 7, in forward\n    return x * 2\n'
TORCH = 'File "/usr/lib/python3/torch/nn/modules/conv.py", line 99, in forward\n'
GENERATED = 'File "<eval_with_key>.5", line 3, in forward\n'
OURS = 'File "/opt/afterlens/conversion/capture.py", line 40, in capture\n'


@pytest.mark.parametrize(
    ("layer", "kind", "trace", "told"),
    [
        ("", "", "", "the network's forward"),
        ("", "", GENERATED + TORCH, "the network's forward"),
        ("", "nets.network.Net", OWN, "network.py, line 12"),
        ("body.0", "nets.blocks.Block", "", "layer body.0 (Block)"),
        ("body.0", "Block", OWN, "layer body.0 (Block); network.py, line 12"),
        ("body.0", "Block", OWN + DEEPER, "layer body.0 (Block); blocks.py, line 7"),
        ("body.0", "Block", OWN + DEEPER + TORCH + GENERATED, "layer body.0 (Block); blocks.py, line 7"),
    ],
)
def test_a_place_is_the_innermost_layer_and_the_networks_own_line(
    layer: str, kind: str, trace: str, told: str
) -> None:
    assert place(layer, kind, trace) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("it failed\nbecause", "it failed"),
        ("\nit failed\nbecause", "it failed"),
        ("", "ValueError"),
        (
            "Could not guard on data-dependent expression\n" + OWN + DEEPER + TORCH + OURS,
            "its Python decides by the values of a tensor in blocks.py, line 7, which a file cannot do: "
            "use torch.where, and compute both",
        ),
        (
            "Could not guard on data-dependent expression\n" + TORCH,
            "its Python decides by the values of a tensor, which a file cannot do: use torch.where, and compute both",
        ),
    ],
)
def test_a_reason_is_one_line(text: str, told: str) -> None:
    assert _reason(ValueError(text)) == told
    assert "data-dependent" in text or first_line(ValueError(text)) == told


class _Block(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class _Net(nn.Module):
    """An operator in a layer of a layer, then one of its own."""

    def __init__(self, decides: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Identity(), _Block())
        self.decides = decides

    def forward(self, x: Tensor) -> tuple[Tensor]:
        if self.decides and x.mean() > 0.5:
            return (x,)
        return (self.body(x) + 1,)


def _deployable(module: nn.Module) -> Deployable:
    ports = (Port("image", (1, 3, 4, 4), (0.0, 1.0)),), (Port("out", (1, 3, 4, 4), (0.0, 1.0)),)
    return Deployable(module.eval(), "net", "Net", "1", *ports)


def test_operators_are_called_as_pytorch_calls_them_and_placed() -> None:
    deployable = _deployable(_Net())
    nodes = [n for n in capture(deployable.module, deployable).graph.nodes if n.op == "call_function"]
    assert [operator_of(node) for node in nodes] == ["mul", "add"]
    assert re.fullmatch(r"layer body\.1 \(_Block\); test_capture\.py, line \d+", place_of(nodes[0]))
    assert re.fullmatch(r"test_capture\.py, line \d+", place_of(nodes[1]))


@pytest.mark.parametrize("decides", [False, True])
def test_capturing_leaves_logging_as_it_was(decides: bool) -> None:
    deployable = _deployable(_Net(decides))
    before = logging.root.manager.disable
    logging.disable(logging.DEBUG)
    try:
        if decides:
            with pytest.raises(
                UserError, match=r"^net: the graph cannot be captured \(its Python decides by"
            ):
                capture(deployable.module, deployable)
        else:
            capture(deployable.module, deployable)
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(before)
    assert torch.is_grad_enabled()
