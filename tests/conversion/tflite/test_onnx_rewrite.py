"""Pixel-shuffles in TFLite's order of channels: the same picture, and no transpose left."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.tflite.onnx_export import export_onnx
from afterlens.conversion.tflite.onnx_rewrite import spell_out_norms
from afterlens.training.deployable import Deployable, Port


class Blocks(nn.Module):
    """Pixels in channels, changed by convolutions on both sides, in the ways that our networks do."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.between = between
        self.mean = nn.Conv2d(48, 3, 1)
        self.up = nn.Conv2d(3, 48, 3, padding=1)
        self.shared = nn.Conv2d(3, 48, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = F.pixel_unshuffle(image, 4)
        small = self.mean(pixels)
        gate = torch.sigmoid(self.shared(small))
        result = F.relu(pixels * gate + self.up(small)).clamp(max=1.0)
        if self.between == "softmax":
            result = result.softmax(dim=1)
        # The same convolution again, in its own order this time.
        return F.pixel_shuffle(result, 4), self.shared(0.5 * small).mean(dim=1, keepdim=True).expand(
            1, 3, -1, -1
        )


def exported(path: Path, between: str) -> tuple[Any, list[np.ndarray[Any, Any]], list[Tensor]]:
    import onnx

    torch.manual_seed(0)
    module = Blocks(between).eval()
    big, small = (1, 3, 32, 48), (1, 3, 8, 12)
    outputs = (Port("whole", big, (0.0, 1.0)), Port("small", small, (0.0, 1.0)))
    export_onnx(Deployable(module, "b", "B", "1", (Port("image", big, (0.0, 1.0)),), outputs), path)
    image = torch.rand(big)
    got = onnxruntime.InferenceSession(str(path)).run(None, {"image": image.numpy()})
    with torch.no_grad():
        return onnx.load(path), got, list(module(image))


def test_the_picture_stays_and_the_transposes_go(tmp_path: Path) -> None:
    model, got, expected = exported(tmp_path / "graph.onnx", "")
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["SpaceToDepth"] == kinds["DepthToSpace"] == 1 and kinds["Transpose"] == 0
    (shuffle,) = [node for node in model.graph.node if node.op_type == "DepthToSpace"]
    assert {a.name: a.s for a in shuffle.attribute}["mode"] == b"DCR"
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-6)


def test_what_mixes_channels_in_between_is_left_alone(tmp_path: Path) -> None:
    model, got, expected = exported(tmp_path / "graph.onnx", "softmax")
    (shuffle,) = [node for node in model.graph.node if node.op_type == "DepthToSpace"]
    assert {a.name: a.s for a in shuffle.attribute}["mode"] == b"CRD"
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-6)


class Head(nn.Module):
    """A convolution, perhaps in groups or under a mask, then a pixel-shuffle by 2."""

    def __init__(self, colours: int, groups: int = 1, mask: str = "") -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, colours * 4, 1, groups=groups)
        self.attention = nn.Conv2d(4, 1, 3, padding=1)
        self.mask = mask

    def forward(self, image: Tensor) -> tuple[Tensor]:
        features = self.stem(image)
        result = self.conv(features)
        if self.mask == "convolution":
            result = result * torch.sigmoid(self.attention(features))
        elif self.mask == "mean":
            result = torch.relu(features.mean(1, keepdim=True)) * result + 0.5
        return (F.pixel_shuffle(result, 2),)


def mode_of_shuffle(module: nn.Module, colours: int, path: Path) -> bytes:
    """The exported shuffle's order of channels, after a check that the graph computes what PyTorch does."""
    import onnx

    ports = (Port("image", (1, 3, 8, 8), (0.0, 1.0)),), (Port("out", (1, colours, 16, 16), (0.0, 1.0)),)
    export_onnx(Deployable(module.eval(), "h", "H", "1", *ports), path)
    image = torch.rand(1, 3, 8, 8)
    (got,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, module(image)[0].numpy(), atol=1e-6)
    (shuffle,) = [node for node in onnx.load(path).graph.node if node.op_type == "DepthToSpace"]
    return next(bytes(a.s) for a in shuffle.attribute if a.name == "mode")


@pytest.mark.parametrize("colours", [1, 3])
def test_any_number_of_colours(colours: int, tmp_path: Path) -> None:
    assert mode_of_shuffle(Head(colours), colours, tmp_path / "h.onnx") == b"DCR"


@pytest.mark.parametrize("groups", [2, 4])
def test_a_convolution_in_groups_before_a_shuffle_is_left_alone(groups: int, tmp_path: Path) -> None:
    assert mode_of_shuffle(Head(4, groups), 4, tmp_path / "h.onnx") == b"CRD"


@pytest.mark.parametrize("mask", ["convolution", "mean"])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_mask_of_one_channel_keeps_its_place(mask: str, colours: int, tmp_path: Path) -> None:
    assert mode_of_shuffle(Head(colours, mask=mask), colours, tmp_path / "h.onnx") == b"DCR"


@pytest.mark.parametrize("axes", [[1], [2, 3]])
@pytest.mark.parametrize(("kind", "power"), [("ReduceL1", 1), ("ReduceL2", 2)])
def test_norms_are_spelled_out_with_their_own_values(kind: str, power: int, axes: list[int]) -> None:
    from onnx import TensorProto, checker, helper, numpy_helper

    features = np.random.default_rng(0).normal(0.0, 2.0, (1, 4, 3, 5)).astype(np.float32)
    wanted = (np.abs(features.astype(np.float64)) ** power).sum(tuple(axes), keepdims=True) ** (1 / power)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in (("x", features), ("y", wanted))
    ]
    nodes = [
        helper.make_node(kind, ["x", "axes"], ["norm"], name="norm", keepdims=1),
        helper.make_node("Identity", ["norm"], ["y"], name="last"),
    ]
    constants = [numpy_helper.from_array(np.array(axes, np.int64), "axes")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    spell_out_norms(model)
    checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    spelled = ["Abs", "ReduceSum"] if power == 1 else ["Mul", "ReduceSum", "Sqrt"]
    assert kinds == [*spelled, "Identity"]
    (got,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": features})
    assert np.abs(got - wanted).max() < 1e-5 * wanted.max()
