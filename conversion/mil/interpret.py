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

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.mil.features import accepted, from_image, to_image
from afterlens.conversion.mil.ops import OPERATORS
from afterlens.conversion.mil.ops.arrays import Array, to_integer
from afterlens.conversion.mil.package import TensorType, read_package
from afterlens.conversion.mil.program import Constant, OperatorInfo, Program, Step, read_by, read_program
from afterlens.training.media.errors import UserError

OnValue = Callable[[str, str, Array], None]
Override = Callable[[str, str, Array], "Array | None"]


class MilProgram:
    """A loaded program; `run` may be called any number of times."""

    def __init__(self, program: Program) -> None:
        self.path = program.path
        self.inputs = program.inputs
        self.outputs = program.outputs
        self._input_types = program.input_types
        self._steps = program.steps
        self._constants = program.constants

    @staticmethod
    def load(path: Path | str) -> MilProgram:
        """Reads and checks a package; raises UserError with one line for anything that cannot be executed."""
        return MilProgram(read_program(read_package(Path(path))))

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
                if known is not None and changed.isdisjoint(read_by(step)):
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
                    outputs[spec.name] = to_image(spec, value, eight_bit)
                else:
                    half = spec.dtype == "float16" and round_storage
                    outputs[spec.name] = value.astype(np.float16) if half else value
            return outputs

    def _execute(
        self,
        step: Step,
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
            value = from_image(spec, given) if spec.is_image else given
            if declared.shape == () and value.size == 1:
                value = value.reshape(())  # Core ML has no arrays of rank 0: scalars travel as (1,)
            fits = declared.accepts(value.shape) and spec.accepts(value.shape)
            if given.dtype.kind not in "fiub" or not fits:
                raise UserError(
                    f"{self.path}: input {spec.name!r} got {given.dtype}{given.shape}, the model takes {accepted(spec)}"
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


def _evaluate(path: Path, step: Step, values: Mapping[str, Any], round_storage: bool) -> list[Array]:
    """The outputs of one operator, checked against their declared shapes and stored in their declared types."""
    info = step.info
    arguments: dict[str, Any] = {}
    for parameter, source in step.arguments.items():
        if isinstance(source, Constant):
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
