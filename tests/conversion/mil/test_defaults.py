"""Inputs that a saved program may leave out: the executor's defaults are those of coremltools' operator definitions."""

from __future__ import annotations

import inspect
from types import ModuleType

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
