"""Known motion: how a layer of a scene moves, where it was one frame ago, and how it blurs during the exposure.

    trajectory = random_trajectory(rng, (128, 128), length=12.0, exposure=0.5)
    trajectory.at(-1.0)                          # homography: from the frame at time 0 to the frame before it
    blur_covariance(trajectory, points, exposure=0.5)      # second moments of the blur kernel at each point

Time is in frames: 0 is the middle of the current exposure, -1 the middle of the previous one. A trajectory is that of
the camera (translation, roll, zoom and tilt, which make a homography of the picture) or of an object. It is the
identity at time 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]

SAMPLES = 9  # times within the exposure at which second moments and distances are measured


@dataclass(frozen=True)
class Trajectory:
    """A smooth trajectory of homographies: constant velocity plus sine waves, in six parameters.

    The parameters are the translations in x and y in pixels, the roll in radians, the logarithm of the zoom, and the
    tilts in x and y: half a picture away from the centre, a tilt changes the scale by about ``2 * tilt``.

    Attributes:
        size: (height, width) of the frame; roll, zoom and tilt are about its centre.
        velocity: (6,), per frame.
        waves: (n, 6) amplitudes.
        frequencies, phases: (n,), in cycles per frame and radians.
    """

    size: tuple[int, int]
    velocity: Array
    waves: Array
    frequencies: Array
    phases: Array

    @property
    def moves(self) -> bool:
        """False for a layer that never moves."""
        return bool(self.velocity.any() or self.waves.any())

    def at(self, time: float) -> Array:
        """The homography (3, 3) from a point of the frame at time 0 to its position at ``time``."""
        height, width = self.size
        angles = 2.0 * math.pi * self.frequencies
        swing = np.sin(angles * time + self.phases) - np.sin(self.phases)
        x, y, roll, zoom, tilt_x, tilt_y = self.velocity * time + swing @ self.waves
        scale = math.exp(zoom)
        c, s = scale * math.cos(roll), scale * math.sin(roll)
        centre_x, centre_y = (width - 1) / 2.0, (height - 1) / 2.0
        half = max(width, height) / 2.0
        to_centre = np.array([[1.0, 0.0, -centre_x], [0.0, 1.0, -centre_y], [0.0, 0.0, 1.0]])
        back = np.array([[1.0, 0.0, centre_x + x], [0.0, 1.0, centre_y + y], [0.0, 0.0, 1.0]])
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [tilt_x / half, tilt_y / half, 1.0]])
        result: Array = back @ turn @ to_centre
        return result


def still(size: tuple[int, int]) -> Trajectory:
    """The trajectory of a layer that does not move."""
    return Trajectory(size, np.zeros(6), np.zeros((0, 6)), np.zeros(0), np.zeros(0))


def random_trajectory(rng: Generator, size: tuple[int, int], length: float, exposure: float) -> Trajectory:
    """A trajectory that blurs the middle of the picture over about ``length`` pixels within ``exposure`` frames.

    Seven in ten are steady (a pan, a passing car). The others are hand shake: waves of 0.4 to 1.5 cycles per exposure,
    so that the blur is curved and the optical flow from the previous frame says little about it.
    """
    height, width = size
    half = max(height, width) / 2.0
    shaken = rng.random() < 0.3
    steady = rng.uniform(0.2, 0.9) if shaken else 1.0
    angle = rng.uniform(0.0, 2.0 * math.pi)
    speed = steady * length / exposure
    velocity = np.zeros(6)
    velocity[:2] = speed * math.cos(angle), speed * math.sin(angle)
    # Half a picture away from the centre, these move a point by up to half of what the translation does.
    velocity[2:4] = rng.uniform(-0.5, 0.5, 2) * length / exposure / half
    velocity[4:] = rng.uniform(-0.15, 0.15, 2) * length / exposure / half
    if not shaken:
        return Trajectory(size, velocity, np.zeros((0, 6)), np.zeros(0), np.zeros(0))
    count = 3
    waves = rng.normal(0.0, 1.0, (count, 6)) * (1.0 - steady) * length * 0.5
    waves[:, 2:] *= 0.3 / half
    frequencies = rng.uniform(0.4, 1.5, count) / exposure
    return Trajectory(size, velocity, waves, frequencies, rng.uniform(0.0, 2.0 * math.pi, count))


def exposure_times(middle: float, exposure: float, count: int) -> list[float]:
    """The middles of ``count`` equal parts of an exposure of ``exposure`` frames around ``middle``."""
    return [middle + exposure * ((index + 0.5) / count - 0.5) for index in range(count)]


def moved(homography: Array, points: Array) -> Array:
    """Apply a homography (3, 3) to points (..., 2), x and y."""
    whole = points @ homography[:, :2].T + homography[:, 2]
    result: Array = whole[..., :2] / whole[..., 2:]
    return result


def flow(trajectory: Trajectory, points: Array) -> Array:
    """Displacements (..., 2) in pixels from points of the current frame to their positions in the previous one."""
    return moved(trajectory.at(-1.0), points) - points


def blur_covariance(trajectory: Trajectory, points: Array, exposure: float) -> Array:
    """Covariance of the blur kernels at points (..., 2) of the current frame, as (..., 3) in pixels.

    With ``[[xx, xy], [xy, yy]]`` the covariance of a point's positions during the exposure, the three numbers are the
    extent ``e = sqrt(xx + yy)``, which is ``L / sqrt(12)`` for straight, uniform motion over a length L, and the
    direction at twice its angle (a blur has no sign), ``(xx - yy) / e`` and ``2 xy / e``. The direction is shorter
    than ``e`` where the trajectory is curved.
    """
    places = np.stack([moved(trajectory.at(time), points) for time in exposure_times(0.0, exposure, SAMPLES)])
    offsets = places - places.mean(axis=0)
    # The variance of nine points is smaller than that of the continuous trajectory which they sample.
    xx, yy, xy = (
        (offsets[..., i] * offsets[..., j]).mean(axis=0) * SAMPLES**2 / (SAMPLES**2 - 1)
        for i, j in ((0, 0), (1, 1), (0, 1))
    )
    extent = np.sqrt(xx + yy)
    safe = np.maximum(extent, 1e-9)
    return np.stack((extent, (xx - yy) / safe, 2.0 * xy / safe), axis=-1)


def longest_distance(trajectory: Trajectory, exposure: float, middle: float) -> float:
    """The longest distance, in pixels, that a corner travels during the exposure."""
    height, width = trajectory.size
    # No other point goes further, but for what a tilt bends: the length of a point's path is convex in where it is.
    corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)], float)
    places = np.stack(
        [moved(trajectory.at(time), corners) for time in exposure_times(middle, exposure, SAMPLES)]
    )
    distance = np.linalg.norm(np.diff(places, axis=0), axis=-1).sum(axis=0).max() * SAMPLES / (SAMPLES - 1)
    return float(distance)
