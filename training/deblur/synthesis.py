"""Two blurred frames of a scene in known motion, synthesised from one sharp photo.

    sample = degrade(photo, other, "object", generator)
    sample["input"], sample["previous"]       # blurred frames, (3, H, W), sRGB [0, 1]
    sample["target"]                          # the sharp frame at the middle of the exposure
    sample["motion"]                          # (5, H/4, W/4), exact; see afterlens.training.deblur.network.MOTION
    sample["sharp"]                           # (1, H, W), 1 where nothing moved during the exposure, else 0

The camera moves over a background, and a foreground object may move on its own trajectory. Up to two dozen sharp
frames are averaged in linear light over the exposure, as a sensor does, with highlights above white. Sensor noise,
clipping and the sRGB curve follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator as Rng
from numpy.typing import NDArray
from torch import Generator, Tensor

from afterlens.training.data import uniform
from afterlens.training.deblur.motion import (
    SAMPLES,
    Trajectory,
    blur_covariance,
    exposure_times,
    flow,
    longest_distance,
    random_trajectory,
    still,
)
from afterlens.training.deblur.network import STILL
from afterlens.training.media.light import expand_highlights, to_linear, to_srgb, with_noise

# "shake": the camera moves, and in three of ten samples an object on a trajectory of its own. "object": only an object
# moves. "pan": the camera follows an object, which stays sharp. "sharp": nothing is blurred, whether or not it moves.
KINDS = ("shake", "object", "pan", "sharp")

SHORTEST, LONGEST = 1.5, 12.0  # blur lengths in pixels
FASTEST = 32.0  # pixels per frame
MOST_FRAMES = 24  # averaged per exposure, at most
CELL = 4  # the motion field has one value per 4x4 pixels
Light = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """Linear light (h, w, 3), or (h, w, 4) premultiplied with alpha; larger than the frame by ``margin`` on each side."""

    light: Light
    trajectory: Trajectory
    margin: int


@dataclass(frozen=True)
class Scene:
    """A background, a foreground object or None, and the share of a frame's time during which the shutter is open."""

    background: Layer
    foreground: Layer | None
    exposure: float


