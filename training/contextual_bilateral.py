"""The contextual bilateral loss (CoBi), for pairs that are aligned, but not to the pixel.

    loss = contextual_bilateral_loss(patches(result, grid), patches(target, grid), grid.places)

From *Zoom to Learn, Learn to Zoom* (Zhang et al., CVPR 2019), after the contextual loss (Mechrez et al., ECCV 2018):
every feature of each picture is matched to the most similar feature of the other, where distant matches cost more. Only
a random window takes part, which bounds memory. (Scattered positions would not work: the one that a shifted pixel came
from would mostly be missing.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDWIDTH = 0.5
SPATIAL = 0.1  # weight of the squared distance, in units of the shorter side
_EPSILON = 1e-5


@dataclass(frozen=True)
class Grid:
    """Positions at which features are taken: ``rows`` and ``columns``, ``(M,)``, in pixels of the picture."""

    rows: Tensor
    columns: Tensor
    height: int
    width: int

    @property
    def places(self) -> Tensor:
        """``(M, 2)``: rows and columns in units of the shorter side."""
        return torch.stack([self.rows, self.columns], dim=1).float() / min(self.height, self.width)


def sampled_grid(height: int, width: int, side: int, device: torch.device) -> Grid:
    """All positions of a random ``side`` x ``side`` window, or less on a smaller picture. Uses the global generator."""
    rows, columns = min(side, height), min(side, width)
    top = int(torch.randint(height - rows + 1, ()))
    left = int(torch.randint(width - columns + 1, ()))
    places = torch.cartesian_prod(torch.arange(top, top + rows), torch.arange(left, left + columns)).to(
        device
    )
    return Grid(places[:, 0], places[:, 1], height, width)


def patches(image: Tensor, grid: Grid, side: int = 5) -> Tensor:
    """``side`` x ``side`` pixels around each position, edges repeated: ``(N, C, H, W) -> (N, M, C side^2)``."""
    reach = side // 2
    padded = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    shifted = [padded[:, :, grid.rows + dy, grid.columns + dx] for dy in range(side) for dx in range(side)]
    return torch.cat(shifted, dim=1).transpose(1, 2)


def contextual_bilateral_loss(result: Tensor, target: Tensor, places: Tensor) -> Tensor:
    """Mean over the batch of ``-log`` of the features' contextual similarity, in both directions.

    Args:
        result, target: features, ``(N, M, C)``.
        places: their positions, ``(M, 2)``, the same for both.

    The distance of two features is ``1 - cos`` after subtracting the target's mean from both, plus ``SPATIAL`` times the
    squared distance of their positions. It is divided by the smallest distance in its row and becomes a similarity by
    ``exp((1 - d) / BANDWIDTH)``, normalised over the row. The largest similarities are averaged.
    """
    mean = target.mean(dim=1, keepdim=True)
    a, b = F.normalize(result - mean, dim=2), F.normalize(target - mean, dim=2)
    apart = (places[:, None] - places[None]).square().sum(dim=2)
    distance = (1.0 - a @ b.transpose(1, 2)).clamp_min(0.0) + SPATIAL * apart
    return 0.5 * (_one_way(distance) + _one_way(distance.transpose(1, 2)))


def _one_way(distance: Tensor) -> Tensor:
    """``(N, M, M)`` distances -> mean of ``-log`` of each column's largest similarity."""
    relative = distance / (distance.amin(dim=2, keepdim=True) + _EPSILON)
    shares = ((1.0 - relative) / BANDWIDTH).softmax(dim=2)
    similarity = shares.amax(dim=1).mean(dim=1)
    return -similarity.clamp_min(_EPSILON).log().mean()


def windowed(result: Tensor, target: Tensor, window: int, side: int) -> Tensor:
    """The loss of the ``side`` x ``side`` patches of ``(N, C, H, W)`` within one random window of both."""
    grid = sampled_grid(result.shape[2], result.shape[3], window, result.device)
    return contextual_bilateral_loss(patches(result, grid, side), patches(target, grid, side), grid.places)


def of_features(network: nn.Module, result: Tensor, target: Tensor, window: int) -> Tensor:
    """Mean loss of a frozen network's feature maps of both pictures, a random window of each; see `features`."""
    maps = zip(network(result), network(target), strict=True)
    return torch.stack([windowed(*both, window, side=1) for both in maps]).mean()
