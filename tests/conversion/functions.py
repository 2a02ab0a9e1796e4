"""Functions of a picture as networks, and what the conversion makes of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from afterlens.conversion.lower import lower
from afterlens.training.deployable import Deployable, Port


class FunctionNet(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(x),)


def rewritten(function: Callable[[Tensor], Tensor], picture: Tensor, for_onnx: bool = False) -> list[str]:
    """The operators of the rewritten function, after a check that it computes the same."""
    ports = [(Port(name, tuple(picture.shape), (0.0, 1.0)),) for name in ("image", "restored")]
    program = lower(Deployable(FunctionNet(function).eval(), "net", "Net", "1", *ports), for_onnx=for_onnx)
    torch.testing.assert_close(program.module()(picture)[0], function(picture))
    return [str(n.target).split(".")[1] for n in program.graph.nodes if n.op == "call_function"]
