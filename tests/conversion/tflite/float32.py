"""What onnx2tf's float32 file of a network of one input and one output computes, by LiteRT."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.conversion.tflite.onnx2tf import Onnx2tf
from afterlens.conversion.tflite.onnx_export import export_onnx
from afterlens.training.deployable import Deployable, Port


def _accept(path: Path, /, *, graph: Path | None) -> None:
    """A check that every file passes."""


def run_float32(
    network: nn.Module, picture: Tensor, shape: tuple[int, ...], folder: Path
) -> NDArray[np.float32]:
    """The result (N, C, H, W), of ``shape``, of ``network(picture)``, which returns a tuple of one tensor."""
    sizes = {"image": tuple(picture.shape), "result": shape}
    ports = [(Port(name, size, (-9.0, 9.0)),) for name, size in sizes.items()]
    export_onnx(Deployable(network.eval(), "net", "Net", "1", *ports), folder / "graph.onnx")
    with Onnx2tf(folder / "graph.onnx", folder / "work") as tool:
        interpreter = Interpreter(str(tool.finish(_accept)["float32"]))
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], picture.permute(0, 2, 3, 1).numpy().copy())
    interpreter.invoke()
    result: NDArray[np.float32] = interpreter.get_tensor(made["index"]).transpose(0, 3, 1, 2)
    return result
