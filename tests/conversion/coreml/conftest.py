"""The packages that the tests of compression share."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from afterlens.conversion.coreml.compress import (
    COMPRESSED_VARIANTS,
    REPRESENTATIONS,
    compress,
    weights_of,
)
from afterlens.conversion.coreml.convert import convert_coreml
from afterlens.conversion.mil.package import read_package
from afterlens.training.trained import load_network
from afterlens.training.udc.task import TASK
from tests.conversion.coreml.packages import SIDE, Small, deployable


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small_32x32_float16.mlpackage"
    convert_coreml(deployable(Small()), path)
    return path


@pytest.fixture(scope="session")
def udc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small under-display network with its bundled weights, at 64x64."""
    path = tmp_path_factory.mktemp("udc") / "udc_64x64_float16.mlpackage"
    convert_coreml(TASK.deployable(load_network(TASK, TASK.pretrained)[0], SIDE, SIDE), path)
    return path


@pytest.fixture(scope="session")
def forms(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small package in each of the plain variants."""
    folder = tmp_path_factory.mktemp("forms")
    for variant in COMPRESSED_VARIANTS[:3]:
        compress(small, variant, folder / f"{variant}.mlpackage")
    return {variant: folder / f"{variant}.mlpackage" for variant in COMPRESSED_VARIANTS[:3]}


@pytest.fixture(scope="session")
def plain(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small package with every weight in one representation, the outermost too."""
    folder = tmp_path_factory.mktemp("plain")
    for kind in REPRESENTATIONS[:-1]:
        compress(
            small, "mixed", folder / f"{kind}.mlpackage", dict.fromkeys(weights_of(read_package(small)), kind)
        )
    return {kind: folder / f"{kind}.mlpackage" for kind in REPRESENTATIONS[:-1]}


@pytest.fixture(scope="session")
def cto() -> ModuleType:
    import coremltools.optimize.coreml

    module: ModuleType = coremltools.optimize.coreml
    return module
