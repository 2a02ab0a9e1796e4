"""What heads wear besides hair: a shirt with a collar, and glasses. Drawn from simple curves; no assets are needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator

from afterlens.training.faces.heads.meshes import Floats, Ints, Mesh, vertex_normals

_LOWEST = 4.0  # decimetres; a portrait shows nothing of what lies below

Collar = Literal["none", "crew", "high", "shirt"]

_PROFILES: dict[Collar, tuple[tuple[float, float], ...]] = {
    "crew": ((0.01, 0.0), (0.05, -0.03), (0.14, -0.14)),
    "high": ((0.14, -0.25), (0.07, -0.02), (0.06, 0.18)),
    "shirt": ((0.05, -0.1), (0.06, 0.12), (0.12, 0.12), (0.3, -0.16)),
}
"""From the neck outwards: (distance from the neckline, height over it), decimetres."""


@dataclass(frozen=True)
class Surface:
    """Triangles with a texture ``(H, W, C)`` laid over them by ``uv``, one place a vertex."""

    vertices: Floats
    faces: Ints
    uv: Floats
    texture: Floats


def cloth(rng: Generator) -> Floats:
    """A fabric of one colour, striped or checked, ``(128, 128, 3)`` sRGB."""
    base = np.clip(rng.uniform(0.03, 0.9) * np.exp(rng.normal(0.0, 0.35, 3)), 0.02, 0.95)
    other = np.clip(base * np.exp(rng.normal(0.0, 0.6, 3)), 0.02, 0.95)
    wave = np.sin(np.arange(128) / 128 * 2 * math.pi * rng.integers(3, 14)) > rng.uniform(-0.6, 0.8)
    kind = rng.integers(4)
    pattern = {1: wave[:, None] | np.zeros((1, 128), bool), 2: wave[:, None] ^ wave[None]}.get(
        int(kind), np.zeros((128, 128), bool)
    )
    weave = 1.0 + rng.normal(0.0, 0.06, (128, 128, 1))
    return (np.where(pattern[..., None], other, base) * weave).clip(0.0, 1.0).astype(np.float32)


def shirt(garment: Mesh, vertices: Floats, rng: Generator) -> Surface:
    """The upper part of a close garment, a little loose."""
    faces = garment.faces[(vertices[garment.faces][:, :, 1] > _LOWEST).all(axis=1)]
    loose = vertices + vertex_normals(vertices, garment.faces) * rng.uniform(0.02, 0.08)
    return Surface(loose.astype(np.float32), faces, vertices[:, :2] * np.float32(0.3), cloth(rng))


def neckline(garment: Mesh) -> Ints:
    """The vertices around the garment's opening for the neck: corners of edges that have one triangle only."""
    edges = np.sort(garment.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    single, count = np.unique(edges, axis=0, return_counts=True)
    border = np.unique(single[count == 1])
    heights = garment.vertices[border, 1]
    around: Ints = border[heights > heights.max() - 0.8]  # sleeves and legs are open, too
    return around


def collar(kind: Collar, neck: Floats, rng: Generator) -> Surface:
    """A collar along the vertices of the neckline ``(V, 3)``."""
    middle = (neck.min(axis=0) + neck.max(axis=0)) / 2
    offset = neck - middle
    own = np.arctan2(offset[:, 0], offset[:, 2])  # from the front to the person's left
    order = np.argsort(own)
    gap = rng.uniform(0.1, 0.4) if kind == "shirt" else 0.0
    around = np.linspace(gap, 2 * math.pi - gap, 49)  # from the front, over the back, to the front
    angle = (around + math.pi) % (2 * math.pi) - math.pi
    radius, height = (
        np.interp(angle, own[order], values[order], period=2 * math.pi)
        for values in (np.hypot(offset[:, 0], offset[:, 2]), neck[:, 1])
    )
    rings = [
        np.stack(
            [
                middle[0] + (radius + out) * np.sin(around),
                height + up,
                middle[2] + (radius + out) * np.cos(around),
            ],
            axis=1,
        )
        for out, up in _PROFILES[kind]
    ]
    return _strip(np.stack(rings), cloth(rng))


def glasses(eyes: Floats, rng: Generator) -> Surface:
    """Two rims, a bridge and two temples before the eyes' vertices ``(V, 3)``."""
    right, left = eyes[eyes[:, 0] < 0], eyes[eyes[:, 0] >= 0]
    apart = float(left[:, 0].mean() - right[:, 0].mean())
    front = float(eyes[:, 2].max()) + rng.uniform(0.12, 0.2)
    level = float(eyes[:, 1].mean()) - rng.uniform(0.0, 0.04)
    wide, tall = apart * rng.uniform(0.36, 0.44), apart * rng.uniform(0.24, 0.38)
    power = rng.uniform(2.0, 4.5)  # 2: an ellipse; more: a rounded rectangle
    angle = np.linspace(0.0, 2 * math.pi, 41)
    c, s = np.cos(angle), np.sin(angle)
    outline = np.stack(
        [np.sign(c) * abs(c) ** (2 / power) * wide, np.sign(s) * abs(s) ** (2 / power) * tall], axis=1
    )
    paths = []
    for side in (-1.0, 1.0):
        centre = side * apart * 0.52
        rim = np.column_stack([outline[:, 0] + centre, outline[:, 1] + level, np.full(41, front)])
        rim[:, 2] -= 0.12 * rim[:, 0] ** 2  # bent around the face
        outer = centre + side * wide
        hinge = np.array([outer, level + 0.5 * tall, front - 0.12 * outer**2])
        ear = np.array([side * apart * 1.32, level + 0.4 * tall, front - 1.2])
        paths += [rim, np.linspace(hinge, ear, 12)]
    inner = apart * 0.52 - wide
    bridge = np.linspace([-inner, level, front], [inner, level, front], 9)
    bridge[:, 1] += 0.04 * np.cos(np.linspace(-1.5, 1.5, 9))
    tubes = [_tube(path, rng.uniform(0.012, 0.02)) for path in (*paths, bridge)]
    colour = np.clip(rng.choice([0.03, 0.08, 0.3, 0.6]) * np.exp(rng.normal(0.0, 0.25, 3)), 0.02, 0.9)
    texture = np.broadcast_to(colour.astype(np.float32), (2, 2, 3)).copy()
    starts = np.cumsum([0, *(len(tube.vertices) for tube in tubes)])
    return Surface(
        np.concatenate([tube.vertices for tube in tubes]),
        np.concatenate([tube.faces + start for tube, start in zip(tubes, starts, strict=False)]).astype(
            np.int32
        ),
        np.concatenate([tube.uv for tube in tubes]),
        texture,
    )


def _strip(rings: Floats, texture: Floats) -> Surface:
    """A sheet over ``(R, N, 3)`` points."""
    rows, columns = rings.shape[:2]
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    v, u = np.mgrid[0:rows, 0:columns].astype(np.float32)
    uv = np.stack([u / 16, v / 8], axis=-1).reshape(-1, 2)
    return Surface(rings.reshape(-1, 3).astype(np.float32), faces.astype(np.int32), uv, texture)


def _tube(path: Floats, radius: float) -> Surface:
    """A thin pipe along ``(N, 3)`` points."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    first = np.cross(along, [0.31, 0.27, 0.91])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    rings = [
        path + radius * (math.cos(angle) * first + math.sin(angle) * second)
        for angle in np.linspace(0.0, 2 * math.pi, 7)
    ]
    return _strip(np.stack(rings), np.zeros((1, 1, 3), np.float32))


def backdrop(photo: Floats | None, side: int, rng: Generator) -> Floats:
    """What is behind a head, ``(side, side, 3)`` sRGB: a random square of a photo, mostly out of focus.

    Without a photo it is a few blurred patches of light.
    """
    if photo is None:
        patches = rng.uniform(0.05, 0.8, (4, 4, 1)) * np.exp(rng.normal(0.0, 0.12, (4, 4, 3)))
        blurred = cv2.resize(patches.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        return blurred.clip(0.0, 1.0)
    height, width = photo.shape[:2]
    part = int(min(height, width) * rng.uniform(0.4, 1.0))
    top, left = int(rng.integers(height - part + 1)), int(rng.integers(width - part + 1))
    square = cv2.resize(
        photo[top : top + part, left : left + part], (side, side), interpolation=cv2.INTER_AREA
    )
    if rng.random() < 0.7:
        square = cv2.GaussianBlur(
            square, (0, 0), side * math.exp(rng.uniform(math.log(0.003), math.log(0.03)))
        )
    behind: Floats = square[:, ::-1] if rng.random() < 0.5 else square
    return behind
