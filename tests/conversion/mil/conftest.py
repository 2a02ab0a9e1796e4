"""Builds programs with coremltools and saves them; the executor under test reads only what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.conversion.mil.programs import Save


@pytest.fixture(scope="session")
def coremltools() -> ModuleType:
    """coremltools, imported once a session: it takes 12 s."""
    import coremltools as ct

    return ct


@pytest.fixture(scope="session")
def save_program(coremltools: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """`save(build, inputs, target)`: saves the program `build(**inputs)` exactly as built, float32, no graph passes.

    `inputs` maps names to example arrays, of which only shape and type count.
    """
    ct = coremltools
    from coremltools.converters.mil.mil import Builder, Function, Program, types

    def save(
        build: Callable[..., list[Any]], inputs: Mapping[str, np.ndarray], target: str = "iOS18"
    ) -> Path:
        opset = getattr(ct.target, target)
        element = {"f": types.fp32, "i": types.int32}
        placeholders = {
            name: Builder.placeholder(shape=value.shape, dtype=element[value.dtype.kind])
            for name, value in inputs.items()
        }
        program = Program()
        with Function(placeholders, opset_version=opset) as function:
            function.set_outputs(build(**function.inputs))
            program.add_function("main", function)
        model = ct.convert(
            program,
            convert_to="mlprogram",
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=opset,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        path = tmp_path_factory.mktemp("program") / "model.mlpackage"
        model.save(str(path))
        return path

    return save


@pytest.fixture(scope="session")
def save_network(coremltools: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """`save(module, example, **options)`: traces a PyTorch module and saves what coremltools converts it to."""

    def save(module: torch.nn.Module, *example: torch.Tensor, **options: Any) -> Path:
        with torch.no_grad():
            traced = torch.jit.trace(module.eval(), example)
        options.setdefault(
            "inputs",
            [coremltools.TensorType(name=f"x{i}", shape=tensor.shape) for i, tensor in enumerate(example)],
        )
        options.setdefault("minimum_deployment_target", coremltools.target.iOS16)
        model = coremltools.convert(traced, convert_to="mlprogram", skip_model_load=True, **options)
        path = tmp_path_factory.mktemp("network") / "model.mlpackage"
        model.save(str(path))
        return path

    return save
