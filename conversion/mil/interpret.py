"""Executes a saved Core ML package anywhere, operator by operator, with NumPy.

    program = MilProgram.load(Path("reflection.mlpackage"))
    restored = program.run({"image": photo})["restored"]           # (H, W, 3) uint8 in and out for image ports

Every result is checked against the shape that the package declares and rounded to the declared type: float16 values
are stored as float16 (they overflow to infinity at 65520) and computed on in float32.

What agreement with PyTorch proves: that the package on disk, with its graph, weights, compression, input and output
types, computes the network. What it does not prove: how Apple's kernels and the Neural Engine round. A device may
also sum in float16, or keep float32 between operators; `round_storage=False` shows the other end of that range.

A package is untrusted: an operator that this executor does not know, an undefined name or an impossible size is
refused with one line when the package loads, a wrong shape when it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops import OPERATORS, TUPLE_PARAMETERS, to_integer
from afterlens.conversion.mil.package import Package, TensorType, read_package
from afterlens.conversion.mil.spatial import Array
from afterlens.training.media.errors import UserError

OnValue = Callable[[str, str, Array], None]
Override = Callable[[str, str, Array], "Array | None"]

_COLOURS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}  # FeatureTypes.proto, ColorSpace


@dataclass(frozen=True)
class FeatureSpec:
    """An input or output of the model.

    `shape` is the tensor's in the program, (1, 3, H, W) for a colour image, None where it is flexible. `dtype` is what
    `run` exchanges: for an image `uint8` (H, W, 3) in RGB order, (H, W) in grey, whatever order `colour` says
    the program computes in. `ranges` holds, where the shape is flexible, each choice that the package declares: the
    smallest and largest size of every dimension, None for no limit.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    is_image: bool
    colour: str | None
    ranges: tuple[tuple[tuple[int, int | None], ...], ...] = ()

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether the package declares that it takes a tensor of this shape."""
        return not self.ranges or any(
            len(choice) == len(shape)
            and all(
                low <= size and (high is None or size <= high)
                for size, (low, high) in zip(shape, choice, strict=True)
            )
            for choice in self.ranges
        )


@dataclass(frozen=True)
class OperatorInfo:
    """One operator to count and to lint: type, name (of its first output), and each output's name and type."""

    op_type: str
    name: str
    outputs: tuple[tuple[str, TensorType], ...]


@dataclass(frozen=True)
class _Step:
    info: OperatorInfo
    arguments: dict[str, str | tuple[str, ...] | _Constant]
    last_uses: tuple[str, ...]  # values that no later step reads


@dataclass(frozen=True)
class _Constant:
    value: Any


