"""How much faces flicker in a clip that a face network has changed, beside the clip before.

    python -m afterlens.benchmarks.evaluation.flicker me.mp4 anonymous.mp4

Each frame is compared with the frame before, moved along by the optical flow of the clip as it was: what is left is what the
flow does not explain, noise and newly seen places in the one, and flicker on top in the other. Only faces count.
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from afterlens.training.command import answer
from afterlens.training.faces.align import SIDE, alignment, moved
from afterlens.training.faces.detect import Floats, find_faces
from afterlens.training.faces.regions import carrier
from afterlens.training.media.clips import open_clip
from afterlens.training.media.errors import UserError


def flicker(before: Path, after: Path) -> dict[str, Any]:
    """Measure a pair of clips.

    Returns: ``{"frames", "before", "after", "ratio", "worst"}``: frames with a face, mean absolute differences along the flow
        in levels of 255 in both clips, the ratio of these means, and the largest ratio of one frame.

    Raises UserError for clips of different sizes or lengths, or without a face in two frames that follow each other.
    """
    clips = [open_clip(path) for path in (before, after)]
    own: list[float] = []
    changed: list[float] = []
    last: tuple[Floats, Floats] | None = None
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for first, second in zip_longest(*clips):
        if first is None or second is None:
            raise UserError(f"{after}: has not as many frames as {before}")
        if first.shape != second.shape:
            raise UserError(f"{after}: has not the size of {before}")
        found = find_faces(first)
        if last is not None and found:
            grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, last[0])]
            back = flow.calc(grey[0], grey[1], np.zeros((*first.shape[:2], 2), np.float32))
            where = np.stack([_face(face.landmarks, first.shape[:2]) for face in found]).max(axis=0)
            own.append(_left(first, last[0], back, where))
            changed.append(_left(second, last[1], back, where))
        last = (first, second)
    if not own:
        raise UserError(f"{before}: no face in two frames that follow each other")
    before_mean, after_mean = sum(own) / len(own), sum(changed) / len(changed)
    ratios = [new / max(old, 1e-3) for old, new in zip(own, changed, strict=True)]
    return {
        "frames": len(own),
        "before": before_mean,
        "after": after_mean,
        "ratio": after_mean / max(before_mean, 1e-3),
        "worst": max(ratios),
    }


def _face(landmarks: Floats, size: tuple[int, ...]) -> Floats:
    """``(H, W)`` in [0, 1]: where the face is that may have been changed."""
    into = alignment(landmarks)
    mask: Floats = cv2.warpAffine(
        carrier(moved(landmarks, into), SIDE), cv2.invertAffineTransform(into), (size[1], size[0])
    )
    return mask


def _left(frame: Floats, last: Floats, back: Floats, where: Floats) -> float:
    """Mean absolute difference of a frame ``(H, W, 3)`` and the last one moved along the flow ``(H, W, 2)``, by weight."""
    height, width = where.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    along = cv2.remap(
        last, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    difference = abs(frame.astype(np.float32) - along.astype(np.float32)).mean(axis=2)
    return float((difference * where).sum() / max(where.sum(), 1e-3))


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the clip as it was")
    parser.add_argument("after", type=Path, help="the same, changed")
    chosen = parser.parse_args()
    return answer(lambda: flicker(chosen.before, chosen.after))


if __name__ == "__main__":
    raise SystemExit(main())
