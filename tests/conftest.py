"""What all tests share: few threads (two test processes run side by side), no network, real photos."""

import os

# Before anything imports NumPy, PyTorch or TensorFlow: they read these once.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests are about the CPU, also where there is a GPU
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

PHOTOS = Path(__file__).parent / "photos"


@pytest.fixture(scope="session")
def photo_path() -> Path:
    """A real photo, 768x432 JPEG: a room with a wooden floor, a white wall and a window (tests/photos/SOURCE.md)."""
    return PHOTOS / "room.jpg"


@pytest.fixture(scope="session")
def photo_paths() -> list[Path]:
    """Three real photos: bottles 640x360, a room 768x432, the room with a visitor 768x432."""
    return [PHOTOS / "bottles.jpg", PHOTOS / "room.jpg", PHOTOS / "visitor.jpg"]


@pytest.fixture
def photo(photo_path: Path) -> NDArray[np.float32]:
    """The pixels of `photo_path`: (432, 768, 3) float32 RGB in [0, 1]."""
    return np.asarray(Image.open(photo_path), np.float32) / 255
