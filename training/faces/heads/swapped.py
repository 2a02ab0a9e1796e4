"""Puts one rendered person's face on another's head: the exact answer to an identity swap.

    target = swapped(studio, first, source)      # a `Person`: first's head and hair, source's face

Rendered with the pose, the expression, the light and the clothes of a portrait of ``first``, it is what a swap should make
of that portrait. Claim: triplets of source, first and target (docs/claims.md).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from afterlens.training.faces.heads.meshes import Floats
from afterlens.training.faces.heads.raster import ZBuffer
from afterlens.training.faces.heads.render import Person, Studio

_TONE = 0.7
"""How far the skin's mean colour is brought to that of the head it is put on: the neck stays."""

_UV_SIDE = 512  # pixels, of the mask in the skin's texture


def swapped(studio: Studio, first: Person, source: Person) -> Person:
    """The head and hair of ``first`` with the shape, the skin, the brows, the lashes and the eyes of ``source``."""
    weights = face_weights(studio)
    moved = _fitted(studio, source.vertices, first.vertices) - first.vertices
    vertices = first.vertices + weights[:, None] * moved
    identity = replace(
        first.identity,
        iris=source.identity.iris,
        eyebrows=source.identity.eyebrows,
        eyelashes=source.identity.eyelashes,
    )
    mask = _in_texture(studio, weights, first.skin.shape[0], first.skin.shape[1])
    return Person(identity, vertices.astype(np.float32), _blended(first.skin, source.skin, mask))


def _fitted(studio: Studio, source: Floats, first: Floats) -> Floats:
    """The source's vertices, scaled and shifted so that the landmarks of both heads lie nearest: no photo shows a size."""
    own, wanted = studio.anchors.on(source), studio.anchors.on(first)
    centred = own - own.mean(axis=0)
    scale = float((centred * (wanted - wanted.mean(axis=0))).sum() / (centred**2).sum())
    fitted: Floats = (source - own.mean(axis=0)) * scale + wanted.mean(axis=0)
    return fitted


def face_weights(studio: Studio) -> Floats:
    """``(V,)`` in [0, 1]: 1 on the front of the face, falling to 0 towards ears, skull and neck."""
    base = studio.assets.base.vertices
    x, y, z = abs(base[:, 0]), base[:, 1], base[:, 2]
    level = studio.assets.eyes.on(base)[:, 1].mean()

    def rising(low: float, high: float, values: Floats) -> Floats:
        share = ((values - low) / (high - low)).clip(0.0, 1.0)
        smooth: Floats = share * share * (3.0 - 2.0 * share)
        return smooth

    weights: Floats = (
        (1.0 - rising(0.52, 0.80, x))
        * rising(level - 1.25, level - 0.95, y)
        * (1.0 - rising(level + 0.50, level + 0.85, y))
        * rising(0.35, 0.75, z)
    )
    return weights.astype(np.float32)


def _in_texture(studio: Studio, weights: Floats, height: int, width: int) -> Floats:
    """The vertices' weights as a picture of the skin's texture, ``(height, width, 1)``."""
    skin = studio.skin
    points = skin.uv * [1.0, -1.0] + [0.0, 1.0]
    buffer = ZBuffer(_UV_SIDE)
    buffer.draw((points * _UV_SIDE).astype(np.float32), np.ones(len(points), np.float32), skin.uv_faces)
    mask = (weights[skin.faces[buffer.triangle]] * buffer.weights).sum(axis=2) * (buffer.layer >= 0)
    mask = cv2.GaussianBlur(cv2.dilate(mask.astype(np.float32), np.ones((3, 3))), (0, 0), 2.0)
    return np.asarray(cv2.resize(mask, (width, height)), np.float32)[..., None]


def _blended(first: Floats, source: Floats, mask: Floats) -> Floats:
    if source.shape != first.shape:
        source = cv2.resize(source, first.shape[1::-1], interpolation=cv2.INTER_AREA)
    share = mask / mask.sum()
    gain = ((first * share).sum(axis=(0, 1)) / (source * share).sum(axis=(0, 1)).clip(1e-3)) ** _TONE
    skin: Floats = first * (1.0 - mask) + (source * gain).clip(0.0, 1.0) * mask
    return skin.astype(np.float32)
