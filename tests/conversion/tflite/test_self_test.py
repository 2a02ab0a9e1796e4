"""The floor that a device's self-test has to reach: below what LiteRT reaches here, and never above 45 dB."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio

from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.convert import reference
from afterlens.conversion.tflite.self_test import self_test_floor
from afterlens.training.deployable import Deployable
from afterlens.training.media.images import read_photo


def test_exact_files_get_the_highest_floor_and_packages_none(bundle: Bundle) -> None:
    floors = {artifact.file: artifact.self_test_floor_db for artifact in bundle.contract.artifacts}
    assert floors == {
        "reflection_256x256_float32.tflite": 45.0,
        "reflection_256x256_float16.tflite": 45.0,
        "reflection_256x256_float16.mlpackage": None,
    }


def test_the_floor_is_3_db_below_the_worst_output(
    bundle: Bundle, deployable: Deployable, photo_path: Path
) -> None:
    """The file is exact, so an error added to the golden outputs is the one that is found."""
    golden = reference(deployable, [read_photo(photo_path).rgb])
    noise: NDArray[np.float64] = np.random.default_rng(4).standard_normal((1, 3, 256, 256))
    reached = []
    for index, port in enumerate(deployable.outputs):
        exact = golden.outputs[port.name]
        golden.outputs[port.name] = (exact + (0.02 + 0.03 * index) * noise).astype(np.float32)
        data_range = port.range[1] - port.range[0]
        reached.append(peak_signal_noise_ratio(exact, golden.outputs[port.name], data_range=data_range))
    floor = self_test_floor(bundle.folder / "reflection_256x256_float32.tflite", deployable, golden)
    assert floor == pytest.approx(min(reached) - 3, abs=0.01)
    assert floor < 30
