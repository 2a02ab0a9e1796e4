"""How well the deblurring network sees motion, and what it restores by how long the blur is.

Its flow stands beside OpenCV's DIS, on frames whose motion is known exactly.

    python -m afterlens.benchmarks.ablations.motion_error PHOTOS [CHECKPOINT]

DIS (Kroeger et al., ECCV 2016) is a flow for sharp frames and takes the whole of them; ours has a twentieth of a GMAC
at 256x256 for each. The smear has no reference but "no motion at all".
"""

import math
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from afterlens.training.data import seeded
from afterlens.training.deblur import motion
from afterlens.training.deblur.network import MULTIPLE
from afterlens.training.deblur.synthesis import KINDS, Layer, Scene, average, recorded
from afterlens.training.deblur.task import TASK
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.media.light import to_linear
from afterlens.training.metrics import psnr
from afterlens.training.trained import load_network

PHOTOS = 24
LENGTHS = (2, 4, 6, 9, 12)  # pixels of straight, steady blur
EXPOSURE = 0.7
FULL_WELL, READ_NOISE = 1e5, 10.0  # electrons


def main(photos: Path, checkpoint: Path) -> None:
    """Prints mean endpoint errors in pixels, one row a kind of motion, and mean gains, one row a length of blur."""
    network, _ = load_network(TASK, checkpoint)
    files = find_photos([photos])
    files = files[:: max(1, len(files) // PHOTOS)][:PHOTOS]
    table = Table(
        "", "flow", "DIS", "ours", "smear", "ours", title=f"pixels of error, {len(files)} photos of {photos}"
    )
    for kind in KINDS:
        rows = []
        for index, file in enumerate(track(files, kind, console=Console(stderr=True))):
            photo = _whole(file)
            sample = TASK.degrade(photo, photo.flip(2), kind, seeded(0, index))
            rows.append(_errors(network, sample))
        table.add_row(kind, *(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    Console().print(table)
    restorer = TASK.restorer(network).eval()
    gains = Table(
        "blur",
        "input dB",
        "gain dB",
        "worst",
        title="straight and steady, the shutter open for 0.7 of a frame",
    )
    for length in LENGTHS:
        frames = track(enumerate(files), f"{length} pixels", len(files), console=Console(stderr=True))
        scores = np.array([_restored(restorer, _whole(file), length, index) for index, file in frames])
        gains.add_row(f"{length}", *(f"{value:.2f}" for value in (*scores.mean(axis=0), scores[:, 1].min())))
    Console().print(gains)


def _restored(restorer: torch.nn.Module, photo: Tensor, length: float, index: int) -> tuple[float, float]:
    """PSNR of a photo blurred in a direction of its own, and what restoration adds to it, dB."""
    angle, speed = index * math.pi / 6.0, length / EXPOSURE
    velocity = np.array([speed * math.cos(angle), speed * math.sin(angle), 0.0, 0.0, 0.0, 0.0])
    trajectory = motion.Trajectory(
        (photo.shape[1], photo.shape[2]), velocity, np.zeros((0, 6)), np.zeros(0), np.zeros(0)
    )
    layer = Layer(to_linear(photo).permute(1, 2, 0).contiguous().numpy(), trajectory, 0)
    current, previous = (
        recorded(average(Scene(layer, None, EXPOSURE), middle), FULL_WELL, READ_NOISE, seeded(0, index))[None]
        for middle in (0.0, -1.0)
    )
    with torch.inference_mode():
        restored = restorer(current, previous)[0]
    before = psnr(current, photo[None])
    return before, psnr(restored, photo[None]) - before


def _whole(file: Path) -> Tensor:
    photo = torch.from_numpy(read_photo(file).rgb).permute(2, 0, 1)
    height, width = (side // MULTIPLE * MULTIPLE for side in photo.shape[1:])
    return photo[:, :height, :width].contiguous()


def _errors(network: torch.nn.Module, sample: dict[str, Tensor]) -> tuple[float, ...]:
    """Flow's length, its error by DIS and by the network; smear's extent, and its error by the network."""
    truth = sample["motion"]
    with torch.inference_mode():
        found = network(sample["input"][None], sample["previous"][None])[1][-1][0]
    grey = [
        cv2.cvtColor(
            (sample[key].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY
        )
        for key in ("input", "previous")
    ]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[0], grey[1], None)  # type: ignore[call-overload]
    by_dis = cv2.resize(flow, (truth.shape[2], truth.shape[1]), interpolation=cv2.INTER_AREA).transpose(
        2, 0, 1
    )

    def length(field: Tensor) -> float:
        return float(field.square().sum(dim=0).sqrt().mean())

    return (
        length(truth[:2]),
        length(truth[:2] - torch.from_numpy(by_dis)),
        length(truth[:2] - found[:2]),
        float(truth[2].mean()),
        float((truth[2] - found[2]).abs().mean()),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TASK.pretrained)
