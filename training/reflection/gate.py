"""The gate: where a photo needs no restoration, its pixels stay exactly as they are.

    logits = GateHead(128, 64)(coarse, background, layer)       # (N, 1, H/16, W/16)
    gate = opened(logits)                                       # (N, 1, H, W), [0, 1], exactly 0 and 1 where sure

It learns to detect layers from synthesis, which knows where they are: ``gate_loss``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.training.blocks import GroupedGatedBlock, normalised, upsample2

CELL = 16  # pixels: side of the squares that the gate decides on

_WIDTH = 64
# 1.2 sigmoid - 0.1, clamped: exactly 0 below a logit of -2.4, exactly 1 above 2.4.
_STRETCH = 1.2
_BLOCK = 4  # pixels: a cell counts as changed where the mean of one of its blocks is


class GateHead(nn.Module):
    """Detects layers in cells of 16 pixels, from the coarsest features and from what both decoders found.

    Args:
        coarse: channels of the coarsest features, at 1/16.
        fine: channels of the features of each decoder, at 1/4.
    """

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.enter = normalised(nn.Conv2d(coarse + 2 * fine, _WIDTH, 1), 1.0)
        self.block = GroupedGatedBlock(_WIDTH)
        self.leave = nn.Conv2d(_WIDTH, 1, 1)
        nn.init.normal_(self.leave.weight, 0.0, 0.01)
        # Nearly open: behind a closed gate the rest of the network would learn nothing.
        assert self.leave.bias is not None
        nn.init.constant_(self.leave.bias, 1.5)

    def forward(self, coarse: Tensor, background: Tensor, layer: Tensor) -> Tensor:
        """-> logits ``(N, 1, H/16, W/16)``, above zero where there is a layer."""
        pooled = [F.avg_pool2d(features, CELL // 4) for features in (background, layer)]
        logits: Tensor = self.leave(self.block(F.relu(self.enter(torch.cat([coarse, *pooled], dim=1)))))
        return logits


def opened(logits: Tensor, threshold: float = 0.0) -> Tensor:
    """Share of the change that passes, ``(N, 1, H/16, W/16)`` logits -> ``(N, 1, H, W)`` in [0, 1].

    ``threshold``: logit at which half passes. Higher does less harm to clean photos and removes less.
    """
    gate = _STRETCH * torch.sigmoid(logits - threshold if threshold else logits) - (_STRETCH - 1.0) / 2.0
    gate = gate.clamp(0.0, 1.0)
    for _ in range(4):
        gate = upsample2(gate)
    return gate


def changed(image: Tensor, target: Tensor, threshold: float) -> Tensor:
    """``(N, 3, H, W)`` twice -> ``(N, 1, H/16, W/16)``: 1 for a cell in which some 4x4 block differs, else 0.

    ``threshold``: mean absolute difference over a block and its channels above which it counts.
    """
    difference = F.avg_pool2d((image - target).abs().mean(dim=1, keepdim=True), _BLOCK)
    return (F.max_pool2d(difference, CELL // _BLOCK) > threshold).float()


def gate_loss(logits: Tensor, image: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Binary cross entropy of the gate's logits against ``changed``."""
    return F.binary_cross_entropy_with_logits(logits.float(), changed(image, target, threshold))


def gate_recall(logits: Tensor, image: Tensor, target: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Shares of the changed and of the unchanged cells that the gate takes for changed: recall and false alarms."""
    found, true = (logits > 0).float(), changed(image, target, threshold)
    recall = (found * true).sum() / true.sum().clamp_min(1.0)
    false_alarms = (found * (1.0 - true)).sum() / (1.0 - true).sum().clamp_min(1.0)
    return recall, false_alarms
