"""The PSNR that a device must reach when it runs a TFLite file on the golden input."""

from __future__ import annotations

from pathlib import Path

import torch

from afterlens.conversion.bundle.difference import difference
from afterlens.conversion.bundle.layout import from_torch
from afterlens.conversion.bundle.runtimes import TfliteModel
from afterlens.conversion.tflite.onnx2tf import Reference
from afterlens.training.deployable import Deployable

MARGIN = 3.0  # dB: processors round differently, a broken runtime loses far more
HIGHEST = 45.0  # dB: a GPU that computes in float16 reaches it, and so does a golden output rounded to 8 bits


def self_test_floor(path: Path, deployable: Deployable, golden: Reference) -> float:
    """dB below what LiteRT reaches here on the golden input, for the worst output.

    Raises UserError where LiteRT cannot run the file.
    """
    inputs = {
        port.name: from_torch(port, torch.from_numpy(golden.inputs[port.name])) for port in deployable.inputs
    }
    outputs = TfliteModel(path).run(inputs)
    reached = min(
        difference(
            port, outputs[port.name], from_torch(port, torch.from_numpy(golden.outputs[port.name]))
        ).psnr
        for port in deployable.outputs
    )
    return round(min(reached - MARGIN, HIGHEST), 2)
