"""Inputs that a saved program may leave out: the executor's defaults are those of coremltools' operator definitions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from afterlens.conversion.lint.graph import _DEFAULT_EPSILON
from afterlens.conversion.mil.ops import OPERATORS

WITHOUT_EFFECT = {"validate_indices"}
"""None here: it only says whether a device looks for indices out of range."""


def defined(coremltools: ModuleType) -> Iterator[tuple[str, object, dict[str, Any]]]:
    """Name, operator set and defaults of every definition; those that depend on the input are of a picture's."""
    mil = coremltools.converters.mil.mil
    for name in OPERATORS:
        for version, definition in mil.ops.registry.SSAOpRegistry.core_ops.get(name, {}).items():
            operator = object.__new__(definition)
            operator.x = SimpleNamespace(dtype=mil.types.fp32, rank=4, shape=(1, 2, 3, 4))
            try:
                yield name, version, dict(definition.default_inputs(operator).items())
            except AttributeError:  # they depend on more than x: tested where the operator is
                continue


def test_defaults_are_those_of_every_operator_set(coremltools: ModuleType) -> None:
    compared = 0
    for name, version, defaults in defined(coremltools):
        parameters = inspect.signature(OPERATORS[name]).parameters
        for key in defaults.keys() - WITHOUT_EFFECT:
            own, given = parameters[key].default, defaults[key]
            if own is None and isinstance(given, list | range):  # for each axis: tested where the operator is
                continue
            if isinstance(given, np.float32):  # of the input's type
                own = np.float32(own)
            assert own == given, (name, version, key)
            compared += 1
    assert compared > 600


def test_lint_knows_every_epsilon_that_a_package_may_leave_out(coremltools: ModuleType) -> None:
    found = {
        name: np.float32(defaults["epsilon"])
        for name, _, defaults in defined(coremltools)
        if "epsilon" in defaults
    }
    assert found == {name: np.float32(epsilon) for name, epsilon in _DEFAULT_EPSILON.items()}
