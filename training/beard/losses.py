"""The loss adjusted by the area of the beard over the area of the face that carries it.

A moustache covers 3 % of a face, a full beard a third of it. In a plain mean the moustache would hardly count, and the
rest of the face, which only has to stay, would decide. So the beard and the rest of the face are averaged one by one, and
weighted by beta = 1 - r and 1 - beta, where r is the ratio of the areas: the smaller the beard, the more it weighs.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_RATIO, LARGEST_RATIO = 0.03, 0.6


def area_ratio(beard: Tensor, face: Tensor) -> Tensor:
    """``(N,)``: the beard's area over the face's, clipped to [0.03, 0.6].

    Both are soft masks ``(N, 1, H, W)`` in [0, 1].
    """
    ratio = beard.sum(dim=(1, 2, 3)) / face.sum(dim=(1, 2, 3)).clamp_min(1.0)
    return ratio.clamp(SMALLEST_RATIO, LARGEST_RATIO)


def area_adjusted(error: Tensor, beard: Tensor, face: Tensor) -> Tensor:
    """``(N,)``: beta x mean error over the beard + (1 - beta) x mean error over the rest of the face, beta = 1 - r.

    Where there is no beard there is nothing to weigh, and the mean over the face counts in full. What lies outside of the
    face does not count: there the picture passes through.

    Args:
        error: of each pixel, ``(N, C, H, W)``, zero or more.
        beard: soft mask ``(N, 1, H, W)`` in [0, 1].
        face: soft mask of the face that carries it, ``(N, 1, H, W)``; where the beard leaves it, it counts as face.
    """
    face = torch.maximum(face, beard)
    beta = 1.0 - area_ratio(beard, face)
    on_beard, on_rest = _mean(error, beard), _mean(error, face - beard)
    weighted = beta * on_beard + (1.0 - beta) * on_rest
    bare = beard.sum(dim=(1, 2, 3)) < 1.0
    return torch.where(bare, _mean(error, face), weighted)


def over_the_face(error: Tensor, beard: Tensor, face: Tensor) -> Tensor:
    """``(N,)``: the plain mean over the face, which `area_adjusted` is compared with in ablations."""
    return _mean(error, torch.maximum(face, beard))


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    """``(N,)``: mean of ``(N, C, H, W)`` by weights ``(N, 1, H, W)``; 0 where all of them are."""
    total = error.shape[1] * weight.sum(dim=(1, 2, 3)).clamp_min(1e-3)
    return (error * weight).sum(dim=(1, 2, 3)) / total
