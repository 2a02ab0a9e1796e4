"""Apple's own Core ML beside our executor, which stands in for it everywhere else. Runs on a Mac only.

No Mac was at hand when this was written: until a first run the limits are what we expect, not what we have seen.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afterlens.conversion.bundle.reference import compute
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.coreml.convert import _coremltools, convert_coreml
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.verify.test_images import extreme_pictures
from afterlens.training.deployable import Deployable
from afterlens.training.media.images import fit, read_photo
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network
from tests.third_party.quiet_video.network import deployables as quiet_video

pytestmark = pytest.mark.skipif(sys.platform != "darwin", reason="only a Mac runs Core ML")

SIZE = 64
LEAST_PSNR = 45.0  # dB, of 8-bit pictures: rounding one of them costs 59, a level here and there the rest
MOST_LEVELS = 3  # of 255, where both round another way after a float16 sum in another order


def bundled(task: str) -> Callable[[], Deployable]:
    found = find_task(task)
    return lambda: found.deployable(load_network(found, found.pretrained)[0], SIZE, SIZE)


NETWORKS = {"quiet_video": quiet_video, **{task: bundled(task) for task in ("reflection", "udc")}}


@pytest.mark.parametrize("units", ["CPU_ONLY", "ALL"])
@pytest.mark.parametrize("network", NETWORKS)
def test_core_ml_computes_what_our_executor_and_pytorch_compute(
    network: str, units: str, tmp_path: Path, photo_path: Path
) -> None:
    deployable = NETWORKS[network]()
    package = tmp_path / f"{network}.mlpackage"
    convert_coreml(deployable, package)
    ct = _coremltools()
    model = ct.models.MLModel(str(package), compute_units=getattr(ct.ComputeUnit, units))
    program = MilProgram.load(package)
    photo = to_levels(fit(read_photo(photo_path).rgb, SIZE, SIZE))
    for name, picture in {"photo": photo, **extreme_pictures(photo)}.items():
        # The second input gets it upside down, or nobody would notice that they are mixed up.
        levels = {
            port.name: np.ascontiguousarray(picture[:: (-1) ** i]) for i, port in enumerate(deployable.inputs)
        }
        predicted = model.predict({port: Image.fromarray(image) for port, image in levels.items()})
        ours = program.run(levels)
        pytorch = compute(
            deployable, {port: image.astype(np.float32) / np.float32(255) for port, image in levels.items()}
        )
        for port in deployable.outputs:
            got = np.asarray(predicted[port.name].convert("RGB"), np.float64)
            for whose, expected in (("ours", ours[port.name]), ("PyTorch", to_levels(pytorch[port.name]))):
                apart = np.abs(got - expected)
                psnr = -10.0 * np.log10(max(float(np.square(apart / 255).mean()), 1e-10))
                what = f"{units} {network} {name} {port.name}: {psnr:.1f} dB, {apart.max():.0f} levels from {whose}"
                print(what)
                assert psnr >= LEAST_PSNR and apart.max() <= MOST_LEVELS, what
