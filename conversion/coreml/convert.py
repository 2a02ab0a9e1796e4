"""PyTorch -> coremltools -> Core ML program package (`.mlpackage`), float16, pictures in and pictures out.

    convert_coreml(deployable, Path("reflection_256x256_float16.mlpackage"))

The app passes and receives 8-bit RGB pictures. The graph itself scales them to [0, 1] and back.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import traceback
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.export import ExportedProgram

from afterlens.conversion.bundle.layout import Reference, from_torch
from afterlens.conversion.bundle.reference import compute, with_float16_weights
from afterlens.conversion.bundle.runtimes import CoremlModel
from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.capture import operator_of, place_of, quiet
from afterlens.conversion.lower import lower
from afterlens.conversion.mil.package import read_package
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError

_SYSTEMS = {  # by a package's specification version, Model.proto
    6: "iOS 15, macOS 12",
    7: "iOS 16, macOS 13",
    8: "iOS 17, macOS 14",
    9: "iOS 18, macOS 15",
}


class _Pictures(nn.Module):
    """A module with inputs and outputs in [0, 255], the range of 8-bit pictures.

    coremltools could scale the input by itself, but with a float32 operator before the float16 graph, which the Neural
    Engine does not run. It has no such option for outputs.
    """

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.module = deployable.module
        self.image_inputs = [port.kind == "image" for port in deployable.inputs]
        self.image_outputs = [port.kind == "image" for port in deployable.outputs]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(inputs, self.image_inputs, strict=True)
        outputs = self.module(*(value * (1.0 / 255.0) if is_image else value for value, is_image in pairs))
        pairs = zip(outputs, self.image_outputs, strict=True)
        return tuple(value * 255.0 if is_image else value for value, is_image in pairs)


def convert_coreml(deployable: Deployable, path: Path) -> None:
    """Write the package to `path`; the same graph and weights give the same bytes.

    Ports must be (1, 3, H, W), RGB, [0, 1]; the graph itself clips its outputs to that range. Raises UserError where
    coremltools fails.
    """
    for port in (*deployable.inputs, *deployable.outputs):
        if port.kind == "image" and (port.shape[:2] != (1, 3) or port.range != (0.0, 1.0)):
            raise ValueError(f"port {port.name}: expected RGB in [0, 1], got {port.shape} in {port.range}")
        if port.name in _RESERVED:
            raise UserError(
                f"{deployable.task}: Core ML reserves the word {port.name!r}, give the port another name"
            )
    program = lower(deployable, _Pictures(deployable).eval())
    # coremltools draws progress bars over ours and warns about every torch version newer than it was tested with.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        ct = _coremltools()
        rgb = ct.colorlayout.RGB

        def of(port: Port, shape: tuple[int, ...] | None) -> Any:
            if port.kind == "image":
                return ct.ImageType(port.name, shape, color_layout=rgb)
            # Apps have float32 arrays; without a type, the package would ask for float16.
            return ct.TensorType(port.name, shape, dtype=np.float32)

        try:
            program = _in_known_operators(program)
            model = ct.convert(
                program,
                inputs=[of(port, port.shape) for port in deployable.inputs],
                outputs=[of(port, None) for port in deployable.outputs],
                convert_to="mlprogram",
                # ML Programs exist since iOS 15. iOS 16 still covers every iPhone since the iPhone 8, and later
                # targets add no operator that we need.
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT16,
                skip_model_load=True,  # loading needs a Mac
            )
            model.short_description, model.version = deployable.title, deployable.version
            # The date would make two conversions differ.
            del model.user_defined_metadata["com.github.apple.coremltools.conversion_date"]
            for port in deployable.inputs:
                model.input_description[port.name] = port.meaning
            for port in deployable.outputs:
                model.output_description[port.name] = port.meaning
            model.save(str(path))
            _fix_identifiers(path)
            # Names for ExecuTorch's profiler, a tenth of the package; its manifest does not list them.
            (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
        except Exception as error:  # coremltools raises nearly anything on a graph it does not know
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(
                f"{deployable.task}: coremltools cannot convert it ({reason}){_place(program, error, reason)}"
            ) from error


def _in_known_operators(program: ExportedProgram) -> ExportedProgram:
    """The program with operators that coremltools does not know written in others, as far as PyTorch knows how."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    table = core_aten_decompositions()
    program = program.run_decompositions({})
    for _ in range(_DECOMPOSED_AT_MOST):
        called = {node.target for node in program.graph.nodes if node.op == "call_function"}
        unknown = {
            target
            for target in called & table.keys()
            if sanitize_op_kind(target.name()) not in _TORCH_OPS_REGISTRY
        }
        if not unknown:
            break
        program = program.run_decompositions({target: table[target] for target in unknown})
    for node in program.graph.nodes:
        # coremltools reads the type of a number, not the one that is asked for.
        if node.target in _NUMBERS and node.meta["val"].is_floating_point():
            place, value = _NUMBERS[node.target], node.args[_NUMBERS[node.target]]
            node.update_arg(place, float(value) if type(value) is int else value)
    return program


