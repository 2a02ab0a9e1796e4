"""Draws beards on faces: strands as shaded curves over a shadow on the skin, with the exact mask of what they cover.

beard = draw_beard(square, landmarks, "full", np.random.default_rng(7))
worn = beard.over(square)                    # square * (1 - mask) + colour

A drawn beard is what a network can learn to remove exactly: the face below it is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from afterlens.training.faces.align import three_points
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.heads.identity import HAIR
from afterlens.training.faces.regions import beard_regions, face_mask, scale_of

CLASSES = ("none", "stubble", "moustache", "goatee", "full")

AMOUNTS: dict[str, tuple[float, float, float]] = {
    "none": (0.0, 0.0, 0.0),
    "stubble": (0.35, 0.35, 0.35),
    "moustache": (1.0, 0.0, 0.0),
    "goatee": (1.0, 1.0, 0.0),
    "full": (1.0, 1.0, 1.0),
}
"""How much hair of each class there is above the lip, on the chin and on the cheeks, 0 to 1."""

_FREQUENT = np.array([0.26, 0.24, 0.18, 0.08, 0.05, 0.05, 0.09, 0.05])  # of HAIR
_SAMPLES = 2  # a pixel's side, for strands thinner than a pixel
_BATCHES = 24  # groups of strands with a tone of their own
_LENGTHS = ((2.0, 6.0), (3.0, 9.0), (5.0, 14.0), (8.0, 24.0))  # in units of the face, see `scale_of`


@dataclass(frozen=True)
class Beard:
    """A beard by itself.

    Attributes:
        mask: ``(side, side)``, how much of each pixel it covers, 0 to 1, the shadow on the skin included.
        colour: ``(side, side, 3)``, its colour times its mask.
        amounts: how much hair there is above the lip, on the chin and on the cheeks, as in `AMOUNTS`.
    """

    mask: Floats
    colour: Floats
    amounts: tuple[float, float, float]

    def over(self, picture: Floats) -> Floats:
        """A picture ``(side, side, 3)`` with the beard on it."""
        worn: Floats = (picture * (1.0 - self.mask[..., None]) + self.colour).clip(0.0, 1.0)
        return worn


@dataclass(frozen=True)
class Growth:
    """A beard before there is light on it.

    Attributes:
        coverage: ``(side, side)``, how much the strands cover of each pixel, 0 to 1.
        tone: ``(side, side)``, how bright they are there; 1: as ``colour``.
        shadow: ``(side, side)``, below the strands: hair too fine to be seen one by one, 0 to 1.
        colour: sRGB ``(3,)``.
        amounts: as in `AMOUNTS`.
    """

    coverage: Floats
    tone: Floats
    shadow: Floats
    colour: Floats
    amounts: tuple[float, float, float]

    def in_light(self, picture: Floats, light: Floats | float) -> Beard:
        """The beard on skin as ``picture`` shows it, in ``light`` (`Beard` says of what form)."""
        under = self.colour * 0.55 * light + picture * 0.25
        strands = (self.colour * self.tone[..., None] * light).clip(0.0, 1.0)
        covered, shadow = self.coverage[..., None], self.shadow[..., None]
        mask = 1.0 - (1.0 - self.shadow) * (1.0 - self.coverage)
        colour = shadow * under * (1.0 - covered) + covered * strands
        return Beard(mask.astype(np.float32), colour.astype(np.float32), self.amounts)


def draw_beard(
    picture: Floats, landmarks: Floats, kind: str, rng: Generator, hair: Floats | None = None
) -> Beard:
    """A beard of a class of `CLASSES` for an aligned face.

    Args:
        picture: ``(side, side, 3)`` RGB [0, 1]; gives the light, the blur and the noise.
        landmarks: ``(468, 2)`` in its pixels.
        hair: colour of the head's hair, sRGB ``(3,)``, which the beard's mostly is near; None: any.
    """
    return photographed(grow(landmarks, picture.shape[0], kind, rng, hair), picture, landmarks, rng)


def grow(landmarks: Floats, side: int, kind: str, rng: Generator, hair: Floats | None = None) -> Growth:
    """Strands of a class of `CLASSES` for landmarks ``(468, 2)`` in a square; ``hair`` as for `draw_beard`."""
    if kind == "none":
        return _nothing(side)
    regions = beard_regions(landmarks, side)
    density, amounts = _density(regions, kind, rng)
    if density.max() < 0.05:
        return _nothing(side)
    return _grown(landmarks, regions, density, amounts, kind == "stubble", _hair_colour(hair, rng), rng)


def photographed(growth: Growth, picture: Floats, landmarks: Floats, rng: Generator) -> Beard:
    """The beard as it would look on an aligned face: in its light, with its blur and its noise."""
    light = _light(picture, landmarks, scale_of(landmarks))[..., None]
    lit = growth.in_light(picture, light)
    if lit.mask.max() == 0.0:
        return lit
    # The lens blurs hair as it blurs the face, and the sensor's noise lies over both.
    sigma = min(max(edge_blur(picture) * rng.uniform(0.8, 1.1), 0.5), 2.5)
    mask, premultiplied = (cv2.GaussianBlur(part, (0, 0), sigma) for part in (lit.mask, lit.colour))
    grain = rng.normal(0.0, 1.0, picture.shape) * noise_level(picture)
    premultiplied = premultiplied + mask[..., None] * grain
    return Beard(mask.clip(0.0, 1.0).astype(np.float32), premultiplied.astype(np.float32), growth.amounts)


def grow_amounts(
    landmarks: Floats, side: int, amounts: Sequence[float], colour: Floats, rng: Generator
) -> Growth:
    """Strands of any amounts above the lip, on the chin and on the cheeks, each 0 to 1; up to a half of them are stubble."""
    lip, chin, cheeks = amounts
    regions = beard_regions(landmarks, side)
    shares = {"moustache": lip, "corners": lip * chin, "soul": 0.7 * chin, "chin": chin}
    shares |= {"jaw": cheeks, "sides": 0.3 * cheeks}
    density = _density_of(regions, shares, rng.uniform(0.0, 0.3), rng)
    if density.max() < 0.05:
        return _nothing(side)
    short = max(amounts) <= 0.5
    if short:  # hair everywhere, and little of it to be seen
        density = density / max(amounts)
    return _grown(landmarks, regions, density, (lip, chin, cheeks), short, colour, rng)


def _nothing(side: int) -> Growth:
    empty = np.zeros((side, side), np.float32)
    return Growth(empty, empty, empty, np.zeros(3, np.float32), AMOUNTS["none"])


def _grown(
    landmarks: Floats,
    regions: dict[str, Floats],
    density: Floats,
    amounts: tuple[float, float, float],
    short: bool,
    colour: Floats,
    rng: Generator,
) -> Growth:
    """Strands, and the shadow below them, where ``density`` says; ``short``: stubble."""
    side, unit = density.shape[0], scale_of(landmarks)
    grey = min(0.65 / float(colour.max()), 6.0)
    coverage, tone = _strands(density, regions["moustache"], landmarks, short, amounts, grey, rng)
    coverage = coverage * (1.0 - 0.85 * regions["lips"])
    uneven = _patches(side, 24, rng)
    strength = rng.uniform(0.05, 0.4) if short else rng.uniform(0.25, 0.75)
    soft = cv2.GaussianBlur(density, (0, 0), rng.uniform(1.0, 4.0) * unit)
    shadow = (soft * strength * (0.65 + 0.6 * uneven)).clip(0.0, 1.0)
    return Growth(coverage, tone, shadow.astype(np.float32), colour, amounts)


def area_ratio(mask: Floats, landmarks: Floats) -> float:
    """The beard's area over the area of the face that carries it, both in soft pixels."""
    face = np.maximum(face_mask(landmarks, mask.shape[0]), mask)
    return float(mask.sum() / max(face.sum(), 1.0))


