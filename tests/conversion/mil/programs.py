"""The inputs that all operator cases share, and one saved program that computes a whole set of cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from afterlens.conversion.mil.interpret import MilProgram

RNG = np.random.default_rng(7)


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *x: Tensor) -> Any:
        return self.function(*x)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


INPUTS: dict[str, np.ndarray] = {
    "x": normal(1, 4, 6, 5),
    "y": RNG.uniform(0.3, 2.0, (1, 4, 6, 5)).astype(np.float32),
    "unit": RNG.uniform(-0.95, 0.95, (3, 5)).astype(np.float32),
    "volume": normal(1, 4, 5, 6, 4),
    "line": normal(1, 4, 11),
    "pair": np.array([[[0.0, 1.0]]], np.float32),  # of the sampling tables in coremltools' documentation
    "square": normal(2, 3, 4, 4),
    "grid": RNG.uniform(-1.6, 1.6, (2, 5, 3, 2)).astype(np.float32),
    "rows": normal(3, 4),
    "columns": normal(4, 5),
    "i": np.array([2, 0, 2], np.int32),
    "j": np.array([-7, 5, 9], np.int32),
    "signs": np.array([[-1, 0, 3], [0, 0, 2]], np.int32),
}
X = {name: torch.from_numpy(value) for name, value in INPUTS.items()}

Save = Callable[..., Path]
# (builds one variable or a tuple of them from the program's inputs, computes the same independently)
Case = tuple[Callable[..., Any], Callable[..., Any]]


class Cases(dict[str, Case]):
    """Cases by name."""

    def add(self, name: str, build: Callable[..., Any], reference: Callable[..., Any]) -> None:
        assert name not in self
        self[name] = (build, reference)


def names_of(make: Callable[[Any], Cases]) -> list[str]:
    """Case names without coremltools: cases only close over its builder."""
    return list(make(None))


class Computed:
    """What one saved program computed, by case, and which operators it held."""

    def __init__(self, save: Save, make: Callable[[Any], Cases], target: str) -> None:
        from coremltools.converters.mil.mil import Builder

        cases = make(Builder)
        counts: list[int] = []

        def build(**variables: Any) -> list[Any]:
            outputs: list[Any] = []
            for case, _ in cases.values():
                built = case(**variables)
                built = list(built) if isinstance(built, (tuple, list)) else [built]
                # A variable of its own for every output: some cases hand an input through.
                outputs += [Builder.identity(x=variable) for variable in built]
                counts.append(len(built))
            return outputs

        program = MilProgram.load(save(build, INPUTS, target))
        self.operators = {operator.op_type for operator in program.operators()}
        results = program.run(INPUTS)
        values = iter([results[spec.name] for spec in program.outputs])
        self.values = {name: [next(values) for _ in range(n)] for name, n in zip(cases, counts, strict=True)}
        self.references = {name: case[1] for name, case in cases.items()}

    def check(self, name: str) -> None:
        expected = self.references[name]()
        expected = list(expected) if isinstance(expected, tuple) else [expected]
        assert len(expected) == len(self.values[name])
        for got, want in zip(self.values[name], expected, strict=True):
            reference = np.asarray(want, np.float64)
            assert got.shape == reference.shape
            np.testing.assert_allclose(got, reference, rtol=2e-5, atol=5e-6)
