"""The mark in every face that a network has changed: a faint pattern of colour, added inside of the graph.

    marked = FaceMark()(result, mask)            # in the graph, so that no app can leave it out
    found = mark_deviations(square)              # (256, 256, 3) aligned: 5 and more is a mark

Red and blue rise and fall against each other by a few levels over cells of 8 pixels, brightness stays: hard to see, and
what JPEG keeps. It says that a picture was changed by this software, to those who look for it. It is no protection
against somebody who wants to remove it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.training.faces.align import SIDE

CELLS = 32
"""Along each side of the aligned square."""

AMPLITUDE = 2.5 / 255.0
"""Standard deviation of red and blue over the middle of the face, of [0, 1]."""

FOUND = 5.0
"""Deviations from which on a picture counts as marked."""

_KEY = "afterlens face 1"
_OTHERS = 100  # patterns that mark nothing: how well they fit by chance is the yardstick
_COLOUR = np.array([1.0, -0.185 / 0.587, -1.0], np.float32)  # no brightness: 0.299 - 0.114 = 0.185
_CENTRE, _RADII = (128.0, 150.0), (100.0, 110.0)  # of the face's oval, x and y
_FULL, _NONE = 0.015, 0.005  # share of the square that was changed: the whole mark, none

# Landmarks of the changed and compressed picture lie a little elsewhere: turned, scaled and shifted by as much.
_SEARCH = 128  # pixels, side of the square that is searched
_ANGLES, _SCALES = (-4.0, -2.0, 0.0, 2.0, 4.0), (0.94, 0.97, 1.0, 1.03, 1.06)
_SHIFT = 5  # pixels


def pattern(key: str = _KEY, side: int = SIDE) -> NDArray[np.float32]:
    """``(side, side)``: a smooth random field, faded out towards the rim of the face, with a deviation of 1 in its middle.

    The bits of its cells are those of SHA-256, so any language gets the same.
    """
    digests = b"".join(hashlib.sha256(f"{key} {n}".encode()).digest() for n in range(CELLS * CELLS // 256))
    bits = np.unpackbits(np.frombuffer(digests, np.uint8)).reshape(CELLS, CELLS).astype(np.float32)
    field = cv2.resize(2.0 * bits - 1.0, (side, side), interpolation=cv2.INTER_CUBIC)
    field = field - cv2.GaussianBlur(field, (0, 0), 3.0 * side / CELLS)
    oval = _oval(side)
    return np.asarray(field / field[oval > 0.7].std() * oval, np.float32)


class FaceMark(nn.Module):
    """Adds the mark as far as a mask says that the face was changed: one that was not stays as it is.

    Args:
        height, width: of the picture of the aligned face, in pixels; the mark is scaled with it.
    """

    def __init__(self, height: int = SIDE, width: int = SIDE) -> None:
        super().__init__()
        field = np.asarray(cv2.resize(pattern(), (width, height), interpolation=cv2.INTER_AREA), np.float32)
        self.register_buffer(
            "field", torch.from_numpy(field * np.float32(AMPLITUDE))[None, None], persistent=False
        )
        self.register_buffer("colour", torch.from_numpy(_COLOUR).reshape(3, 1, 1, 1), persistent=False)

    def forward(self, result: Tensor, mask: Tensor) -> Tensor:
        """``(N, 3, H, W)`` RGB and ``(N, 1, H, W)``, 1 = changed -> the marked picture, not clipped."""
        share = mask.mean(dim=(2, 3), keepdim=True)
        strength = ((share - _NONE) * (1.0 / (_FULL - _NONE))).clamp(0.0, 1.0)
        assert isinstance(self.field, Tensor) and isinstance(self.colour, Tensor)
        # As a picture: onnx2tf mixes up the axes where a constant picture meets a single number.
        strength = strength + F.relu(-mask)
        return result + F.conv2d(strength * self.field, self.colour)


def mark_deviations(square: NDArray[np.float32]) -> float:
    """How far the mark in an aligned square ``(256, 256, 3)`` [0, 1] stands out, in standard deviations.

    The mark is compared with 100 patterns that were never used, each in the place nearby where it fits best.
    """
    if square.shape != (SIDE, SIDE, 3):
        raise ValueError(f"got {square.shape}, expected ({SIDE}, {SIDE}, 3)")
    colour = cv2.resize(square @ _COLOUR, (_SEARCH, _SEARCH), interpolation=cv2.INTER_AREA) * 255.0
    best = np.full(1 + _OTHERS, -np.inf)
    for angle in _ANGLES:
        for scale in _SCALES:
            pose = cv2.getRotationMatrix2D((_SEARCH / 2 - 0.5, _SEARCH / 2 - 0.5), angle, scale)
            posed = cv2.warpAffine(colour, pose, (_SEARCH, _SEARCH), borderMode=cv2.BORDER_REFLECT)
            own = _filtered(np.asarray(posed, np.float32))
            # Edges of colour would outshout the rest.
            own = own / np.sqrt(cv2.GaussianBlur(own * own, (0, 0), 3.0) + 0.25) * (_oval(_SEARCH) > 0.3)
            shifted = sliding_window_view(np.pad(own, _SHIFT, mode="wrap"), own.shape)
            fits = _patterns() @ shifted.reshape(-1, own.size).T  # patterns, shifts
            best = np.maximum(best, fits.max(axis=1))
    others = best[1:]
    return float((best[0] - others.mean()) / max(float(others.std()), 1e-12))


@lru_cache(maxsize=1)
def _patterns() -> NDArray[np.float32]:
    """The mark and the other patterns, each a row and of the same energy."""
    keys = [_KEY, *(f"nobody's {number}" for number in range(_OTHERS))]
    fields = np.stack([_filtered(pattern(key, _SEARCH)).reshape(-1) for key in keys])
    return fields / np.linalg.norm(fields, axis=1, keepdims=True)


def _filtered(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """What lies between the grain of a picture and its shapes."""
    cell = _SEARCH / CELLS
    fine, coarse = (cv2.GaussianBlur(field, (0, 0), sigma * cell) for sigma in (0.2, 0.5))
    return np.asarray(fine - coarse, np.float32)


@lru_cache(maxsize=2)
def _oval(side: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:side, :side].astype(np.float32) * np.float32(SIDE / side)
    distance = np.hypot((x - _CENTRE[0]) / _RADII[0], (y - _CENTRE[1]) / _RADII[1])
    return np.asarray(np.clip(1.25 - distance, 0.0, 1.0) ** 0.5, np.float32)
