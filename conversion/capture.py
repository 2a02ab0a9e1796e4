"""Captures a network's Python as a graph of PyTorch operators, which both converters start from.

program = capture(module, deployable)
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    disabled = logging.root.manager.disable
    try:
        # What fails is told in one line; the capture would print its whole graph.
        logging.disable(logging.CRITICAL)
        with quiet(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
            return torch.export.export(module, samples)
    except Exception as error:  # the capture raises nearly anything, and wraps what the module raises
        raise UserError(f"{deployable.task}: the graph cannot be captured ({_reason(error)})") from error
    finally:
        logging.disable(disabled)


def _reason(error: Exception) -> str:
    """One line: where the network's Python decides by the values of a tensor, that it does; else the first line."""
    text = str(error)
    if "data-dependent" not in text:
        return first_line(error)
    own = [
        f" in {Path(file).name}, line {line}"
        for file, line in re.findall(r'File "([^"]+)", line (\d+)', text)
        if not {"torch", "afterlens", "conversion"} & set(Path(file).parts)
    ]
    return (
        f"its Python decides by the values of a tensor{own[-1] if own else ''}, which a file cannot do: "
        "use torch.where, and compute both"
    )


def operator_of(node: torch.fx.Node) -> str:
    """What PyTorch calls the operator of a captured node: "fft_rfft2"."""
    return str(node.target).removeprefix("aten.").partition(".")[0]


def place_of(node: torch.fx.Node) -> str:
    """Where in the network a captured node comes from: "layer body.0 (Block), network.py, line 12"."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    layer, kind = stack[-1] if stack else ("", "")
    return place(
        f"{layer}.".removeprefix("module.").rstrip("."),
        kind if isinstance(kind, str) else kind.__name__,
        node.meta.get("stack_trace") or "",
    )


def place(layer: str, kind: str, stack_trace: str) -> str:
    """A layer, its class (both "" for the network itself), and the network's own line in a stack trace."""
    parts = [f"layer {layer} ({kind.rpartition('.')[2]})"] if layer else []
    lines = re.findall(r'File "([^"]+)", line (\d+)', stack_trace)
    # "<eval_with_key>": what the capture itself writes.
    own = [(file, line) for file, line in lines if "torch" not in Path(file).parts and file[0] != "<"]
    if own:
        parts.append(f"{Path(own[-1][0]).name}, line {own[-1][1]}")
    return "; ".join(parts) or "the network's forward"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' prints, warnings and log lines; failures are raised."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torch.onnx", "torch.export", "torch.fx", "coremltools"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
