"""One conversion of the reflection network at 256x256, shared by all tests of all test processes."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from torch import nn

from afterlens.conversion.bundle.contract import CONTRACT_FILE, Bundle, digest, read_bundle
from afterlens.conversion.convert import convert
from afterlens.training.deployable import Deployable
from afterlens.training.reflection.task import TASK
from afterlens.training.trained import load_network


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this test run that all its processes see."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The bundled weights."""
    return TASK.pretrained


@pytest.fixture(scope="session")
def network(checkpoint: Path) -> nn.Module:
    return load_network(TASK, checkpoint)[0]


@pytest.fixture(scope="session")
def deployable(network: nn.Module) -> Deployable:
    """The reflection graph at 256x256."""
    return TASK.deployable(network, 256, 256)


@pytest.fixture(scope="session")
def bundle(shared_folder: Path, checkpoint: Path, deployable: Deployable, photo_path: Path) -> Bundle:
    """A bundle of the three 256x256 artifacts. Read only: a test that damages it takes `own_bundle`."""
    folder = shared_folder / "bundle"
    with FileLock(shared_folder / "bundle.lock"):
        if not (folder / CONTRACT_FILE).exists():
            provenance = {
                "checkpoint_sha256": digest(checkpoint)[0],
                "recipe": {"name": "test"},
                "data_licence": "CC BY 4.0",
            }
            convert([deployable], folder, provenance, golden_photo=photo_path)
    return read_bundle(folder)


@pytest.fixture
def own_bundle(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of `bundle` for one test."""
    return read_bundle(Path(shutil.copytree(bundle.folder, tmp_path / "bundle")))
