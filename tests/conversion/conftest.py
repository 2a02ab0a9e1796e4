"""One conversion of the reflection network at 256x256, shared by all tests of all test processes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import nn

from conversion.contract import CONTRACT_FILE, Bundle, digest, read_bundle
from conversion.convert import convert
from training.checkpoint import save_checkpoint
from training.deployable import Deployable
from training.recipe import read_recipe
from training.reflection.task import TASK
from training.trained import load_network


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this test run that all its processes see."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def checkpoint(shared_folder: Path) -> Path:
    """The bundled weights, or seeded ones as long as there are none."""
    if TASK.pretrained.exists():
        return TASK.pretrained
    path = shared_folder / "seeded.safetensors"
    with FileLock(shared_folder / "seeded.lock"):
        if not path.exists():
            import json
            from dataclasses import asdict

            torch.manual_seed(0)
            recipe: Any = read_recipe(TASK.recipe_type, TASK.recipe_path)
            metadata = {"task": TASK.name, "recipe": json.loads(json.dumps(asdict(recipe)))}
            network = TASK.build_network(recipe)
            with torch.no_grad():
                for parameter in network.parameters():
                    if not parameter.any():  # heads start at zero, which would hide every fault before them
                        parameter.normal_(0.0, 0.02)
            save_checkpoint(path, network.state_dict(), metadata)
    return path


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