class MilProgram:
    """A loaded program; `run` may be called any number of times."""

    def __init__(
        self,
        path: Path,
        inputs: list[FeatureSpec],
        outputs: list[FeatureSpec],
        input_types: dict[str, TensorType],
        steps: list[_Step],
        constants: dict[str, Any],
    ) -> None:
        self.path = path
        self.inputs = inputs
        self.outputs = outputs
        self._input_types = input_types
        self._steps = steps
        self._constants = constants

    @staticmethod
    def load(path: Path | str) -> MilProgram:
        """Reads and checks a package; raises UserError with one line for anything that cannot be executed."""
        return _load(read_package(Path(path)))

    def operators(self) -> list[OperatorInfo]:
        """The operators in the order of execution; constants (`const`) are left out, compressed weights are not."""
        return [step.info for step in self._steps]

    def constants(self) -> dict[str, Any]:
        """The values of `const` by name: arrays (float16 as float32) that must not be changed, texts, lists."""
        return dict(self._constants)

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        round_storage: bool = True,
        eight_bit: bool = True,
        on_value: OnValue | None = None,
        override: Override | None = None,
        constants: Mapping[str, Array] | None = None,
        known: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Executes the program.

        Args:
            inputs: an array per input. Images are (H, W, 3) RGB or (H, W), 0 to 255, uint8 or float.
            round_storage: round values that the program declares as float16 (off: float32 throughout, outputs too).
            eight_bit: round and clip image outputs to uint8 (off: float32 as computed, also (H, W, 3)).
            on_value: called with (name, operator type, value) for every result, after rounding. float16 values come
                as float32 arrays that hold float16 numbers. The array must not be changed.
            override: called likewise, after `on_value`; an array that it returns takes the value's place.
            constants: arrays that take the place of constants of the program in this run, by name.
            known: all values of an earlier run with the same inputs and options but without `constants`, as `on_value`
                got them: only what depends on `constants` is computed, and shown to the hooks.
        """
        constants = constants or {}
        for name, array in constants.items():
            if name not in self._constants or np.shape(self._constants[name]) != array.shape:
                raise ValueError(f"constants[{name!r}]: the program has no constant of that name and shape")
        changed = set(constants)
        # Overflow to infinity and what follows from it is the behaviour under test, not an accident.
        with np.errstate(all="ignore"):
            values = {**self._constants, **constants, **self._read_inputs(inputs, round_storage)}
            for step in self._steps:
                if known is not None and changed.isdisjoint(_read_by(step)):
                    values |= {name: known[name] for name, _ in step.info.outputs}
                else:
                    self._execute(step, values, round_storage, on_value, override)
                    changed |= {name for name, _ in step.info.outputs}
                for name in step.last_uses:
                    del values[name]
            outputs = {}
            for spec in self.outputs:
                value = values[spec.name]
                if spec.is_image:
                    outputs[spec.name] = _to_image(spec, value, eight_bit)
                else:
                    half = spec.dtype == "float16" and round_storage
                    outputs[spec.name] = value.astype(np.float16) if half else value
            return outputs

    def _execute(
        self,
        step: _Step,
        values: dict[str, Any],
        round_storage: bool,
        on_value: OnValue | None,
        override: Override | None,
    ) -> None:
        """One step: its results go to `values`, past the hooks."""
        results = _evaluate(self.path, step, values, round_storage)
        for (name, declared), result in zip(step.info.outputs, results, strict=True):
            values[name] = result
            if on_value is not None:
                on_value(name, step.info.op_type, result)
            replacement = None if override is None else override(name, step.info.op_type, result)
            if replacement is None:
                continue
            if replacement.shape != result.shape:
                raise ValueError(f"override of {name}: shape {replacement.shape}, not {result.shape}")
            values[name] = _stored(replacement, declared, round_storage)

    def _read_inputs(self, inputs: Mapping[str, Any], round_storage: bool) -> dict[str, Array]:
        """Checks what the caller gives and stores it in the declared types."""
        names = [spec.name for spec in self.inputs]
        if set(inputs) != set(names):
            raise UserError(f"{self.path}: got inputs {sorted(inputs)}, the model takes {sorted(names)}")
        stored = {}
        for spec in self.inputs:
            declared, given = self._input_types[spec.name], np.asarray(inputs[spec.name])
            value = _from_image(spec, given) if spec.is_image else given
            if declared.shape == () and value.size == 1:
                value = value.reshape(())  # Core ML has no arrays of rank 0: scalars travel as (1,)
            fits = declared.accepts(value.shape) and spec.accepts(value.shape)
            if given.dtype.kind not in "fiub" or not fits:
                raise UserError(
                    f"{self.path}: input {spec.name!r} got {given.dtype}{given.shape}, the model takes {_taken(spec)}"
                )
            stored[spec.name] = _stored(value, declared, round_storage)
        return stored


def _stored(value: Array, declared: TensorType, round_storage: bool) -> Array:
    """The value as the declared type holds it; float16 is rounded but kept as float32 for the next operator."""
    name = declared.dtype.name
    if name == "float16" and round_storage:
        return value.astype(np.float16).astype(np.float32)
    if name in ("float16", "float32"):
        return value.astype(np.float32, copy=False)
    if name == "bool":
        return value.astype(bool, copy=False)
    return to_integer(value, declared.dtype.memory)


def _evaluate(path: Path, step: _Step, values: Mapping[str, Any], round_storage: bool) -> list[Array]:
    """The outputs of one operator, checked against their declared shapes and stored in their declared types."""
    info = step.info
    arguments: dict[str, Any] = {}
    for parameter, source in step.arguments.items():
        if isinstance(source, _Constant):
            arguments[parameter] = source.value
        elif isinstance(source, str):
            arguments[parameter] = values[source]
        else:
            arguments[parameter] = [values[name] for name in source]
    try:
        returned = OPERATORS[info.op_type](**arguments)
    except (
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: operator {info.name!r} ({info.op_type}) cannot be computed: {reason}"
        ) from error
    except MemoryError:
        raise UserError(f"{path}: operator {info.name!r} ({info.op_type}) asks for too much memory") from None
    results = list(returned) if isinstance(returned, tuple) else [returned]
    if len(results) != len(info.outputs):
        raise UserError(
            f"{path}: operator {info.name!r} ({info.op_type}) has {len(results)} outputs, "
            f"the model declares {len(info.outputs)}"
        )
    stored = []
    for (name, declared), result in zip(info.outputs, results, strict=True):
        shape = np.shape(result)
        if not declared.accepts(shape):
            raise UserError(
                f"{path}: {name!r} ({info.op_type}) has shape {shape}, the model declares {declared}"
            )
        stored.append(_stored(np.asarray(result), declared, round_storage))
    return stored


# Images


def _taken(spec: FeatureSpec) -> str:
    choices = spec.ranges or (tuple((size or 1, size) for size in spec.shape),)
    if not spec.is_image:
        return spec.dtype + " or ".join(
            f"({', '.join(_span(*span) for span in choice)})" for choice in choices
        )
    sizes = " or ".join(f"{_span(*height)}x{_span(*width)}" for _, _, height, width in choices)
    return f"an image of {sizes} (height x width){', 3 channels' if spec.shape[1] == 3 else ''}"


def _span(low: int, high: int | None) -> str:
    return str(low) if low == high else f"{low}..{'' if high is None else high}"


def _from_image(spec: FeatureSpec, pixels: Array) -> Array:
    """(H, W, 3) RGB or (H, W), 0 to 255 -> (1, 3 or 1, H, W) in the program's channel order; others as they are."""
    if spec.shape[1] == 3 and pixels.ndim == 3:
        planes = pixels.transpose(2, 0, 1)
        return (planes[::-1] if spec.colour == "BGR" else planes)[None]
    if spec.shape[1] == 1 and pixels.ndim == 2:
        return pixels[None, None]
    return pixels[None] if pixels.ndim == 4 else pixels  # of no accepted rank: refused by its shape


