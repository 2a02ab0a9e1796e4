"""Reads a package's one function into the steps that the executor takes, and checks every name, type and parameter.

What this executor cannot run is refused here, with one line, before anything is computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.mil.features import FeatureSpec, read_feature
from afterlens.conversion.mil.ops import OPERATORS, TUPLE_PARAMETERS
from afterlens.conversion.mil.package import Package, TensorType
from afterlens.training.media.errors import UserError


@dataclass(frozen=True)
class OperatorInfo:
    """One operator to count and to lint: type, name (of its first output), and each output's name and type."""

    op_type: str
    name: str
    outputs: tuple[tuple[str, TensorType], ...]


@dataclass(frozen=True)
class Step:
    """One operator with where each parameter comes from: a name, several names, or a value that the package holds."""

    info: OperatorInfo
    arguments: dict[str, str | tuple[str, ...] | Constant]
    last_uses: tuple[str, ...]  # values that no later step reads


@dataclass(frozen=True)
class Constant:
    """A parameter whose value the package holds: an array, a text or a list."""

    value: Any


@dataclass(frozen=True)
class Program:
    """What a package computes: its ports, its operators in the order of execution and its constants."""

    path: Path
    inputs: list[FeatureSpec]
    outputs: list[FeatureSpec]
    input_types: dict[str, TensorType]
    steps: list[Step]
    constants: dict[str, Any]


def read_program(package: Package) -> Program:
    """The default function of a package; UserError for anything that cannot be executed."""
    model = package.model
    description = model.description
    name = description.defaultFunctionName or "main"
    for candidate in description.functions:
        if candidate.name == name:
            description = candidate
    if name not in model.mlProgram.functions:
        raise package.fault(f"there is no function {name!r}")
    function = model.mlProgram.functions[name]
    if function.opset not in function.block_specializations:
        raise package.fault(f"function {name!r} has no body for its operator set {function.opset!r}")
    block = function.block_specializations[function.opset]

    types = {value.name: package.tensor_type(value.type) for value in function.inputs}
    if len(types) != len(function.inputs):
        raise package.fault("two inputs have the same name")
    input_types = dict(types)
    constants: dict[str, Any] = {}
    steps: list[Step] = []
    for operation in block.operations:
        step = _read_operation(package, operation, types, constants)
        if step is not None:
            steps.append(step)
    undefined = [output for output in block.outputs if output not in types]
    if undefined:
        raise package.fault(f"the outputs {undefined} are never computed")
    steps = _with_last_uses(steps, block.outputs, constants)

    inputs = [read_feature(package, feature, types) for feature in description.input]
    outputs = [read_feature(package, feature, types) for feature in description.output]
    if {spec.name for spec in inputs} != set(input_types):
        raise package.fault("the description and the program have different inputs")
    if {spec.name for spec in outputs} != set(block.outputs):
        raise package.fault("the description and the program have different outputs")
    return Program(package.path, inputs, outputs, input_types, steps, constants)


def _read_operation(
    package: Package, operation: Any, types: dict[str, TensorType], constants: dict[str, Any]
) -> Step | None:
    """Checks one operation and adds its outputs to `types`; a `const` goes to `constants` and is no step."""
    outputs = tuple((output.name, output.type) for output in operation.outputs)
    label = (
        f"operator {outputs[0][0]!r} ({operation.type!r})" if outputs else f"an operator {operation.type!r}"
    )
    if operation.type == "const":
        if len(outputs) != 1 or "val" not in operation.attributes:
            raise package.fault(f"{label} is not a constant of one value")
        _define(package, outputs[0][0], types, constants)
        constants[outputs[0][0]] = package.value(operation.attributes["val"])
        if outputs[0][1].WhichOneof("type") == "tensorType":
            declared = package.tensor_type(outputs[0][1])
            if not declared.accepts(np.shape(constants[outputs[0][0]])):
                raise package.fault(f"{label} holds another shape than its declared {declared}")
            types[outputs[0][0]] = declared
        return None
    if operation.type not in OPERATORS:
        raise UserError(
            f"{package.path}: {label} is not supported by this executor; it would have to be skipped, so nothing is run"
        )
    arguments: dict[str, str | tuple[str, ...] | Constant] = {}
    # Compressed weights carry their data as attributes up to iOS 17, everything else as inputs.
    for parameter, attribute in operation.attributes.items():
        if operation.type.startswith("constexpr_") and parameter != "name":
            arguments[parameter] = Constant(package.value(attribute))
    for parameter, argument in operation.inputs.items():
        arguments[parameter] = _read_argument(package, label, parameter, argument.arguments, types, constants)
    try:
        inspect.signature(OPERATORS[operation.type]).bind(**arguments)
    except TypeError as error:
        raise package.fault(f"{label}: {error}") from None
    declared_outputs = tuple((name, package.tensor_type(value_type)) for name, value_type in outputs)
    if not outputs:
        raise package.fault(f"{label} has no output")
    for name, declared in declared_outputs:
        _define(package, name, types, constants)
        types[name] = declared
    return Step(OperatorInfo(operation.type, outputs[0][0], declared_outputs), arguments, ())


def _read_argument(
    package: Package,
    label: str,
    parameter: str,
    bindings: Sequence[Any],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Any],
) -> str | tuple[str, ...] | Constant:
    literal = [binding.WhichOneof("binding") == "value" for binding in bindings]
    if not bindings or any(literal) != all(literal):
        raise package.fault(f"{label} has a parameter {parameter!r} of mixed or no values")
    if all(literal):
        values = [package.value(binding.value) for binding in bindings]
        return Constant(values if parameter in TUPLE_PARAMETERS else values[0])
    names = tuple(binding.name for binding in bindings)
    undefined = [name for name in names if name not in types and name not in constants]
    if undefined:
        raise package.fault(f"{label} reads {undefined}, not computed before it")
    if parameter not in TUPLE_PARAMETERS and len(names) != 1:
        raise package.fault(f"{label} has {len(names)} values for its parameter {parameter!r}")
    return names if parameter in TUPLE_PARAMETERS else names[0]


def _define(
    package: Package, name: str, types: Mapping[str, TensorType], constants: Mapping[str, Any]
) -> None:
    if not name or name in types or name in constants:
        raise package.fault(f"the name {name!r} is given to two values")


def read_by(step: Step) -> set[str]:
    """Names of the values that a step reads."""
    sources = [source for source in step.arguments.values() if not isinstance(source, Constant)]
    return {name for source in sources for name in ((source,) if isinstance(source, str) else source)}


def _with_last_uses(steps: list[Step], outputs: Sequence[str], constants: Mapping[str, Any]) -> list[Step]:
    """Marks after which step each value can be freed: feature maps at 1280x720 would not all fit in memory."""
    keep = {*outputs, *constants}
    reversed_steps = []
    for step in reversed(steps):
        names = read_by(step) | {name for name, _ in step.info.outputs}
        reversed_steps.append(Step(step.info, step.arguments, tuple(sorted(names - keep))))
        keep |= names
    return reversed_steps[::-1]
