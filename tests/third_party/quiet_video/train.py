"""Writes weights.safetensors: two minutes on one core.

python -m quiet_video.train ../photos/*.jpg
"""

import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from .network import WEIGHTS, QuietVideo

NOISE = 0.08  # standard deviation


def noisy_pair(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two frames of a still picture ``(N, 3, H, W)``, each with noise of its own."""
    first, second = (torch.randn(clean.shape, generator=generator) * NOISE for _ in range(2))
    return (clean + first).clamp(0.0, 1.0), (clean + second).clamp(0.0, 1.0)


def train(pictures: list[Tensor], steps: int = 600) -> QuietVideo:
    """Trained on 48-pixel crops of ``pictures``, (3, H, W) each."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = QuietVideo()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        crops = []
        for _ in range(8):
            picture = pictures[int(torch.randint(len(pictures), (), generator=generator))]
            top, left = (int(torch.randint(side - 48, (), generator=generator)) for side in picture.shape[1:])
            crops.append(picture[:, top : top + 48, left : left + 48])
        clean = torch.stack(crops)
        loss = (network(*noisy_pair(clean, generator))[0] - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


if __name__ == "__main__":
    photos = [np.asarray(Image.open(path).convert("RGB"), np.float32) / 255 for path in sys.argv[1:]]
    trained = train([torch.from_numpy(photo).permute(2, 0, 1) for photo in photos])
    save_file(trained.state_dict(), WEIGHTS)
