"""Inputs that a saved program may leave out: the executor's defaults are those of coremltools' operator definitions."""

from __future__ import annotations

import contextlib
import inspect
from types import ModuleType, SimpleNamespace

import numpy as np

from afterlens.conversion.lint.graph import _DEFAULT_EPSILON
from afterlens.conversion.mil.ops import OPERATORS

WITHOUT_EFFECT = {"validate_indices"}
"""None here: it only says whether a device looks for indices out of range."""


def test_defaults_are_those_of_every_operator_set(coremltools: ModuleType) -> None:
    registry = coremltools.converters.mil.mil.ops.registry.SSAOpRegistry
    compared = 0
    for name, function in OPERATORS.items():
        parameters = inspect.signature(function).parameters
        for version, definition in registry.core_ops.get(name, {}).items():
            try:
                defaults = dict(definition.default_inputs(object.__new__(definition)).items())
            except AttributeError:  # they depend on the input's rank or type: tested where the operator is
                continue
            for key in defaults.keys() - WITHOUT_EFFECT:
                assert parameters[key].default == defaults[key], (name, version, key)
                compared += 1
    assert compared > 500


def test_lint_knows_every_epsilon_that_a_package_may_leave_out(coremltools: ModuleType) -> None:
    mil = coremltools.converters.mil.mil
    found: dict[str, np.float32] = {}
    for name in OPERATORS:
        for definition in mil.ops.registry.SSAOpRegistry.core_ops.get(name, {}).values():
            operator = object.__new__(definition)
            operator.x = SimpleNamespace(dtype=mil.types.fp32, rank=4, shape=(1, 2, 3, 4))
            with contextlib.suppress(AttributeError):  # of more inputs than x: none of them has an epsilon
                defaults = dict(definition.default_inputs(operator).items())
                if "epsilon" in defaults:
                    found[name] = np.float32(defaults["epsilon"])
    assert found == {name: np.float32(epsilon) for name, epsilon in _DEFAULT_EPSILON.items()}
