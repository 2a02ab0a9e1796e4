"""Errors of the deblurring network's motion estimates, and its gain by blur length, on frames with known motion.

Optical flow is compared with OpenCV's DIS.

    python -m afterlens.benchmarks.ablations.motion_error PHOTOS [CHECKPOINT]

DIS (Kroeger et al., ECCV 2016) is made for sharp frames and uses their full resolution; our motion network costs a
twentieth of a GMAC per frame at 256x256. The blur covariance has no reference but "no motion".
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
LENGTHS = (2, 4, 6, 9, 12)  # pixels of straight, uniform blur
EXPOSURE = 0.7
FULL_WELL, READ_NOISE = 1e5, 10.0  # electrons


def main(photos: Path, checkpoint: Path) -> None:
    """Prints mean endpoint errors in pixels, one row per kind of motion, and mean gains, one row per blur length."""
    network, _ = load_network(TASK, checkpoint)
    files = find_photos([photos])
    files = files[:: max(1, len(files) // PHOTOS)][:PHOTOS]
    table = Table(
        "", "flow", "DIS", "ours", "extent", "ours", title=f"error in pixels, {len(files)} photos of {photos}"
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
        title="straight, uniform motion; shutter open for 0.7 of a frame",
    )
    for length in LENGTHS:
        frames = track(enumerate(files), f"{length} pixels", len(files), console=Console(stderr=True))
        scores = np.array([_restored(restorer, _whole(file), length, index) for index, file in frames])
        gains.add_row(f"{length}", *(f"{value:.2f}" for value in (*scores.mean(axis=0), scores[:, 1].min())))
    Console().print(gains)


def _restored(restorer: torch.nn.Module, photo: Tensor, length: float, index: int) -> tuple[float, float]:
    """PSNR of a photo blurred in a direction that depends on ``index``, and the gain by restoration, in dB."""
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
    """Mean flow length, its error by DIS and by the network; mean blur extent, and its error by the network."""
    ground_truth = sample["motion"]
    with torch.inference_mode():
        found = network(sample["input"][None], sample["previous"][None])[1][-1][0]
    grey = [
        cv2.cvtColor(
            (sample[key].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY
        )
        for key in ("input", "previous")
    ]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[0], grey[1], None)  # type: ignore[call-overload]
    by_dis = cv2.resize(
        flow, (ground_truth.shape[2], ground_truth.shape[1]), interpolation=cv2.INTER_AREA
    ).transpose(2, 0, 1)

    def length(field: Tensor) -> float:
        return float(field.square().sum(dim=0).sqrt().mean())

    return (
        length(ground_truth[:2]),
        length(ground_truth[:2] - torch.from_numpy(by_dis)),
        length(ground_truth[:2] - found[:2]),
        float(ground_truth[2].mean()),
        float((ground_truth[2] - found[2]).abs().mean()),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TASK.pretrained)
