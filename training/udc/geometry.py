"""Mappings between the pixels of two photos: making, scaling and applying them.

A mapping is a (3, 3) float64 matrix that takes homogeneous input pixels (x, y, 1) to target pixels. Pixel centres have
integer coordinates. Sizes are (height, width).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]  # (H, W), [0, 1]
Mapping = NDArray[np.float64]
Size = tuple[int, ...]  # height, width; any channels after them are ignored


def centred(input_size: Size, target_size: Size) -> Mapping:
    """The mapping that aligns the centres of two sizes, at the ratio of their areas."""
    (height, width), (target_height, target_width) = input_size[:2], target_size[:2]
    scale = ((target_height * target_width) / (height * width)) ** 0.5
    middle, target_middle = (
        ((width - 1) / 2, (height - 1) / 2),
        ((target_width - 1) / 2, (target_height - 1) / 2),
    )
    return np.array(
        [
            [scale, 0, target_middle[0] - scale * middle[0]],
            [0, scale, target_middle[1] - scale * middle[1]],
            [0, 0, 1],
        ]
    )


def warp(image: NDArray[np.float32], mapping: Mapping, size: Size) -> NDArray[np.float32]:
    """Resample a target, (H, W) or (H, W, 3), onto the input's grid of ``size``; NaN where the target has no pixel.

    Lanczos interpolation over 8x8 pixels.
    """
    height, width = size[:2]
    warped = np.empty((height, width, *image.shape[2:]), np.float32)
    for top in range(0, height, 256):  # in bands: coordinates of all pixels of a large photo take gigabytes
        rows = min(256, height - top)
        places = _places(mapping, top, rows, width)
        x, y = places[..., 0], places[..., 1]
        band = cv2.remap(
            image,
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_LANCZOS4,
            borderMode=cv2.BORDER_REPLICATE,
        )
        slack = 1e-6  # rounding must not cut the border off a photo that stays in place
        inside = (
            (x >= -slack)
            & (y >= -slack)
            & (x <= image.shape[1] - 1 + slack)
            & (y <= image.shape[0] - 1 + slack)
        )
        band[~inside] = np.nan
        warped[top : top + rows] = band
    return warped


def enlargement(mapping: Mapping) -> float:
    """How many target pixels one input pixel spans, along a side."""
    return float(np.sqrt(abs(np.linalg.det(mapping[:2, :2]))))


def at_scale(source: Grey, target: Grey, mapping: Mapping, scale: float) -> tuple[Grey, Grey, Mapping, float]:
    """Both photos, reduced until a pixel covers about the same area of the scene in both.

    Returns: the reduced input and target, the mapping between them, and the scale of the input, at most 1.
    """
    small = resized(source, scale)
    moving = resized(target, min(1.0, scale / max(enlargement(mapping), 1e-3)))
    inner = _scaling(target.shape, moving.shape) @ mapping @ _scaling(small.shape, source.shape)
    return small, moving, inner / inner[2, 2], small.shape[1] / source.shape[1]


def rescaled(change: Mapping, full: Size, small: Size) -> Mapping:
    """A mapping of the small photo's pixels onto themselves, in pixels of the full photo."""
    return _scaling(small, full) @ change @ _scaling(full, small)


def _scaling(size: Size, new: Size) -> Mapping:
    """Pixel coordinates of a photo of ``size`` -> those of the same photo resized to ``new``."""
    x, y = new[1] / size[1], new[0] / size[0]
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def resized(grey: Grey, scale: float) -> Grey:
    """A photo scaled by ``scale``, at most 1, with area averaging."""
    height, width = grey.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return grey
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _places(mapping: Mapping, top: int, rows: int, width: int) -> NDArray[np.float64]:
    """(rows, width, 2): target coordinates, x and y, of the input's pixels in these rows."""
    y, x = np.mgrid[top : top + rows, :width].astype(np.float64)
    homogeneous = [row[0] * x + row[1] * y + row[2] for row in mapping]
    return np.stack([homogeneous[0] / homogeneous[2], homogeneous[1] / homogeneous[2]], axis=-1)


def displacements(mapping: Mapping, start: Mapping, size: Size) -> NDArray[np.float64]:
    """(n, 2): how far ``mapping`` is from ``start``, in input pixels, on a 15x15 grid over the input."""
    height, width = size
    y, x = np.mgrid[0 : height - 1 : 15j, 0 : width - 1 : 15j]
    grid = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
    there = cv2.perspectiveTransform(grid, np.linalg.inv(start) @ mapping)
    return np.asarray(there - grid)[:, 0]
