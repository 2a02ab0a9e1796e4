"""PyTorch -> ONNX, for onnx2tf and ONNX Runtime.

export_onnx(deployable, Path("work/reflection.onnx"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import ExportedProgram

from afterlens.conversion.capture import first_line, operator_of, place_of, quiet
from afterlens.conversion.lower import lower
from afterlens.conversion.tflite.onnx_rewrite import name_ports, reorder_shuffles, spell_out_norms
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

_PORT = "afterlens_port_"


def export_onnx(deployable: Deployable, path: Path, optimize: bool = True) -> None:
    """Write the graph to `path`, inputs and outputs named as the ports, float32 (N, C, H, W).

    Args:
        deployable: the network.
        path: of the .onnx file.
        optimize: fold constants and drop what does nothing, a third of the time. ONNX Runtime does so by itself.

    Raises UserError where the graph cannot be exported or the export does not have the ports.
    """
    import onnx

    sides = (deployable.inputs, deployable.outputs)
    program = lower(deployable, for_onnx=True)
    try:
        with quiet(), _all_constants_kept():
            torch.onnx.export(
                program,
                f=path,
                dynamo=True,
                verbose=False,
                optimize=optimize,
                external_data=False,
                # The exporter calls its own values "add" or "conv2d", as ports may be called too.
                input_names=[f"{_PORT}{port.name}" for port in deployable.inputs],
                output_names=[f"{_PORT}{port.name}" for port in deployable.outputs],
            )
        model = onnx.load(path)
        name_ports(model, {f"{_PORT}{port.name}": port.name for side in sides for port in side})
        spell_out_norms(model)
        reorder_shuffles(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
    except (RuntimeError, ValueError, onnx.checker.ValidationError, torch.onnx.OnnxExporterError) as error:
        raise UserError(
            f"{deployable.task}: the graph cannot be exported to ONNX ({_reason(program, error)})"
        ) from error
    for written, ports in zip((model.graph.input, model.graph.output), sides, strict=True):
        got = [(v.name, tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in written]
        expected = [(port.name, port.shape) for port in ports]
        if got != expected:
            raise UserError(f"{deployable.task}: the ONNX export has {got}, expected {expected}")


def _reason(program: ExportedProgram, error: BaseException) -> str:
    """What the exporter says: of an operator that it fails on, which and where; else the first line of its first cause."""
    while error.__cause__ is not None:
        named = re.search(r"translating node %(\w+)", str(error))
        node = next((n for n in program.graph.nodes if named and n.name == named[1]), None)
        if node is not None:
            return _lacking(operator_of(node), place_of(node))
        error = error.__cause__
    assert isinstance(error, Exception)
    # An operator that the exporter has taken apart, in words of PyTorch's own: "aten.linalg_cholesky_ex".
    part = re.search(r"No ONNX function found for <OpOverload\(op='\w+\.(\w+)", str(error))
    return first_line(error) if part is None else _lacking(*_origin(program, part[1]))


def _lacking(operator: str, place: str) -> str:
    return f"it has no operator for {operator} in {place}; write it with others, or convert to Core ML alone (--variants)"


def _origin(program: ExportedProgram, part: str) -> tuple[str, str]:
    """The operator that ``part`` is a part of, and where it is; of an unknown one, that it is in the network."""
    for node in program.run_decompositions().graph.nodes:
        if operator_of(node) == part:
            return part.strip("_"), place_of(node)
    plain = part.replace("_", "")
    for (
        node
    ) in program.graph.nodes:  # taken apart under another name: "erfinv" is "erf_inv", "i0" is "bessel_i0"
        name = operator_of(node).replace("_", "")
        if node.op == "call_function" and (plain.endswith(name) or name.endswith(plain)):
            return operator_of(node), place_of(node)
    return part.strip("_"), "the network"


@contextmanager
def _all_constants_kept() -> Iterator[None]:
    """Take from the exporter's optimizer the rules that drop ``x + 0`` and ``x * 1``.

    They take every constant within 1e-8 of 0 or 1e-5 of 1 for it: without the 1e-8 of ``x / (sum + 1e-8)``, black
    becomes NaN. onnxsim, which compares exactly, drops what is really no operation.
    """
    from onnxscript import rewriter
    from onnxscript.rewriter.rules.common import _no_op

    rules = rewriter._DEFAULT_REWRITE_RULES
    dropping = {id(rule) for rule in _no_op.rules}
    rewriter._DEFAULT_REWRITE_RULES = tuple(rule for rule in rules if id(rule) not in dropping)
    try:
        yield
    finally:
        rewriter._DEFAULT_REWRITE_RULES = rules
