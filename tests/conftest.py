"""What all tests share: few threads (two test processes run side by side), no network, real photos."""

import dataclasses
import os
import signal
import sys

# Before anything imports NumPy, PyTorch or TensorFlow: they read these once.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests are about the CPU, also where there is a GPU
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from afterlens.samples import CALIBRATION

PHOTOS = CALIBRATION[0].parent


@pytest.fixture(scope="session")
def photo_path() -> Path:
    """A real photo, 768x432 JPEG: a room, a wooden floor, a white wall, a window (afterlens/samples/SOURCE.md)."""
    return PHOTOS / "room.jpg"


@pytest.fixture(scope="session")
def photo_paths() -> list[Path]:
    """Three real photos: bottles 640x360, a room 768x432, the room with a visitor 768x432."""
    return [PHOTOS / "bottles.jpg", PHOTOS / "room.jpg", PHOTOS / "visitor.jpg"]


@pytest.fixture
def photo(photo_path: Path) -> NDArray[np.float32]:
    """The pixels of `photo_path`: (432, 768, 3) float32 RGB in [0, 1]."""
    return np.asarray(Image.open(photo_path), np.float32) / 255


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the reflection task whose weights are noise: it changes every picture visibly."""
    import torch

    from afterlens.training.checkpoint import save_checkpoint
    from afterlens.training.recipe import read_recipe
    from afterlens.training.tasks import find_task

    task = find_task("reflection")
    recipe: Any = read_recipe(task.recipe_type, task.recipe_path)
    torch.manual_seed(3)
    network = task.build_network(recipe)
    with torch.no_grad():
        # Start weights may be zero where training begins with "no change".
        for name, weight in network.named_parameters():
            weight.copy_(torch.randn_like(weight) * (1.0 if name.endswith("original0") else 0.05))
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    metadata = {"task": task.name, "recipe": recipe.model_dump(mode="json"), "step": 0, "metrics": {}}
    save_checkpoint(path, network.state_dict(), metadata)
    return path


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """Run the command line in this process (importing PyTorch anew for each would take most of the time)."""
    from afterlens import cli

    monkeypatch.setenv("COLUMNS", "200")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["afterlens", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return Result(end.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)
    if (
        "accelerate" in sys.modules
    ):  # `train` sets this up once a process, and other tests in this one want it otherwise
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
