"""Lays a beard on a face by its landmarks, as an app does it: strands on a mesh, in a light of their own.

    laid = lay_beard(square, landmarks, AMOUNTS["full"])

The strands are grown once, on the mean head, and drawn on the face's mesh: so they stay where they are from frame to
frame, and on a phone they are a texture. Light, blur and edges are left to the network, which is trained on exactly this
(`afterlens.training.beard.synthesis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from afterlens.training.faces.align import SIDE, alignment, moved
from afterlens.training.faces.beards import Growth, grow, grow_amounts
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.heads.meshes import Ints
from afterlens.training.faces.mesh import drawn, face_mesh
from afterlens.training.faces.pose import pose
from afterlens.training.faces.regions import OVAL, polygon

_BROWS = ([70, 63, 105, 66, 107, 55, 65, 52, 53, 46], [300, 293, 334, 296, 336, 285, 295, 282, 283, 276])
_BEYOND = 0.35  # how far the mesh goes on around the face, over the distance from its middle: a beard hangs over the chin
_SEED = 11  # of the strands that `lay_beard` draws: none is grey, none is coarse


def grown_on_mean_head(kind: str, rng: np.random.Generator, hair: Floats | None = None) -> Growth:
    """`grow` on the mean head, in a square of 256 pixels."""
    return grow(mean_landmarks(), SIDE, kind, rng, hair)


def laid(growth: Growth, landmarks: Floats, side: int) -> Growth:
    """What was grown on the mean head, on a face with landmarks ``(468, 2)`` in pixels of a square."""
    layers = np.stack([growth.coverage, growth.coverage * growth.tone, growth.shadow], axis=2)
    corners, points, triangles = _with_ring(mean_landmarks()), _with_ring(landmarks), _triangles()
    mean = face_mesh().points
    depths = pose(mean, landmarks).depths(mean)
    depths = np.concatenate([depths, depths[OVAL]])
    picture, triangle = drawn(layers, corners, points, depths - depths.min() + 1.0, triangles, side)
    coverage, bright, shadow = (picture * (triangle >= 0)[..., None]).transpose(2, 0, 1)
    tone = np.where(coverage > 1e-3, bright / np.maximum(coverage, 1e-3), 1.0)
    return Growth(coverage, tone.astype(np.float32), shadow, growth.colour, growth.amounts)


def lay_beard(picture: Floats, landmarks: Floats, amounts: Sequence[float]) -> Floats:
    """An aligned face ``(side, side, 3)`` with a beard of the colour of its brows laid on; a picture of the same size.

    Args:
        landmarks: ``(468, 2)`` in its pixels.
        amounts: how much hair above the lip, on the chin and on the cheeks, each 0 to 1.
    """
    if max(amounts) <= 0.0:
        return picture
    strands = _strands(tuple(amounts))
    growth = laid(strands, landmarks, picture.shape[0])
    coloured = Growth(
        growth.coverage, growth.tone, growth.shadow, brow_colour(picture, landmarks), growth.amounts
    )
    return coloured.in_light(picture, 1.0).over(picture)


def brow_colour(picture: Floats, landmarks: Floats) -> Floats:
    """Mean colour ``(3,)`` of the darkest eighth of the brows, where hair is and no skin shows."""
    side = picture.shape[0]
    brows = np.max([polygon(landmarks, part, side) for part in _BROWS], axis=0) > 0.5
    if brows.sum() < 8:
        return np.array([0.2, 0.15, 0.1], np.float32)  # outside of the picture; brown
    pixels = picture[brows]
    grey = pixels.mean(axis=1)
    colour: Floats = pixels[grey <= np.quantile(grey, 0.125)].mean(axis=0).clip(0.02, 0.9)
    return colour.astype(np.float32)


@lru_cache(maxsize=1)
def mean_landmarks() -> Floats:
    """Landmarks ``(468, 2)`` of the mean head, seen from the front, in an aligned square of 256 pixels."""
    seen = face_mesh().points[:, :2]
    return moved(seen, alignment(seen, SIDE)).astype(np.float32)


@lru_cache(maxsize=16)
def _strands(amounts: tuple[float, ...]) -> Growth:
    black = np.full(3, 0.1, np.float32)  # the colour comes later; no strand is grey
    return grow_amounts(mean_landmarks(), SIDE, amounts, black, np.random.default_rng(_SEED))


def _with_ring(landmarks: Floats) -> Floats:
    """Landmarks, and after them those of the face's rim, moved away from its middle: ``(468 + 36, 2)``."""
    rim = landmarks[OVAL]
    return np.concatenate([landmarks, rim + _BEYOND * (rim - rim.mean(axis=0))]).astype(np.float32)


@lru_cache(maxsize=1)
def _triangles() -> Ints:
    """The face's triangles, and those between its rim and the ring around it."""
    rim = np.array(OVAL)
    ring = 468 + np.arange(len(rim))
    after, ring_after = np.roll(rim, -1), np.roll(ring, -1)
    around = np.concatenate([np.stack([rim, after, ring]).T, np.stack([after, ring_after, ring]).T])
    mesh = face_mesh().triangles
    corners = _with_ring(mean_landmarks())[around]
    (ux, uy), (vx, vy) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    wrong = ux * vy - uy * vx > 0  # triangles are seen from one side only
    around[wrong] = around[wrong][:, ::-1]
    return np.concatenate([mesh, around]).astype(np.int32)