def edge_blur(picture: Floats) -> float:
    """Standard deviation of a picture's blur in pixels, from its sharpest edges (Zhuo and Sim, Pattern Recognition 2011).

    Blurring once more with a known sigma weakens a sharp edge more than a soft one.
    """
    known = 1.0
    grey = picture.mean(axis=2).astype(np.float32)
    first, second = (_gradient(layer) for layer in (grey, cv2.GaussianBlur(grey, (0, 0), known)))
    edges = first >= np.quantile(first, 0.97)
    # Not the median: beside the middle of an edge the ratio is smaller.
    ratio = np.quantile(first[edges] / np.maximum(second[edges], 1e-6), 0.8)
    return float(known / math.sqrt(max(ratio**2 - 1.0, 0.05)))


def noise_level(picture: Floats) -> float:
    """Standard deviation of a picture's noise (Immerkær, Computer Vision and Image Understanding 1996)."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(picture.mean(axis=2).astype(np.float32), cv2.CV_32F, mask)
    # The median: edges answer, too. The mean of three channels has less noise than each by the root of 3.
    return float(np.median(abs(response)) / 0.6745 / 6.0 * math.sqrt(3.0))


def _gradient(grey: Floats) -> Floats:
    """Differences of neighbours, ``(H - 1, W - 1)``: a wider operator, such as Sobel's, would itself blur."""
    magnitude: Floats = np.hypot(grey[:-1, 1:] - grey[:-1, :-1], grey[1:, :-1] - grey[:-1, :-1])
    return magnitude