_NUMBERS = {
    torch.ops.aten.scalar_tensor.default: 0,
    torch.ops.aten.full.default: 1,
    torch.ops.aten.where.ScalarSelf: 1,
    torch.ops.aten.where.ScalarOther: 2,
}
"""Operators that make a tensor of a number, and where they take it."""


_DECOMPOSED_AT_MOST = 4
"""Times: what an operator is written in may be unknown too."""


def _place(program: ExportedProgram, error: Exception, reason: str) -> str:
    """Where the operator comes from that coremltools failed on, and what to do."""
    known = {node.name: node for node in program.graph.nodes if node.op == "call_function"}
    name = _converted_at(error)
    if name not in known:
        words = set(re.findall(r"\w+", reason))
        named = (n.name for n in known.values() if words & {n.name, operator_of(n)} - _COMMON_WORDS)
        name = next(named, None)
    node = known.get(name or "")
    return "" if node is None else f": {operator_of(node)} in {place_of(node)}; write it with other operators"


def _converted_at(error: Exception) -> str | None:
    """The node that coremltools was at, which its messages often do not tell."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        name = getattr(frame.f_locals.get("node"), "name", None)
        if frame.f_code.co_name == "convert_single_node" and isinstance(name, str):
            return name
    return None


_COMMON_WORDS = {
    "to",
    "type",
    "mode",
    "pad",
    "is",
    "in",
    "where",
    "and",
    "or",
    "not",
    "index",
    "convert",
    "expand",
    "size",
}
"""Names of operators that any sentence may hold."""


_RESERVED = {
    *(
        "any",
        "bool",
        "program",
        "func",
        "tensor",
        "list",
        "dict",
        "tuple",
        "true",
        "false",
        "string",
        "state",
    ),
    *(
        "bf16",
        "fp16",
        "fp32",
        "fp64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ),
}
"""Words of Core ML's language, which cannot be names of inputs or outputs there."""


def prove_package(path: Path, deployable: Deployable, reference: Reference) -> None:
    """Run a float16 package on the golden picture, in float32, and compare it with PyTorch.

    Raises UserError where they differ by more than twice what the gate of its variant allows: coremltools translates some
    operators wrongly and says nothing, and such a fault is far larger. Scalars that PyTorch's float16 weights do not
    round can cost a little more than the gate; `verify` holds every file to the gate itself. All smaller packages are
    made from this one.
    """
    inputs = {p.name: from_torch(p, torch.from_numpy(reference.inputs[p.name])) for p in deployable.inputs}
    expected = compute(with_float16_weights(deployable), inputs)
    got = CoremlModel(path).run(inputs, eight_bit=False, round_storage=False)
    stored = gate("coreml", "float16").max_stored_error
    assert stored is not None
    limit = 2.0 * stored
    for port in deployable.outputs:
        error = float(np.abs(got[port.name] - expected[port.name]).max()) / (port.range[1] - port.range[0])
        if not error <= limit:  # NaN too
            raise UserError(
                f"{path.name}: output {port.name!r} differs by {error:.3g} from what PyTorch computes with float16 "
                f"weights, at most {limit:g} is allowed: {_suspect(deployable)}"
            )


