"""A z-buffer in NumPy: which triangle is seen in each pixel, and where in it.

    buffer = ZBuffer(512)
    buffer.draw(points, depths, mesh.faces)              # -> the layer's number, counted from 0
    buffer.layer, buffer.triangle, buffer.weights

All pixels of all triangles' bounding boxes are tested at once. Triangles of a head are a few pixels large, so that few
of these tests are wasted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from afterlens.training.faces.heads.meshes import Floats, Ints

Keep = Callable[[Ints, Floats], NDArray[np.bool_]]

_TESTS = 1_000_000  # pixels tested at a time; bounds the memory


class ZBuffer:
    """What is nearest to the camera in each pixel of a square picture.

    Attributes, each ``(side, side)`` first:
        depth: distance from the camera; infinite where nothing was drawn.
        layer: number of the mesh drawn, in the order of `draw`; -1 where nothing was drawn.
        triangle: number of its triangle.
        weights: ``(side, side, 3)``, of the triangle's corners; they sum to 1.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self.depth = np.full((side, side), np.inf, np.float32)
        self.layer = np.full((side, side), -1, np.int16)
        self.triangle = np.zeros((side, side), np.int32)
        self.weights = np.zeros((side, side, 3), np.float32)
        self._layers = 0

    def draw(
        self,
        points: Floats,
        depths: Floats,
        faces: Ints,
        keep: Keep | None = None,
        closed: bool = False,
    ) -> int:
        """Draws one mesh and returns its layer number.

        Args:
            points: ``(V, 2)``, pixels, x to the right and y down; the middle of the first pixel is (0.5, 0.5).
            depths: ``(V,)``, distance from the camera, above 0. Triangles behind it are left out.
            faces: ``(F, 3)``.
            keep: (triangles ``(N,)``, weights ``(N, 3)``) -> which of N pixels are there at all, for meshes with holes.
            closed: nobody can see the backs of its triangles, whose corners run clockwise on the picture.
        """
        number = self._layers
        self._layers += 1
        corners = points[faces]
        # Pixels whose middles lie within a triangle's bounding box.
        low = np.ceil(corners.min(axis=1) - 0.5).clip(0, self.side).astype(np.int64)
        high = (np.floor(corners.max(axis=1) - 0.5) + 1).clip(0, self.side).astype(np.int64)
        sizes = (high - low).clip(0)
        counts = sizes[:, 0] * sizes[:, 1] * (depths[faces] > 1e-3).all(axis=1)
        if closed:
            (ux, uy), (vx, vy) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
            counts = counts * (ux * vy - uy * vx < 0)
        seen, of_corners = np.flatnonzero(counts), depths[faces]
        ends = np.cumsum(counts[seen])
        first = 0
        while first < len(seen):
            done = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + _TESTS, side="right")))
            self._draw_some(number, seen[first:last], counts, low, sizes, corners, of_corners, keep)
            first = last
        return number

    def _draw_some(
        self,
        number: int,
        chosen: NDArray[np.int64],
        counts: NDArray[np.int64],
        low: NDArray[np.int64],
        sizes: NDArray[np.int64],
        corners: Floats,
        depths: Floats,
        keep: Keep | None,
    ) -> None:
        counts = counts[chosen]
        triangle = np.repeat(chosen, counts)
        place = np.arange(len(triangle)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = sizes[triangle, 0]
        column, row = low[triangle, 0] + place % width, low[triangle, 1] + place // width
        x, y = column.astype(np.float32) + np.float32(0.5), row.astype(np.float32) + np.float32(0.5)
        (xa, ya), (xb, yb), (xc, yc) = (corners[triangle, corner].T for corner in range(3))
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1.0 / ((xb - xa) * (yc - ya) - (xc - xa) * (yb - ya))
            first = ((xb - x) * (yc - y) - (xc - x) * (yb - y)) * scale
            second = ((xc - x) * (ya - y) - (xa - x) * (yc - y)) * scale
            third = 1.0 - first - second
        inside = (first >= 0) & (second >= 0) & (third >= 0)
        weights = np.stack([first, second, third], axis=1)[inside].astype(np.float32)
        triangle, pixel = triangle[inside].astype(np.int32), (row * self.side + column)[inside]
        depth = (weights * depths[triangle]).sum(axis=1)
        nearer = depth < self.depth.ravel()[pixel]
        if keep is not None:
            nearer[nearer] = keep(triangle[nearer], weights[nearer])
        # Of several values for one pixel the last one stays: the nearest, if they come from far to near.
        order = np.flatnonzero(nearer)[np.argsort(-depth[nearer], kind="stable")]
        pixel = pixel[order]
        self.depth.ravel()[pixel] = depth[order]
        self.layer.ravel()[pixel] = number
        self.triangle.ravel()[pixel] = triangle[order]
        self.weights.reshape(-1, 3)[pixel] = weights[order]


def sample_texture(texture: Floats, uv: Floats) -> Floats:
    """Bilinear samples ``(N, C)`` of a texture ``(H, W, C)`` at ``(N, 2)``; it repeats outside of [0, 1]."""
    height, width = texture.shape[:2]
    x, y = (uv[:, 0] % 1.0) * width - 0.5, (1.0 - uv[:, 1] % 1.0) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - left)[:, None].astype(np.float32), (y - top)[:, None].astype(np.float32)
    left, right = left.clip(0, width - 1), (left + 1).clip(0, width - 1)
    top, bottom = top.clip(0, height - 1), (top + 1).clip(0, height - 1)
    upper = texture[top, left] * (1 - fx) + texture[top, right] * fx
    lower = texture[bottom, left] * (1 - fx) + texture[bottom, right] * fx
    sampled: Floats = upper * (1 - fy) + lower * fy
    return sampled
