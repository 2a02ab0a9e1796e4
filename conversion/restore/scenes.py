"""Finds the cuts of a clip, frame by frame, so that nothing is carried over from one scene into the next.

    starts_scene = SceneDetector()
    for rgb in clip:
        if starts_scene(rgb): ...

Two frames belong to one scene if nearly every part of one is found near its place in the other. Both are scaled down to
thumbnails, and parts are compared without brightness and contrast, so that noise, blur, motion, pans and changes of
exposure are not taken for cuts. A larger change (a saturated flash, a pan by a fifth of the width) counts as a cut: the
frame then only loses its neighbour.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]  # (H, W, 3)
Thumbnail = NDArray[np.float32]  # (36, 64), grey, 0 to 255

WIDTH, HEIGHT = 64, 36
PART = 12  # pixels of the thumbnail, squares
REACH = 3  # pixels by which a part may have moved
NOISE = 2.0  # grey levels of structure that are ignored

# Threshold of the lost share of structure, found on 23 clips. Within them the share was at most 0.29 (a white car on an
# empty road). Among splices of two clips, only those between takes of one person in one room stayed below.
CUT = 0.32
# Such splices are recognised by a jump above the previous frames.
JUMP, JUMP_FACTOR, JUMP_LEVELS, RECENT = 0.16, 2.5, 3.0, 8


class SceneDetector:
    """Tells whether a frame starts a scene, from the frames before it. Use one detector per clip."""

    def __init__(self) -> None:
        self._previous: Thumbnail | None = None
        self._recent: deque[float] = deque(maxlen=RECENT)  # lost shares within this scene

    def __call__(self, rgb: Rgb) -> bool:
        """(H, W, 3) uint8 -> True for the first frame and after a cut."""
        small = cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        previous, self._previous = self._previous, thumbnail
        if previous is None:
            return True
        lost = lost_share(previous, thumbnail)
        cut = lost > CUT or (
            lost > JUMP
            and len(self._recent) >= 3
            and lost > JUMP_FACTOR * (0.02 + max(self._recent))
            and _difference(previous, thumbnail) > JUMP_LEVELS
        )
        if cut:
            self._recent.clear()
        else:
            self._recent.append(lost)
        return cut


def lost_share(before: Thumbnail, after: Thumbnail) -> float:
    """The share of `after`'s structure that is not in `before`, 0 to 1."""
    lost = _lost_at(before, after, 0, 0)
    if lost <= JUMP:
        return lost
    # It may be a pan that is too fast for REACH.
    (across, down), _ = cv2.phaseCorrelate(before - before.mean(), after - after.mean(), _WINDOW)
    x, y = round(across), round(down)
    if (x or y) and abs(x) <= 3 * WIDTH // 8 and abs(y) <= 3 * HEIGHT // 8:
        lost = min(lost, _lost_at(before, after, x, y))
    return lost


_WINDOW = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)


def _lost_at(before: Thumbnail, after: Thumbnail, x: int, y: int) -> float:
    """The lost share if the picture has moved by about (x, y)."""
    margin = PART // 2 + REACH
    padded = cv2.copyMakeBorder(before, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    lost = structure = 0.0
    for top in range(0, HEIGHT, PART):
        for left in range(0, WIDTH - PART + 1, PART):
            row, column = top - y, left - x
            if not (-PART // 2 <= row <= HEIGHT - PART // 2 and -PART // 2 <= column <= WIDTH - PART // 2):
                continue  # has just come into view
            part = after[top : top + PART, left : left + PART]
            row, column, reach = row + margin - REACH, column + margin - REACH, PART + 2 * REACH
            near = padded[row : row + reach, column : column + reach]
            deviation = float(part.std())
            likeness = cv2.matchTemplate(near, part, cv2.TM_CCOEFF_NORMED).max() if deviation > 0.7 else 0.0
            explained = min(max(float(likeness), 0.0), 1.0)
            lost += max(deviation * (1.0 - explained**2) ** 0.5 - NOISE, 0.0)
            structure += deviation + NOISE
    return lost / structure if structure else 1.0


def _difference(before: Thumbnail, after: Thumbnail) -> float:
    """Mean difference in grey levels, a common change of brightness left out."""
    difference = after - before
    return float(np.abs(difference - difference.mean()).mean())
