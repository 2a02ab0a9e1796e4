"""How a head is photographed: pose, camera, light and exposure, drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from afterlens.training.faces.heads.meshes import Floats


@dataclass(frozen=True)
class Scene:
    """One photo of a head.

    Attributes:
        yaw, pitch: of the head, radians. Its roll is undone by the alignment.
        distance: of the camera from the middle of the head, decimetres.
        turn, scale, shift: how far the aligned square is off: radians, a factor, pixels of a square of 256.
        key: direction of the key light, a unit vector towards it.
        brightness, ambient: of the key light and of the light from all around.
        warmth: of the key light; above zero it is redder.
        exposure, saturation: factors.
        noise: standard deviation of the sensor's noise, of 1.
        blur: standard deviation of the lens's blur in pixels.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    distance: float = 10.0
    turn: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    key: tuple[float, float, float] = (0.35, 0.5, 0.79)
    brightness: float = 0.9
    ambient: float = 0.5
    warmth: float = 0.0
    exposure: float = 1.0
    saturation: float = 1.0
    noise: float = 0.0
    blur: float = 0.0


def sample_scene(rng: Generator) -> Scene:
    """A photo as people take them: mostly frontal, from an arm's length to a portrait's distance."""
    around, above = rng.uniform(-1.4, 1.4), rng.uniform(-0.2, 1.1)
    return Scene(
        yaw=float(np.clip(rng.normal(0.0, 0.30), -0.75, 0.75)),
        pitch=float(np.clip(rng.normal(0.0, 0.13), -0.35, 0.35)),
        distance=math.exp(rng.uniform(math.log(4.5), math.log(15.0))),
        turn=rng.normal(0.0, 0.04),
        scale=math.exp(rng.normal(0.0, 0.04)),
        shift=(rng.normal(0.0, 2.0), rng.normal(0.0, 2.0)),
        key=(math.sin(around) * math.cos(above), math.sin(above), math.cos(around) * math.cos(above)),
        brightness=rng.uniform(0.5, 1.2),
        ambient=rng.uniform(0.35, 0.8),
        warmth=rng.normal(0.0, 0.08),
        exposure=math.exp(rng.normal(0.0, 0.12)),
        saturation=rng.uniform(0.85, 1.1),
        noise=rng.uniform(0.0, 0.02) if rng.random() < 0.7 else 0.0,
        blur=rng.uniform(0.3, 0.9) if rng.random() < 0.5 else 0.0,
    )


def rotation(scene: Scene) -> Floats:
    """``(3, 3)``: turns the head by its yaw, then by its pitch."""
    cy, sy, cp, sp = math.cos(scene.yaw), math.sin(scene.yaw), math.cos(scene.pitch), math.sin(scene.pitch)
    around = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    nod = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    return (nod @ around).astype(np.float32)


def projected(vertices: Floats, middle: Floats, scene: Scene) -> tuple[Floats, Floats, Floats]:
    """A pinhole camera before the head: points ``(V, 2)`` (y down), distances ``(V,)``, turned vertices ``(V, 3)``."""
    turned = (vertices - middle) @ rotation(scene).T
    distances = scene.distance - turned[:, 2]
    points = turned[:, :2] * [1.0, -1.0] / np.maximum(distances, 1e-3)[:, None]
    return points.astype(np.float32), distances.astype(np.float32), turned.astype(np.float32)