def _patches(side: int, cells: int, rng: Generator) -> Floats:
    """A random smooth map ``(side, side)``, about 0 to 1."""
    cell = rng.random((cells, cells)).astype(np.float32)
    smooth: Floats = cv2.resize(cell, (side, side), interpolation=cv2.INTER_CUBIC)
    return smooth


def _density(
    regions: dict[str, Floats], kind: str, rng: Generator
) -> tuple[Floats, tuple[float, float, float]]:
    """Where hair grows, ``(side, side)``, and the amounts above the lip, on the chin and on the cheeks."""
    shares: dict[str, float] = {}
    amounts = AMOUNTS[kind]
    if kind == "moustache":
        shares = {"moustache": rng.uniform(0.8, 1.0), "corners": rng.uniform(0.0, 0.6) * (rng.random() < 0.3)}
    elif kind == "goatee":
        shares = {"chin": rng.uniform(0.8, 1.0), "soul": rng.uniform(0.3, 1.0)}
        if rng.random() < 0.75:
            shares |= {"moustache": rng.uniform(0.6, 1.0), "corners": rng.uniform(0.5, 1.0)}
        else:
            amounts = (0.0, *amounts[1:])
    else:
        shares = {
            "jaw": rng.uniform(0.8, 1.0),
            "chin": 1.0,
            "moustache": rng.uniform(0.7, 1.0),
            "corners": rng.uniform(0.6, 1.0),
            "soul": rng.uniform(0.3, 1.0),
            "sides": rng.uniform(0.0, 0.45),
        }
    return _density_of(regions, shares, rng.uniform(0.0, 0.6), rng), amounts


def _density_of(
    regions: dict[str, Floats], shares: dict[str, float], uneven: float, rng: Generator
) -> Floats:
    """The densest of the regions' shares, thinned in places by up to ``uneven``; none on the lips."""
    density = np.max([regions[name] * share for name, share in shares.items()], axis=0)
    patchy = 1.0 - uneven * _patches(density.shape[0], 10, rng)
    grown: Floats = (density * patchy.clip(0.0, 1.0) * (1.0 - regions["lips"])).clip(0.0, 1.0)
    return grown.astype(np.float32)


def _hair_colour(hair: Floats | None, rng: Generator) -> Floats:
    if hair is None or rng.random() < 0.25:
        hair = HAIR[rng.choice(len(HAIR), p=_FREQUENT / _FREQUENT.sum())]
    colour: Floats = (hair * np.exp(rng.normal(0.0, 0.2)) * np.exp(rng.normal(0.0, 0.06, 3))).clip(0.02, 0.9)
    return colour.astype(np.float32)


def _light(picture: Floats, landmarks: Floats, unit: float) -> Floats:
    """How bright the light is on each part of the face, over its median there, ``(side, side)``."""
    grey = cv2.GaussianBlur(picture.mean(axis=2).astype(np.float32), (0, 0), 10.0 * unit)
    inside = face_mask(landmarks, picture.shape[0]) > 0.5
    median = float(np.median(grey[inside])) if inside.any() else float(grey.mean())
    # Dark skin in bright light and bright skin in the dark look alike, but their hair does not: half way is a compromise.
    exposure = float(np.clip(math.sqrt(max(median, 0.02) / 0.45), 0.5, 1.3))
    light: Floats = (grey / max(median, 0.02)).clip(0.4, 1.6) * exposure
    return light


