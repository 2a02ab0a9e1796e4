"""Photos of any size for networks that want sides divisible by a power of two."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pad_to(x: Tensor, multiple_height: int, multiple_width: int) -> tuple[Tensor, int, int]:
    """Pads the sides up to multiples, evenly on both sides -> (padded, rows above, columns left)."""
    height, width = x.shape[-2:]
    more_rows, more_columns = -height % multiple_height, -width % multiple_width
    top, left = more_rows // 2, more_columns // 2
    bottom, right = more_rows - top, more_columns - left
    if more_rows == 0 and more_columns == 0:
        return x, 0, 0
    # A reflection needs more pixels than it adds; tiny pictures repeat their edge instead.
    mode = "reflect" if max(top, bottom) < height and max(left, right) < width else "replicate"
    return F.pad(x, (left, right, top, bottom), mode=mode), top, left


def crop_to(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """The ``height`` x ``width`` part of ``x`` that begins at row ``top``, column ``left``: undoes ``pad_to``."""
    if x.shape[-2:] == (height, width):
        return x
    return x[..., top : top + height, left : left + width]
