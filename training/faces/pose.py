"""How a face is turned, from its landmarks.

seen = pose(points, landmarks)               # points (468, 3) of a head, landmarks (468, 2) in a picture
pixels, depths = seen.seen(points), seen.depths(points)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afterlens.training.faces.detect import Floats


@dataclass(frozen=True)
class Pose:
    """A camera so far away that it sees everything at one scale: ``scale * points @ axes[:2].T + shift``.

    Attributes:
        axes: ``(3, 3)``, a rotation; the last row points away from the camera.
        scale: pixels per unit.
        shift: ``(2,)``, pixels.
    """

    axes: Floats
    scale: float
    shift: Floats

    def seen(self, points: Floats) -> Floats:
        """Points ``(N, 3)`` -> pixels ``(N, 2)``."""
        pixels: Floats = self.scale * points @ self.axes[:2].T + self.shift
        return pixels

    def depths(self, points: Floats) -> Floats:
        """Points ``(N, 3)`` -> how far away they are, ``(N,)``, in the mesh's units from a plane of its own."""
        distances: Floats = points @ self.axes[2]
        return distances


def pose(points: Floats, landmarks: Floats) -> Pose:
    """The pose in which points ``(468, 3)`` come nearest to landmarks ``(468, 2)``.

    Least squares over all affine cameras, then the nearest one without shear (scaled orthography, as in Tomasi & Kanade,
    IJCV 1992).
    """
    middle, there = points.mean(axis=0), landmarks.mean(axis=0)
    affine = np.linalg.lstsq(
        (points - middle).astype(np.float64), (landmarks - there).astype(np.float64), rcond=None
    )[0].T
    left, lengths, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    axes = np.vstack([rows, np.cross(rows[0], rows[1])])
    scale = float(lengths.mean())
    return Pose(axes.astype(np.float32), scale, (there - scale * rows @ middle).astype(np.float32))