def degrade(
    photo: Tensor, other: Tensor, kind: str, generator: Generator, margin: int = 0
) -> dict[str, Tensor]:
    """A random scene of a kind, photographed twice; the result is described at the top of this file.

    Args:
        photo: the background, sharp, sRGB ``(3, H + 2 margin, W + 2 margin)`` [0, 1].
        other: texture of the foreground object, likewise.
        kind: one of ``KINDS``.
        margin: pixels of ``photo`` on each side that may move into the frame; beyond them it is mirrored.

    Raises ``ValueError`` for a kind that is not in ``KINDS``.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of motion {kind!r}: expected one of {', '.join(KINDS)}")
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    scene = random_scene(photo, other, kind, rng, generator, margin)
    # Electrons at white, summed over the sensor pixels and frames that a phone combines into one preview pixel.
    full_well = 3e4 * 10.0 ** uniform(generator, 0.0, 1.0)
    read_noise = uniform(generator, 4.0, 16.0)
    frames = [recorded(average(scene, middle), full_well, read_noise, generator) for middle in (0.0, -1.0)]
    target = torch.from_numpy(composite(scene, 0.0)).permute(2, 0, 1)
    motion, sharp = ground_truth(scene)
    return {
        "input": frames[0],
        "previous": frames[1],
        "target": to_srgb(target.clamp(0.0, 1.0)),
        "motion": torch.from_numpy(motion),
        "sharp": torch.from_numpy(sharp),
    }


def random_scene(
    photo: Tensor, other: Tensor, kind: str, rng: Rng, generator: Generator, margin: int
) -> Scene:
    """Random layers and trajectories of one of ``KINDS``."""
    height, width = photo.shape[1] - 2 * margin, photo.shape[2] - 2 * margin
    size = (height, width)
    exposure = rng.uniform(0.4, 1.0)  # long exposures: motion blur is a problem of dim light
    camera, own = _random_trajectory(rng, size, exposure), _random_trajectory(rng, size, exposure)
    if kind == "sharp":
        # Nothing moves, or the shutter is so fast that nothing is blurred: both must be left unchanged.
        if rng.random() < 0.5:
            camera, own = still(size), still(size)
        else:
            exposure = 0.5 * STILL / FASTEST
    elif kind == "object":
        camera = still(size)
    elif kind == "pan":
        own = still(size)
    with_object = kind in ("object", "pan") or rng.random() < 0.3
    peak, added = uniform(generator, 1.0, 8.0), uniform(generator, 0.0, 0.2)
    knee = uniform(generator, 0.8, 0.97)
    light = expand_highlights(to_linear(photo), knee, peak, added).permute(1, 2, 0).contiguous().numpy()
    foreground = None
    if with_object:
        texture = to_linear(other).permute(1, 2, 0).contiguous().numpy()
        alpha = random_shape(rng, (photo.shape[1], photo.shape[2]), min(size))
        foreground = Layer(np.concatenate((texture * alpha, alpha), axis=2), own, margin)
    return Scene(Layer(light, camera, margin), foreground, exposure)


def _random_trajectory(rng: Rng, size: tuple[int, int], exposure: float) -> Trajectory:
    # Log-uniform: as many blurs of two to four pixels as of four to eight, since most scenes are calm.
    longest = min(LONGEST, FASTEST * exposure)
    length = SHORTEST * (longest / SHORTEST) ** rng.random()
    return random_trajectory(rng, size, length, exposure)


def random_shape(rng: Rng, shape: tuple[int, int], side: int) -> Light:
    """Alpha (h, w, 1), [0, 1], of a smooth blob about the middle, a third to two thirds of ``side`` wide."""
    count = 24
    angles = np.arange(count) * 2.0 * math.pi / count
    radius = np.full(count, rng.uniform(0.17, 0.34) * side)
    for wave in (2, 3, 5):
        radius *= 1.0 + rng.uniform(0.0, 0.25) * np.sin(wave * angles + rng.uniform(0.0, 2.0 * math.pi))
    middle = np.array([shape[1], shape[0]]) / 2.0 + rng.uniform(-0.25, 0.25, 2) * side
    outline = np.stack((np.cos(angles), np.sin(angles)), axis=1) * radius[:, None] + middle
    alpha = np.zeros(shape, np.uint8)
    # Coordinates in sixteenths of a pixel.
    cv2.fillPoly(alpha, [np.rint(outline * 16.0).astype(np.int32)], (255,), lineType=cv2.LINE_AA, shift=4)
    return (alpha.astype(np.float32) / np.float32(255.0))[:, :, None]


def composite(scene: Scene, time: float) -> Light:
    """The sharp frame (H, W, 3) at ``time``: the foreground composited over the background."""
    frame = warped(scene.background, time)
    if scene.foreground is None:
        return frame
    return _over(warped(scene.foreground, time), frame)


def average(scene: Scene, middle: float) -> Light:
    """Mean light (H, W, 3) of an exposure around ``middle``: sharp frames at most about a pixel of motion apart, averaged."""
    layers = [scene.background] + ([scene.foreground] if scene.foreground is not None else [])
    longest = max(longest_distance(layer.trajectory, scene.exposure, middle) for layer in layers)
    times = exposure_times(middle, scene.exposure, max(1, min(MOST_FRAMES, math.ceil(longest))))
    # If only one of the two layers moves, averaging that one is enough.
    if scene.foreground is None or not scene.foreground.trajectory.moves:
        background = _mean(lambda time: warped(scene.background, time), times)
        return background if scene.foreground is None else _over(warped(scene.foreground, middle), background)
    if not scene.background.trajectory.moves:
        foreground = scene.foreground
        return _over(_mean(lambda time: warped(foreground, time), times), warped(scene.background, middle))
    return _mean(lambda time: composite(scene, time), times)


def _mean(frame_at: Callable[[float], Light], times: list[float]) -> Light:
    total = frame_at(times[0]).copy()
    for time in times[1:]:
        cv2.accumulate(frame_at(time), total)
    return total / np.float32(len(times))


def _over(foreground: Light, background: Light) -> Light:
    return background * (1.0 - foreground[:, :, 3:]) + foreground[:, :, :3]


def warped(layer: Layer, time: float) -> Light:
    """A layer at its position at ``time``, cropped to the frame."""
    height, width = layer.trajectory.size
    if not layer.trajectory.moves or time == 0.0:
        return layer.light[layer.margin : layer.margin + height, layer.margin : layer.margin + width]
    shift = np.array([[1.0, 0.0, -layer.margin], [0.0, 1.0, -layer.margin], [0.0, 0.0, 1.0]])
    # Outside an object, alpha is zero; a background continues mirrored.
    border = cv2.BORDER_CONSTANT if layer.light.shape[2] == 4 else cv2.BORDER_REFLECT_101
    moved = cv2.warpPerspective(
        layer.light,
        layer.trajectory.at(time) @ shift,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=border,
    )
    return np.asarray(moved, np.float32)


def ground_truth(scene: Scene) -> tuple[Light, Light]:
    """The motion field (5, H/4, W/4) at mid-exposure, and a mask (1, H, W) that is 1 where the frame is sharp."""
    height, width = scene.background.trajectory.size
    y, x = np.meshgrid(
        np.arange(CELL / 2 - 0.5, height - CELL / 2 + 0.5, CELL),
        np.arange(CELL / 2 - 0.5, width - CELL / 2 + 0.5, CELL),
        indexing="ij",
    )
    points = np.stack((x, y), axis=-1)
    field = _motion(scene.background.trajectory, points, scene.exposure)
    sharp = _sharp(field, height, width)
    if scene.foreground is not None:
        alphas = [
            warped(scene.foreground, time)[:, :, 3] for time in exposure_times(0.0, scene.exposure, SAMPLES)
        ]
        least, most = np.minimum.reduce(alphas), np.maximum.reduce(alphas)
        own = _motion(scene.foreground.trajectory, points, scene.exposure)
        alpha = warped(scene.foreground, 0.0)[:, :, 3]
        inside = cv2.resize(alpha, (field.shape[1], field.shape[0]), interpolation=cv2.INTER_AREA) > 0.5
        # Pixels that the object only partly covered during the exposure are mixtures of both layers.
        own_sharp = _sharp(own, height, width)
        sharp = np.where(most == 0.0, sharp, np.where(least == 1.0, own_sharp, sharp & own_sharp))
        field = np.where(inside[:, :, None], own, field)
    return np.ascontiguousarray(field.transpose(2, 0, 1), np.float32), sharp[None].astype(np.float32)


def _motion(trajectory: Trajectory, points: NDArray[np.float64], exposure: float) -> NDArray[np.float64]:
    return np.concatenate((flow(trajectory, points), blur_covariance(trajectory, points, exposure)), axis=-1)


def _sharp(field: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    still_here = (field[:, :, 2] < STILL).repeat(CELL, axis=0).repeat(CELL, axis=1)
    # If a side is not a multiple of a cell, the last rows and columns repeat their neighbours.
    rows, columns = height - still_here.shape[0], width - still_here.shape[1]
    return np.pad(still_here, ((0, max(0, rows)), (0, max(0, columns))), mode="edge")[:height, :width]


def recorded(light: Light, full_well: float, read_noise: float, generator: Generator) -> Tensor:
    """A recorded frame, sRGB ``(3, H, W)`` [0, 1]: light with sensor noise, clipped and rounded to 8 bits."""
    electrons = torch.from_numpy(light).permute(2, 0, 1).clamp_min(0.0) * full_well
    exposed = with_noise(electrons, read_noise, generator) / full_well
    return to_srgb(exposed.clamp(0.0, 1.0)).mul(255.0).round().div(255.0)
