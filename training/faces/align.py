"""The aligned square that face networks see: eyes and mouth at fixed places; and the way back into the photo.

into = alignment(face.landmarks, side=256)
square = cut(rgb, into, 256)                 # (256, 256, 3)
out = pasted(rgb, changed - square, into)    # the photo's own detail stays
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.training.faces.detect import Floats

SIDE = 256
PLACES = np.array([[92.0, 98.0], [164.0, 98.0], [128.0, 166.0]], np.float32)
"""Middle of the eye on the left, of the eye on the right, and of the mouth, in pixels of a square of 256."""

_EYES_AND_MOUTH = ([33, 133], [362, 263], [61, 291])  # corners of each, among the landmarks
_BORDER = 0.06  # share of the square over which a change fades out


def three_points(landmarks: Floats) -> Floats:
    """Middles of both eyes and of the mouth, ``(3, 2)``, of landmarks ``(468, 2)``."""
    return np.stack([landmarks[corners].mean(axis=0) for corners in _EYES_AND_MOUTH])


def alignment(landmarks: Floats, side: int = SIDE) -> Floats:
    """The similarity ``(2, 3)`` that brings a photo's landmarks nearest to `PLACES` in a square of ``side`` pixels.

    Least squares over the three points. It neither mirrors nor shears.
    """
    source = three_points(landmarks).astype(np.float64) @ [1.0, 1j]
    target = PLACES.astype(np.float64) @ [1.0, 1j] * (side / SIDE)
    centred = source - source.mean()
    turn = (centred.conj() * (target - target.mean())).sum() / (abs(centred) ** 2).sum()
    shift = target.mean() - turn * source.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]], np.float32)


def moved(points: Floats, into: Floats) -> Floats:
    """Points ``(N, 2)`` by a similarity ``(2, 3)``."""
    placed: Floats = points @ into[:, :2].T + into[:, 2]
    return placed


def cut(picture: NDArray[np.float32], into: Floats, side: int) -> NDArray[np.float32]:
    """The aligned square ``(side, side, C)`` of ``(H, W, C)``; beyond its border the picture is mirrored."""
    scale = float(np.hypot(into[0, 0], into[1, 0]))
    if scale < 0.5:  # bilinear sampling would skip pixels
        sigma = 0.4 / scale
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)
    square = cv2.warpAffine(
        picture, into, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(square, np.float32)


def pasted(photo: NDArray[np.float32], change: NDArray[np.float32], into: Floats) -> NDArray[np.float32]:
    """The photo ``(H, W, 3)`` with the ``change`` of its aligned square, ``(side, side, 3)``, added at its place.

    Only the change is scaled, so that the photo keeps its own detail. It fades out towards the square's border.
    """
    height, width = photo.shape[:2]
    side = change.shape[0]
    ramp = np.clip((np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / (_BORDER * side), 0.0, 1.0)
    window = np.minimum(ramp[:, None], ramp[None]).astype(np.float32)[..., None]
    placed = cv2.warpAffine(
        change * window, cv2.invertAffineTransform(into), (width, height), flags=cv2.INTER_CUBIC
    )
    pasted_photo: NDArray[np.float32] = (photo + placed).clip(0.0, 1.0)
    return pasted_photo
