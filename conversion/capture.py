"""Captures a network's Python as a graph of PyTorch operators, which both converters start from.

program = capture(module, deployable)
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.export import ExportedProgram

from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError


def capture(module: nn.Module, deployable: Deployable) -> ExportedProgram:
    """`torch.export` of a module with the deployable's inputs; every shape is a constant.

    A TorchScript trace would keep arithmetic on shapes, for instance of paddings, as operators in the graph.

    Raises UserError where the module's Python cannot be captured.
    """
    samples = tuple(torch.zeros(port.shape) for port in deployable.inputs)
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(module, samples)
    except Exception as error:  # the capture raises nearly anything, and wraps what the module raises
        raise UserError(f"{deployable.task}: the graph cannot be captured ({first_line(error)})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' prints, warnings and log lines; failures are raised."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torch.onnx", "torch.export", "coremltools"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
