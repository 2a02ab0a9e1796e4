"""Padding to sides divisible by a power of two, and cropping back. Tensors are ``(N, C, H, W)``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def margins(length: int, multiple: int) -> tuple[int, int]:
    """Padding before and after a side of ``length`` to the next ``multiple``: even, an odd pixel goes after it."""
    more = -length % multiple
    return more // 2, more - more // 2


def pad_to(x: Tensor, multiple_height: int, multiple_width: int) -> tuple[Tensor, int, int]:
    """Mirrors ``x`` up to multiples, evenly on both sides -> (padded, rows above, columns to the left)."""
    height, width = x.shape[-2:]
    (top, bottom), (left, right) = margins(height, multiple_height), margins(width, multiple_width)
    if bottom == right == 0:
        return x, 0, 0
    # Mirroring needs more pixels than it adds; tiny pictures repeat their edge instead.
    mode = "reflect" if max(top, bottom) < height and max(left, right) < width else "replicate"
    return F.pad(x, (left, right, top, bottom), mode=mode), top, left


def crop_to(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """The ``height`` x ``width`` part of ``x`` from row ``top`` and column ``left``: undoes ``pad_to``."""
    if x.shape[-2:] == (height, width):
        return x
    return x[..., top : top + height, left : left + width]


def repeat_edges(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """``x`` with its outermost rows and columns repeated (before, after) times.

    Built from slices and concatenations of at most three tensors: TFLite's repeating and mirroring pads are slow and
    not supported by XNNPACK.
    """
    for dim, (before, after) in ((2, rows), (3, columns)):
        length = x.shape[dim]
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, length - 1, 1)
        pieces = [_repeat(first, before, dim), [x], _repeat(last, after, dim)]
        x = torch.cat([piece for group in pieces for piece in group], dim=dim)
    return x


def _repeat(line: Tensor, count: int, dim: int) -> list[Tensor]:
    if count < 2:
        return [line] * count
    (half,) = _repeat(line, count // 2, dim)
    return [torch.cat([half, half, *[line] * (count % 2)], dim=dim)]
