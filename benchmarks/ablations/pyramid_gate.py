"""Ablation of the pyramid's gate: PSNR of the input and of restorations with and without the gate, at 1280x720.

    python -m afterlens.benchmarks.ablations.pyramid_gate PHOTOS... --checkpoint FILE

Clean photos are scaled and cropped to 1280x720 (smaller ones are enlarged), degraded with a fixed seed, and restored
twice. The last line on stdout is one JSON document.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from afterlens.training.command import answer
from afterlens.training.data import seeded
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.metrics import psnr
from afterlens.training.reflection.pyramid import PyramidRestorer
from afterlens.training.reflection.synthesis import degrade
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network

HEIGHT, WIDTH = 720, 1280
KINDS = ("reflection", "region", "shadow", "stain", "occlusion")


def fitted(path: Path) -> Tensor:
    """The photo scaled to cover 1280x720 and centre-cropped, ``(3, 720, 1280)`` RGB [0, 1]; portraits are rotated."""
    rgb = read_photo(path).rgb
    if rgb.shape[0] > rgb.shape[1]:
        rgb = np.ascontiguousarray(np.rot90(rgb))
    scale = max(HEIGHT / rgb.shape[0], WIDTH / rgb.shape[1])
    size = (max(WIDTH, round(rgb.shape[1] * scale)), max(HEIGHT, round(rgb.shape[0] * scale)))
    scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (scaled.shape[0] - HEIGHT) // 2, (scaled.shape[1] - WIDTH) // 2
    return (
        torch.from_numpy(np.asarray(scaled, np.float32)[top : top + HEIGHT, left : left + WIDTH].copy())
        .permute(2, 0, 1)
        .clamp(0, 1)
    )


@torch.no_grad()
def ablate(photos: list[Path], checkpoint: Path) -> dict[str, dict[str, float]]:
    """Mean PSNR in dB by kind of degradation: ``{"shadow": {"input": ..., "plain": ..., "gated": ...}, ...}``."""
    task = find_task("reflection")
    network = load_network(task, checkpoint)[0]
    runs = {"gated": PyramidRestorer(network), "plain": PyramidRestorer(network, gated=False)}
    scores: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for index in track(range(len(photos)), "1280x720", console=Console(stderr=True)):
        clean, other = fitted(photos[index]), fitted(photos[(index + 1) % len(photos)])
        for number, kind in enumerate(KINDS):
            degraded = degrade(clean, other, kind, seeded(index, number))[None]
            found = {"input": psnr(degraded, clean[None])}
            found |= {name: psnr(run(degraded)[0], clean[None]) for name, run in runs.items()}
            for name, value in found.items():
                scores[kind].setdefault(name, []).append(value)
    return {kind: {name: float(np.mean(v)) for name, v in by.items()} for kind, by in scores.items()}


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", type=Path, help="clean photos, and folders of them")
    parser.add_argument("--checkpoint", type=Path, default=find_task("reflection").pretrained)
    arguments = parser.parse_args()
    return answer(lambda: ablate(find_photos(arguments.photos), arguments.checkpoint))


if __name__ == "__main__":
    sys.exit(main())
