"""The exported ONNX graph computes what PyTorch does, on black and white as well."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from afterlens.conversion.tflite.onnx_export import export_onnx
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError

SHAPE = (1, 3, 8, 8)


class TinyConstants(nn.Module):
    """Colours divided by their sum + epsilon, and factors close to 1."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, image: Tensor) -> tuple[Tensor]:
        shares = image / (image.sum(1, keepdim=True) + self.epsilon)
        factors = (image * (1 + 4e-6) - image) * 1e4 + (image / (1 - 4e-6) - image) * 1e4
        return ((shares - self.epsilon) * 1e-3 + factors,)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-8, 1e-10])
def test_tiny_constants_stay(epsilon: float, tmp_path: Path) -> None:
    ports = [(Port(name, SHAPE, (0.0, 1.0)),) for name in ("image", "out")]
    module = TinyConstants(epsilon).eval()
    export_onnx(Deployable(module, "t", "T", "1", *ports), tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "graph.onnx"))
    for image in (torch.zeros(SHAPE), torch.ones(SHAPE), torch.rand(SHAPE)):
        (got,) = session.run(None, {"image": image.numpy()})
        expected = module(image)[0].numpy()
        print(np.abs(got - expected).max())
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, expected, atol=2e-3)


class Odd(nn.Module):
    """Has an operator that ONNX lacks."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image + 1.0)


class Named(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.odd = Odd(function)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.odd(image) * 0.5,)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("digamma", torch.digamma),
        # The exporter takes these apart first, and fails on a part.
        ("linalg_cholesky_ex", torch.linalg.cholesky),
        ("erfinv", torch.erfinv),
        ("i0", torch.i0),
        ("special_bessel_j0", torch.special.bessel_j0),
    ],
)
def test_an_operator_that_onnx_lacks_is_named_with_its_place(
    name: str, function: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    shape = (1, 3, 8, 8)
    ports = [(Port(port, shape, (0.0, 1.0)),) for port in ("image", "out")]
    place = r"layer odd \(Odd\); test_onnx_export.py, line \d+; write it with others"
    with pytest.raises(UserError, match=rf"it has no operator for {name} in {place}"):
        export_onnx(Deployable(Named(function).eval(), "t", "T", "1", *ports), tmp_path / "graph.onnx")


class Mirrored(nn.Module):
    """Gives its input back, and its mirror image."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image, image.flip(3)


def test_what_onnx2tf_gets_wrong_is_not_in_the_graph(tmp_path: Path) -> None:
    """A mirrored picture is read by index, not by a slice that runs backwards; each output has an operator of its own."""
    image, same, mirrored = (Port(name, SHAPE, (0.0, 1.0)) for name in ("image", "same", "mirrored"))
    path = tmp_path / "graph.onnx"
    export_onnx(Deployable(Mirrored().eval(), "t", "T", "1", (image,), (same, mirrored)), path)
    picture = torch.rand(SHAPE)
    got = onnxruntime.InferenceSession(str(path)).run(None, {"image": picture.numpy()})
    np.testing.assert_array_equal(got, [picture.numpy(), picture.flip(3).numpy()])
    made = {node.output[0]: node.op_type for node in onnx.load(path).graph.node}
    print(made)
    assert (made["mirrored"], made["same"]) == ("Gather", "Add")