def _to_image(spec: FeatureSpec, value: Array, eight_bit: bool) -> Array:
    """(1, 3 or 1, H, W) in the program's channel order -> (H, W, 3) RGB or (H, W)."""
    planes = value[0, ::-1] if spec.colour == "BGR" else value[0]
    image = planes[0] if planes.shape[0] == 1 else planes.transpose(1, 2, 0)
    if not eight_bit:
        return np.ascontiguousarray(image)
    if spec.dtype != "uint8":
        return image.astype(spec.dtype)
    # NaN has no defined conversion to an integer; black keeps the result the same on every machine.
    return np.clip(np.rint(np.nan_to_num(image, nan=0.0)), 0, 255).astype(np.uint8)


# Loading


def _load(package: Package) -> MilProgram:
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
    steps: list[_Step] = []
    for operation in block.operations:
        step = _read_operation(package, operation, types, constants)
        if step is not None:
            steps.append(step)
    undefined = [output for output in block.outputs if output not in types]
    if undefined:
        raise package.fault(f"the outputs {undefined} are never computed")
    steps = _with_last_uses(steps, block.outputs, constants)

    inputs = [_feature(package, feature, types) for feature in description.input]
    outputs = [_feature(package, feature, types) for feature in description.output]
    if {spec.name for spec in inputs} != set(input_types):
        raise package.fault("the description and the program have different inputs")
    if {spec.name for spec in outputs} != set(block.outputs):
        raise package.fault("the description and the program have different outputs")
    return MilProgram(package.path, inputs, outputs, input_types, steps, constants)


def _read_operation(
    package: Package, operation: Any, types: dict[str, TensorType], constants: dict[str, Any]
) -> _Step | None:
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
    arguments: dict[str, str | tuple[str, ...] | _Constant] = {}
    # Compressed weights carry their data as attributes up to iOS 17, everything else as inputs.
    for parameter, attribute in operation.attributes.items():
        if operation.type.startswith("constexpr_") and parameter != "name":
            arguments[parameter] = _Constant(package.value(attribute))
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
    return _Step(OperatorInfo(operation.type, outputs[0][0], declared_outputs), arguments, ())


def _read_argument(
    package: Package,
    label: str,
    parameter: str,
    bindings: Sequence[Any],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Any],
) -> str | tuple[str, ...] | _Constant:
    literal = [binding.WhichOneof("binding") == "value" for binding in bindings]
    if not bindings or any(literal) != all(literal):
        raise package.fault(f"{label} has a parameter {parameter!r} of mixed or no values")
    if all(literal):
        values = [package.value(binding.value) for binding in bindings]
        return _Constant(values if parameter in TUPLE_PARAMETERS else values[0])
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


