"""How far blocks of the input lie from where a mapping puts them: the measure by which mappings are compared.

    shifts = local_shifts(input_grey, target_grey, mapping)
    shifts.matched, shifts.length(0.5)        # share of the blocks found again, median distance in input pixels

Block matching by normalised cross-correlation. It does not know how a mapping was found, so it can evaluate any.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.training.udc.geometry import Grey, Mapping, at_scale, warp

SEARCH = 12  # pixels: how far from its expected place a block is searched for
MATCHED = 0.3  # share of the blocks that confirms a mapping

_SIDE = 1600  # pixels, longer side at which photos are compared
_BLOCK = 40  # pixels, side of a block
_BLOCKS = 150  # at most so many are searched for
_FEWEST_BLOCKS = 6
_SCORE = 0.45  # normalised correlation; unrelated blocks of this size reach about 0.3
_FLAT = 0.004  # standard deviation of the band-passed block, in units of the grey range


@dataclass(frozen=True)
class Shifts:
    """Where the blocks of the input were found, relative to where the mapping puts them."""

    points: NDArray[np.float64]  # (n, 2) centres of the matched blocks, x and y in input pixels
    vectors: NDArray[np.float64]  # (n, 2) in input pixels
    searched: int  # blocks with structure, matched or not

    @property
    def matched(self) -> float:
        """Share of the blocks with structure that were found again, 0 to 1; 0 if fewer than six were found."""
        return len(self.vectors) / self.searched if len(self.vectors) >= _FEWEST_BLOCKS else 0.0

    def length(self, quantile: float) -> float:
        """A quantile of the vectors' lengths, in input pixels."""
        return float(np.quantile(np.linalg.norm(self.vectors, axis=1), quantile))


def shifts_at_any_scale(source: Grey, target: Grey, start: Mapping) -> Shifts | None:
    """Local shifts between two photos, at the finest scale whose search range covers them.

    None where too few blocks are found at any scale: the photos are then shifted by more than a twentieth of their
    side, rotated by more than about 10 degrees, or show different scenes.
    """
    found = None
    longer = max(source.shape)
    for side in (256, 512, 1024, 2048):
        if found is not None and (side > longer or found.length(0.5) * side / longer > SEARCH / 2):
            break
        finer = local_shifts(source, target, start, side=min(side, longer))
        if finer.matched > 0.5:
            found = finer
    return found


def local_shifts(source: Grey, target: Grey, mapping: Mapping, *, side: int = _SIDE) -> Shifts:
    """Search for blocks of the input around the places where ``mapping`` puts them in the target.

    Blocks are band-passed and compared by normalised cross-correlation, which gain and offset do not change, even
    where they vary across the picture (haze).

    Args:
        side: longer side of the input during the comparison, in pixels. The search range is 12 pixels at that scale,
            less on narrow photos.
    """
    small, moving, inner, scale = at_scale(source, target, mapping, min(1.0, side / max(source.shape)))
    height, width = small.shape
    warped = warp(moving, inner, (height, width))
    valid = ~np.isnan(warped)
    fixed, warped = _band_pass(small), _band_pass(np.where(valid, warped, small))
    block = min(_BLOCK, min(height, width) // 5)
    search = min(SEARCH, max(4, min(height, width) // 16))  # a narrow photo has no room for more
    step = max(block // 2, int((height * width / _BLOCKS) ** 0.5))
    points, vectors, searched = [], [], 0
    for top in range(search, height - block - search + 1, step):
        for left in range(search, width - block - search + 1, step):
            around = np.s_[top - search : top + block + search, left - search : left + block + search]
            pattern = fixed[top : top + block, left : left + block]
            if pattern.std() < _FLAT or not valid[around].all():
                continue
            searched += 1
            scores = cv2.matchTemplate(warped[around], pattern, cv2.TM_CCOEFF_NORMED)
            shift = _peak(np.asarray(scores, np.float32))
            if shift is not None:
                points.append((left + (block - 1) / 2, top + (block - 1) / 2))
                vectors.append(shift)
    return Shifts(
        (np.array(points).reshape(-1, 2) + 0.5) / scale - 0.5,
        np.array(vectors).reshape(-1, 2) / scale,
        searched,
    )


def _band_pass(grey: Grey) -> Grey:
    # The square root gives a dark photo about as much structure as a bright one.
    tone = np.sqrt(np.clip(grey, 0.0, 1.0))
    band: Grey = cv2.GaussianBlur(tone, (0, 0), 1.5) - cv2.GaussianBlur(tone, (0, 0), 5.0)
    return band


def _peak(scores: NDArray[np.float32]) -> tuple[float, float] | None:
    """(x, y) from the middle to the highest score, in fractions of a pixel; None if it is low or at the border."""
    _, highest, _, (x, y) = cv2.minMaxLoc(scores)
    last = len(scores) - 1
    if highest < _SCORE or not (0 < x < last and 0 < y < last):
        return None
    # The maximum of the quadratic through the 3x3 neighbours. Its mixed term matters: two separate parabolas were
    # 0.15 pixels off on slanted edges.
    (a, b, c), (d, e, f), (g, h, i) = scores[y - 1 : y + 2, x - 1 : x + 2].astype(np.float64)
    slope_x, slope_y = (f - d) / 2, (h - b) / 2
    bend_x, bend_y, mixed = d - 2 * e + f, b - 2 * e + h, (a - c - g + i) / 4
    determinant = bend_x * bend_y - mixed**2
    if bend_x >= 0 or determinant <= 0:
        return None
    right = (mixed * slope_y - bend_y * slope_x) / determinant
    down = (mixed * slope_x - bend_x * slope_y) / determinant
    return x + np.clip(right, -1, 1) - last / 2, y + np.clip(down, -1, 1) - last / 2
