"""Runs one TFLite file once, in an environment that has only NumPy and LiteRT: nothing of ours is imported here.

    python run_file.py model.tflite inputs.npz outputs.npz cpu      by XNNPACK
    python run_file.py model.tflite inputs.npz outputs.npz gpu      by CompiledModel, on the GPU and nowhere else

Both .npz files hold float32 arrays by the names of the signature, with their batch dimension. Stdout is one JSON
document; what LiteRT says of the processor that it chose is on stderr.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = "serving_default"  # of every TFLite file
PATIENCE = 19  # seconds; LiteRT waits 20 for a GPU, and then only says that it failed
Values = dict[str, NDArray[np.float32]]


def main() -> None:
    """The commands above."""
    model, inputs, outputs, processor = sys.argv[1:]
    said: dict[str, Any] = {
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "machine": platform.machine(),
    }
    with np.load(inputs) as given:
        try:
            found = {"cpu": on_cpu, "gpu": on_gpu}[processor](Path(model), dict(given))
        except TimeoutError:
            said["late"] = True
        except (RuntimeError, ValueError) as error:  # how LiteRT refuses a file
            said["refused"] = " ".join(str(error).split()) or type(error).__name__
        else:
            np.savez(outputs, **found)
    print(json.dumps(said))


def on_cpu(path: Path, inputs: Values) -> Values:
    """Outputs by name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    outputs: Values = interpreter.get_signature_runner(SIGNATURE)(**inputs)
    return outputs


def on_gpu(path: Path, inputs: Values) -> Values:
    """Outputs by name. Raises RuntimeError where not every operator runs on the GPU, TimeoutError where it is too slow."""
    from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator

    model = CompiledModel.from_file(str(path), hardware_accel=HardwareAccelerator.GPU)
    if not model.is_fully_accelerated():
        raise RuntimeError("only a part of the graph runs on the GPU")
    shapes = {name: one["shape"] for name, one in model.get_output_tensor_details(SIGNATURE).items()}
    given = {name: model.create_input_buffer_by_name(SIGNATURE, name) for name in inputs}
    made = {name: model.create_output_buffer_by_name(SIGNATURE, name) for name in shapes}
    for name, value in inputs.items():
        given[name].write(np.ascontiguousarray(value).ravel())
    model.run_by_name(SIGNATURE, given, made)
    begin = time.monotonic()
    try:
        return {
            name: np.asarray(made[name].read(int(np.prod(shape)), np.float32)).reshape(shape)
            for name, shape in shapes.items()
        }
    except RuntimeError as error:
        if time.monotonic() - begin < PATIENCE:
            raise
        raise TimeoutError from error


if __name__ == "__main__":
    main()
