"""Noise out of video: two frames in, the later one restored.

    afterlens convert quiet_video.network:deployables -o build/quiet_video

Only `deployables` is there for afterlens. The weights are the team's own file, which `train.py` wrote.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from afterlens.training.deployable import Deployable, Port

WEIGHTS = Path(__file__).with_name("weights.safetensors")


class QuietVideo(nn.Module):
    """Both frames at half the size through two convolutions; what they find is added to the later frame."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(6, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.1),
        )
        self.detail = nn.Conv2d(6, width, 3, padding=1)
        self.noise = nn.Conv2d(2 * width, 3, 3, padding=1)

    def forward(self, current: Tensor, previous: Tensor) -> tuple[Tensor]:
        """Two frames ``(N, 3, H, W)``, RGB, [0, 1], even sides -> the current one without its noise, alike."""
        frames = torch.cat((current, previous), dim=1)
        coarse = F.interpolate(self.features(frames), scale_factor=2.0, mode="bilinear", align_corners=False)
        noise = self.noise(torch.cat((coarse, torch.relu(self.detail(frames))), dim=1))
        return (torch.clamp(current - noise, 0.0, 1.0),)


def deployables() -> Deployable:
    """What afterlens asks for."""
    network = QuietVideo()
    network.load_state_dict(load_file(WEIGHTS))
    shape = (1, 3, 64, 64)
    return Deployable(
        module=network.eval(),
        task="quiet_video",
        title="Video denoising",
        version="1.2",
        inputs=(
            Port("current", shape, (0.0, 1.0), meaning="frame to be restored"),
            Port("previous", shape, (0.0, 1.0), meaning="the frame before it"),
        ),
        outputs=(Port("restored", shape, (0.0, 1.0), meaning="the current frame without noise"),),
    )
