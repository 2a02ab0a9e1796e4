"""One graph in one runtime, ready to run: what is timed, in the same way for every runtime.

    runner = open_graph(Graph("tflite", Path("reflection_256x256_float32.tflite"), ...))
    runner.feed(image)              # (1, 3, H, W) float32, RGB, [0, 1]; one for each input
    outputs = runner.run()

`feed` converts the inputs to the runtime's own layout. Only `run` is timed, from these arrays to output arrays in
memory, so that no runtime pays for a layout that it does not need. Imports are inside the functions: a process that
measures the memory of one runtime must not load the others.
"""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import SIGNATURE
from afterlens.training.media.errors import UserError

if TYPE_CHECKING:
    from afterlens.training.deployable import Deployable

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Graph:
    """Where a graph comes from. `path` is a .tflite file, an .onnx file, or the checkpoint (PyTorch).

    An external network has no checkpoint: `path` holds its `reference`, `package.module:function`, too.
    """

    runtime: str  # "tflite", "onnxruntime" or "pytorch"
    path: Path
    task: str
    height: int
    width: int
    inputs: tuple[str, ...]  # their names
    output: str  # name of the first one
    threads: int
    reference: str | None = None


@dataclass(frozen=True)
class Runner:
    """A loaded graph. `picture` extracts the first output, `(1, C, H, W)`, from what `run` returned."""

    version: str
    delegate: str | None  # as in schema.json
    feed: Callable[..., None]  # one Pixels for each of the graph's inputs, in their order
    run: Callable[[], Any]
    picture: Callable[[Any], Pixels]


def open_graph(graph: Graph) -> Runner:
    """Load `graph` into its runtime, on the CPU. Raises UserError if the file cannot be loaded."""
    return {"tflite": _open_tflite, "onnxruntime": _open_onnx, "pytorch": _open_torch}[graph.runtime](graph)


def _open_tflite(graph: Graph) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(graph.path), num_threads=graph.threads)
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner(SIGNATURE)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{graph.path}: the TFLite runtime cannot load it ({error})") from error
    held: dict[str, Pixels] = {}

    def feed(*images: Pixels) -> None:
        for name, image in zip(graph.inputs, images, strict=True):
            held[name] = np.ascontiguousarray(image.transpose(0, 2, 3, 1))

    # The runtime applies XNNPACK by itself and is silent when it cannot: look at what the graph really holds.
    parts = sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    return Runner(
        importlib.metadata.version("ai-edge-litert"),
        f"XNNPACK, {parts} partition{'s' if parts > 1 else ''}" if parts else None,
        feed,
        lambda: signature(**held),
        lambda outputs: outputs[graph.output].transpose(0, 3, 1, 2),
    )


def _open_onnx(graph: Graph) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = graph.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph.path), options, providers=["CPUExecutionProvider"])
    held: dict[str, Pixels] = {}
    names = [port.name for port in session.get_outputs()]

    def feed(*images: Pixels) -> None:
        for name, image in zip(graph.inputs, images, strict=True):
            held[name] = np.ascontiguousarray(image)

    return Runner(
        onnxruntime.__version__,
        None,
        feed,
        lambda: session.run(names, held),
        lambda outputs: outputs[names.index(graph.output)],
    )


def _open_torch(graph: Graph) -> Runner:
    import torch

    torch.set_num_threads(graph.threads)
    deployable = _deployable(graph)
    index = [port.name for port in deployable.outputs].index(graph.output)
    held: list[torch.Tensor] = []

    def feed(*images: Pixels) -> None:
        held[:] = [torch.from_numpy(np.ascontiguousarray(image)) for image in images]

    def run() -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            outputs: tuple[torch.Tensor, ...] = deployable.module(*held)
        return outputs

    return Runner(torch.__version__, None, feed, run, lambda outputs: outputs[index].numpy())


def _deployable(graph: Graph) -> "Deployable":
    from afterlens.conversion.external import import_external
    from afterlens.training.tasks import find_task
    from afterlens.training.trained import load_network

    if graph.reference is not None:
        found = {deployable.size: deployable for deployable in import_external(graph.reference)}
        return found[graph.height, graph.width]
    task = find_task(graph.task)
    return task.deployable(load_network(task, graph.path)[0], graph.height, graph.width)
