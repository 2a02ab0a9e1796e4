"""A spatially variant recurrence gated by motion, for the ablation (docs/deblur.md).

It loops over rows and columns, which accelerators on phones cannot run.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from afterlens.training.blocks import normalised


class SpatialRecurrence(nn.Module):
    """``h_k = (1 - p_k) x_k + p_k h_(k-1)`` along four directions, with a gate ``p`` for every pixel.

    Spatially variant recurrent networks (Zhang et al., CVPR 2018) with gates from optical flow (arXiv 2301.07329). Such
    a recurrence is a recursive filter, so it can undo blur that is longer than the reach of a convolution of its cost.
    """

    def __init__(self, channels: int, motion: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = normalised(nn.Conv2d(motion, 4 * channels, 3, padding=1), 1.0)
        self.merge = normalised(nn.Conv2d(4 * channels, channels, 1), 0.4)

    def forward(self, x: Tensor, motion: Tensor) -> Tensor:
        """``(N, channels, h, w)`` and motion features of the same size -> the same shape."""
        left, right, up, down = torch.sigmoid(self.gates(motion)).split(self.channels, dim=1)
        found = (
            _scan(x, left, dim=3),
            _scan(x.flip(3), right.flip(3), dim=3).flip(3),
            _scan(x, up, dim=2),
            _scan(x.flip(2), down.flip(2), dim=2).flip(2),
        )
        merged: Tensor = self.merge(torch.cat(found, dim=1))
        return x + merged


def _scan(x: Tensor, gate: Tensor, dim: int) -> Tensor:
    lines = []
    line = torch.zeros_like(x.select(dim, 0))
    for value, p in zip(x.unbind(dim), gate.unbind(dim), strict=True):
        line = (1.0 - p) * value + p * line
        lines.append(line)
    return torch.stack(lines, dim=dim)