def _strands(
    density: Floats,
    moustache: Floats,
    landmarks: Floats,
    short: bool,
    amounts: tuple[float, float, float],
    grey: float,
    rng: Generator,
) -> tuple[Floats, Floats]:
    """How much the strands cover of each pixel, and how bright they are there, both ``(side, side)``.

    ``grey`` is how much brighter than the others grey strands are.
    """
    side, unit = density.shape[0], scale_of(landmarks)
    if short:
        count, lengths, opacity, width = rng.uniform(4000, 12000), (1.0, 3.5), rng.uniform(0.3, 0.75), 1
    else:
        of_cheeks, of_chin = amounts[2], amounts[1]
        count = rng.uniform(6000, 16000) * (0.3 + 0.3 * of_chin + 0.4 * of_cheeks)
        lengths = _LENGTHS[rng.choice(4, p=[0.35, 0.35, 0.2, 0.1])]
        opacity, width = rng.uniform(0.45, 0.95), 1 if rng.random() < 0.8 else 2
    curves = _curves(density, moustache, landmarks, int(count * unit**2), lengths, rng)
    fixed_point = np.rint(curves * _SAMPLES * 16).astype(np.int32)
    covered = np.zeros((side * _SAMPLES,) * 2, np.float32)
    bright = np.zeros_like(covered)
    spread = rng.uniform(0.15, 0.5)
    share = rng.uniform(0.0, 0.5) if rng.random() < 0.3 else 0.0  # of grey strands
    for part in np.array_split(rng.permutation(len(curves)), _BATCHES):
        drawn = np.zeros(covered.shape, np.uint8)
        cv2.polylines(drawn, list(fixed_point[part]), False, (255,), width, cv2.LINE_AA, 4)
        here = drawn.astype(np.float32) / 255.0 * opacity
        tone = math.exp(rng.normal(0.0, spread)) * (grey if rng.random() < share else 1.0)
        bright = bright * (1.0 - here) + here * tone
        covered = covered * (1.0 - here) + here
    opaque, tones = (
        cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) for layer in (covered, bright)
    )
    return opaque, (tones / np.maximum(opaque, 1e-3)).clip(0.3, 8.0)


def _curves(
    density: Floats,
    moustache: Floats,
    landmarks: Floats,
    count: int,
    lengths: tuple[float, float],
    rng: Generator,
) -> Floats:
    """Strands of five points each, ``(count, 5, 2)``: they grow downwards and away from the middle."""
    side, unit = density.shape[0], scale_of(landmarks)
    chance = density.ravel().astype(np.float64) ** 1.2
    root = rng.choice(side * side, size=count, p=chance / chance.sum())
    roots = np.stack([root % side, root // side], axis=1) + rng.random((count, 2))
    eyes_and_mouth = three_points(landmarks)
    mouth = eyes_and_mouth[2]
    down = mouth - eyes_and_mouth[:2].mean(axis=0)
    down = down / max(float(np.linalg.norm(down)), 1e-6)
    across = np.array([down[1], -down[0]])
    aside = (roots - mouth) @ across / unit
    above_lip = moustache[root // side, root % side] > 0.4
    lean = np.where(above_lip, np.sign(aside) * np.clip(abs(aside) / 12.0, 0.2, 1.0) * 1.1, aside / 100.0)
    angle = np.arctan(lean) + rng.normal(0.0, 0.28, count)
    direction = down * np.cos(angle)[:, None] + across * np.sin(angle)[:, None]
    # Longest on the chin; a beard is trimmed, or thinner, towards the ears.
    length = rng.uniform(*lengths, count) * unit * (1.0 - 0.7 * np.clip(abs(aside) / 60.0, 0.0, 1.0))
    bend = rng.normal(0.0, 0.35, count) * length
    beside = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    along = np.linspace(0.0, 1.0, 5)[None, :, None]
    curves: Floats = (
        roots[:, None]
        + direction[:, None] * length[:, None, None] * along
        + beside[:, None] * bend[:, None, None] * along**2
    )
    return curves