def _suspect(deployable: Deployable) -> str:
    """What may be wrong with a package: a number that float16 does not have, a jump, or else the translation."""
    program = lower(deployable)
    for name, weight in program.state_dict.items():
        value = weight.detach()
        if (
            value.is_floating_point()
            and value.numel()
            and (largest := float(value.abs().max())) > LARGEST_FLOAT16
        ):
            return (
                f"{largest:.6g} in {name.removeprefix('module.')} is beyond {LARGEST_FLOAT16:g}, where float16 ends; "
                "scale it down, and what follows up"
            )
    jumps = ""
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        where = f"({operator_of(node)}, {place_of(node)})"
        jumps = jumps or (where if operator_of(node) in _JUMPS else "")
        for place, value in enumerate(node.args):
            if type(value) not in (int, float) or operator_of(node) not in _ARITHMETIC:
                continue
            # Both converters multiply by the reciprocal of a divisor.
            inverse = place == 1 and operator_of(node) == "div" and value != 0
            stored = abs(1 / value if inverse else value)
            if 0 < stored < SMALLEST_FLOAT16:
                number = f"{'1 / ' if inverse else ''}{value:g} {where}"
                return (
                    f"{number} becomes {SMALLEST_FLOAT16:.2g}, the smallest number of float16; take a "
                    f"{'smaller divisor' if inverse else 'larger one'}"
                )
            if stored > LARGEST_FLOAT16:
                return (
                    f"{value:g} {where} is beyond {LARGEST_FLOAT16:g}, where float16 ends; take a smaller one"
                )
    if jumps:
        return f"a rounding is enough where the network jumps {jumps}; or coremltools translated an operator wrongly"
    return "coremltools translated an operator wrongly"


_ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "pow", "clamp", "clamp_min", "maximum", "minimum"}
_JUMPS = frozenset(
    "floor ceil round trunc frac sign floor_divide remainder fmod argmax argmin argsort _to_copy to gt lt ge le eq "
    "ne".split()
)
"""Operators whose result changes at once where their input hardly does."""

SMALLEST_FLOAT16 = 2.0**-24
LARGEST_FLOAT16 = 65504.0


def _fix_identifiers(path: Path) -> None:
    """Replace the manifest's random identifiers, all that differs between two conversions, by fixed ones."""
    manifest = json.loads((path / "Manifest.json").read_text("utf-8"))
    entries = manifest["itemInfoEntries"]
    fixed = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper() for old, entry in entries.items()
    }
    manifest["itemInfoEntries"] = {fixed[old]: entry for old, entry in entries.items()}
    manifest["rootModelIdentifier"] = fixed[manifest["rootModelIdentifier"]]
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", "utf-8")


def minimum_coreml(path: Path) -> str:
    """The oldest systems that run a package, by the specification version that it declares."""
    version = read_package(path).model.specificationVersion
    if version not in _SYSTEMS:
        raise UserError(f"{path.name}: specification version {version}, expected one of {sorted(_SYSTEMS)}")
    return _SYSTEMS[version]


def _coremltools() -> Any:
    """Import coremltools without TensorFlow, which it imports for a converter that we do not use (3 s)."""
    absent = "tensorflow" not in sys.modules
    if absent:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # makes `import tensorflow` fail
    try:
        import coremltools
    finally:
        if absent:
            del sys.modules["tensorflow"]
    return coremltools