def _read_by(step: _Step) -> set[str]:
    """Names of the values that a step reads."""
    sources = [source for source in step.arguments.values() if not isinstance(source, _Constant)]
    return {name for source in sources for name in ((source,) if isinstance(source, str) else source)}


def _with_last_uses(steps: list[_Step], outputs: Sequence[str], constants: Mapping[str, Any]) -> list[_Step]:
    """Marks after which step each value can be freed: feature maps at 1280x720 would not all fit in memory."""
    keep = {*outputs, *constants}
    reversed_steps = []
    for step in reversed(steps):
        names = _read_by(step) | {name for name, _ in step.info.outputs}
        reversed_steps.append(_Step(step.info, step.arguments, tuple(sorted(names - keep))))
        keep |= names
    return reversed_steps[::-1]


def _feature(package: Package, feature: Any, types: Mapping[str, TensorType]) -> FeatureSpec:
    """Joins the description of a port with its type in the program, and refuses contradictions."""
    if feature.name not in types:
        raise package.fault(f"the description names {feature.name!r}, the program does not")
    declared = types[feature.name]
    kind = feature.type.WhichOneof("Type")
    if kind == "multiArrayType":
        shape = tuple(feature.type.multiArrayType.shape)
        if shape and declared.shape and None not in declared.shape and not declared.accepts(shape):
            raise package.fault(
                f"{feature.name!r} is described with shape {shape} and computed as {declared}"
            )
        ranges = _ranges(package, feature.type.multiArrayType, None)
        return FeatureSpec(feature.name, declared.shape, declared.dtype.name, False, None, ranges)
    if kind != "imageType":
        raise UserError(
            f"{package.path}: {feature.name!r} is a {kind}; this executor knows arrays and images"
        )
    image = feature.type.imageType
    colour = _COLOURS.get(image.colorSpace)
    channels = 3 if colour in ("RGB", "BGR") else 1
    flexible = image.WhichOneof("SizeFlexibility") is not None
    size = (None, None) if flexible else (image.height, image.width)
    if colour is None or not TensorType(declared.dtype, (1, channels, *size)).accepts(
        _known(declared.shape, size)
    ):
        raise package.fault(
            f"{feature.name!r} is described as a {colour} image of {size} and computed as {declared}"
        )
    dtype = "float16" if colour == "GRAYSCALE_FLOAT16" else "uint8"
    return FeatureSpec(
        feature.name, declared.shape, dtype, True, colour, _ranges(package, image, (1, channels))
    )


def _ranges(
    package: Package, declared: Any, lead: tuple[int, int] | None
) -> tuple[tuple[tuple[int, int | None], ...], ...]:
    """The shapes that the description allows for a flexible array, or for an image behind its batch and channels."""

    def span(entry: Any) -> tuple[int, int | None]:
        return int(entry.lowerBound), None if entry.upperBound < 0 else int(entry.upperBound)

    choices: list[tuple[tuple[int, int | None], ...]]
    kind = declared.WhichOneof("SizeFlexibility" if lead else "ShapeFlexibility")
    if kind is None:
        return ()
    if lead is None and kind == "enumeratedShapes":
        choices = [
            tuple((int(size), int(size)) for size in entry.shape)
            for entry in declared.enumeratedShapes.shapes
        ]
    elif lead is None:
        choices = [tuple(span(entry) for entry in declared.shapeRange.sizeRanges)]
    else:
        ends: tuple[tuple[int, int | None], ...] = tuple((size, size) for size in lead)
        if kind == "enumeratedSizes":
            sizes = declared.enumeratedSizes.sizes
            choices = [(*ends, (int(s.height), int(s.height)), (int(s.width), int(s.width))) for s in sizes]
        else:
            sides = declared.imageSizeRange
            choices = [(*ends, span(sides.heightRange), span(sides.widthRange))]
    if not choices:
        raise package.fault("a flexible shape without any choice")
    return tuple(choices)


def _known(shape: tuple[int | None, ...], size: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape whose open dimensions are taken from the image size (or 1), so that the rest can be compared."""
    fallback = (1, 1, *(side or 1 for side in size))
    return tuple(fallback[i] if s is None and i < 4 else int(s or 1) for i, s in enumerate(shape))
