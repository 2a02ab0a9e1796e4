"""The operator of an ONNX graph that a TFLite file computes wrongly is found by its values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from afterlens.conversion.bundle.layout import Reference
from afterlens.conversion.tflite.blame import first_wrong
from afterlens.conversion.tflite.onnx2tf import finish_tflite
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from tests.conversion.tflite.files import File, conv_options

RANDOM = np.random.default_rng(7)
W = RANDOM.standard_normal((4, 3, 1, 1)).astype(np.float32)
V = RANDOM.standard_normal((3, 4, 1, 1)).astype(np.float32)


def graph(path: Path) -> Path:
    """A convolution, its activation, a bilinear resize, a convolution; PyTorch's half-pixel centres."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["deep"], name="first"),
        helper.make_node("Relu", ["deep"], ["active"], name="activation"),
        helper.make_node("Resize", ["active", "", "scales"], ["large"], name="resize", mode="linear"),
        helper.make_node("Conv", ["large", "v"], ["out"], name="last"),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 3, 5, 5]), ("out", [1, 3, 10, 10]))
    ]
    constants = {"w": W, "v": V, "scales": np.array([1, 1, 2, 2], np.float32)}
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], stored),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, path)
    return path


def converted(path: Path, half_pixels: bool = True, first: float = 1.0, last: float = 1.0) -> Path:
    """The same in TFLite, its activation fused; or with something wrong."""
    file = File()
    image = file.tensor((1, 5, 5, 3))
    file.graph.tensors[image].name = b"image"
    w, v = (
        file.tensor((len(value), 1, 1, value.shape[1]), data=factor * value)
        for value, factor in ((W, first), (V, last))
    )
    size = file.tensor((2,), np.int32, np.array([10, 10]))
    active, large, out = (file.tensor(shape) for shape in ((1, 5, 5, 4), (1, 10, 10, 4), (1, 10, 10, 3)))
    fused = conv_options()
    fused.fusedActivationFunction = schema.ActivationFunctionType.RELU
    zeros = [file.tensor((n,), data=np.zeros(n)) for n in (4, 3)]
    options = schema.ResizeBilinearOptionsT()
    options.halfPixelCenters = half_pixels
    file.operator("CONV_2D", [image, w, zeros[0]], [active], fused)
    file.operator("RESIZE_BILINEAR", [active, size], [large], options)
    file.operator("CONV_2D", [large, v, zeros[1]], [out], conv_options())
    return file.write(path, [image], [out])


@pytest.mark.parametrize(
    ("fault", "blamed"),
    [
        ({}, None),
        ({"half_pixels": False}, "resize"),
        ({"last": 1.01}, "last"),
        ({"first": 1.01}, "first"),
        # A thousandth of the largest value is what two runtimes may differ by.
        ({"first": 1.0012}, "first"),
        ({"first": 1.0008}, None),
    ],
)
def test_the_first_operator_without_its_result_in_the_file_is_to_blame(
    fault: dict[str, float], blamed: str | None, tmp_path: Path
) -> None:
    image = RANDOM.random((1, 3, 5, 5)).astype(np.float32)
    path = converted(tmp_path / "file.tflite", **fault)  # type: ignore[arg-type]
    assert first_wrong(graph(tmp_path / "graph.onnx"), path, {"image": image}) == blamed


def test_a_refusal_names_the_operator(tmp_path: Path) -> None:
    ports = (Port("image", (1, 3, 5, 5), (0.0, 1.0)),), (Port("out", (1, 3, 10, 10), (-9.0, 9.0)),)
    image = RANDOM.random((1, 3, 5, 5)).astype(np.float32)
    wrong = Reference({"image": image}, {"out": np.full((1, 3, 10, 10), 9, np.float32)})
    with pytest.raises(
        UserError, match=r"translated operator Resize \(the network's forward\) wrongly; write it with other"
    ):
        finish_tflite(
            converted(tmp_path / "wrong.tflite", half_pixels=False),
            tmp_path / "file.tflite",
            Deployable(nn.Identity(), "t", "T", "1", *ports),
            wrong,
            "float32",
            graph(tmp_path / "graph.onnx"),
        )
