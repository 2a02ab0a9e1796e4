"""Finds the cuts of a clip, frame by frame, so that nothing is carried over from one scene into the next.

    starts_scene = SceneDetector()
    for rgb in clip:
        if starts_scene(rgb): ...

Two frames belong to one scene if nearly every part of one is found near its place in the other. Both are scaled down to
thumbnails, and parts are compared without brightness and contrast, so that noise, blur, motion, pans and changes of
exposure are not taken for cuts. Where too much is lost, the optical flow decides: within a scene the way back leads to
where the way there began, however fast, shaken or blurred the picture is; between two scenes it leads anywhere. A larger
change (a saturated flash, a pan by a fifth of the width) counts as a cut: the frame then only loses its neighbour.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]  # (H, W, 3)
Thumbnail = NDArray[np.float32]  # (36, 64), grey, 0 to 255
Grey = NDArray[np.uint8]  # (90, 160)

WIDTH, HEIGHT = 64, 36
FLOW_SIZE = (160, 90)  # width, height, of what the optical flow sees
PART = 12  # pixels of the thumbnail, squares
REACH = 3  # pixels by which a part may have moved
NOISE = 2.0  # grey levels of structure that are ignored

# Thresholds of the lost share of structure, and of the share of it that the flow does not explain, found on 26 clips.
# Among 446 pairs of neighbouring frames of DAVIS, shaken and fast ones, 80 lose more than CUT, and the flow leaves two of
# them unexplained. Splices of different places lose 0.4 and more, of which the flow explains less than a half.
CUT, TORN = 0.32, 0.4
# Such splices are recognised by a jump above the previous frames.
JUMP, JUMP_FACTOR, JUMP_LEVELS, RECENT = 0.16, 2.5, 3.0, 8


class SceneDetector:
    """Tells whether a frame starts a scene, from the frames before it. Use one detector per clip."""

    def __init__(self) -> None:
        self._previous: tuple[Thumbnail, Grey] | None = None
        self._recent: deque[float] = deque(maxlen=RECENT)  # lost shares within this scene

    def __call__(self, rgb: Rgb) -> bool:
        """(H, W, 3) uint8 -> True for the first frame and after a cut."""
        small = cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        thumbnail = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        grey = cv2.cvtColor(cv2.resize(rgb, FLOW_SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        before, self._previous = self._previous, (thumbnail, np.asarray(grey, np.uint8))
        if before is None:
            return True
        previous, grey_before = before
        lost = lost_share(previous, thumbnail)
        cut = (lost > CUT and torn_share(grey_before, self._previous[1]) > TORN) or (
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


def torn_share(before: Grey, after: Grey) -> float:
    """The share of `after`'s structure from which the flow to `before` and back does not return, 0 to 1.

    By forward and backward flow (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016), as in Sundaram
    et al., Dense Point Trajectories, ECCV 2010: more than a pixel and a tenth of the way is no return.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    nothing = np.zeros((*after.shape, 2), np.float32)
    there, back = (flow.calc(one, other, nothing.copy()) for one, other in ((after, before), (before, after)))
    height, width = after.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    back_again = cv2.remap(
        back,
        columns + there[..., 0],
        rows + there[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    missed = np.linalg.norm(there + back_again, axis=2)
    torn = missed > 1.0 + 0.1 * np.linalg.norm(there, axis=2)
    levels = after.astype(np.float32)
    mean, square = (cv2.blur(power, (9, 9)) for power in (levels, levels**2))
    structure = np.sqrt((square - mean**2).clip(0.0))
    return float((torn * structure).sum() / max(float(structure.sum()), 1e-6))


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
