"""Opening patterns of displays: the transmission of each spot of the panel in front of the camera.

    pattern = random_pattern("pentile", 512, 3.0, generator)      # (512, 512), [0, 1], 3 µm per sample

Every pattern is drawn analytically with antialiased edges, so that it may be rotated and scaled freely. All randomness
comes from the ``torch.Generator`` passed in. ``HELD_OUT_FAMILIES`` are for testing only: no training sample uses them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from afterlens.training.data import uniform

# Periods of panels above a camera in µm: 63 is 400 pixels per inch, 127 the thinned-out region of some phones (200).
_PERIOD = (45.0, 130.0)


def plane(size: int, pitch: float, angle: float = 0.0) -> tuple[Tensor, Tensor]:
    """Coordinates (x, y) in µm of ``(size, size)`` samples ``pitch`` apart, 0 in the middle, rotated by ``angle`` radians."""
    along = (torch.arange(size, dtype=torch.float32) - size // 2) * pitch
    y, x = torch.meshgrid(along, along, indexing="ij")
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def folded(x: Tensor, period: float) -> Tensor:
    """``x`` relative to the middle of its period, in [-period/2, period/2)."""
    return x - period * torch.floor(x / period + 0.5)


def inside(distance: Tensor, pitch: float) -> Tensor:
    """Coverage in [0, 1] from the signed ``distance`` in µm to a shape, positive inside; the edge is one sample wide."""
    return (0.5 + distance / pitch).clamp(0.0, 1.0)


def rectangle(x: Tensor, y: Tensor, width: float, height: float, corner: float) -> Tensor:
    """Signed distance in µm from a centred rectangle with rounded corners of radius ``corner``, positive inside."""
    u, v = x.abs() - (width / 2 - corner), y.abs() - (height / 2 - corner)
    outside = torch.hypot(u.clamp_min(0.0), v.clamp_min(0.0))
    return corner - outside - torch.maximum(u, v).clamp_max(0.0)


def diamond(x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Signed distance in µm from a square standing on its corner, ``radius`` from centre to corner; positive inside."""
    return (radius - x.abs() - y.abs()) / math.sqrt(2.0)


def pentile(size: int, pitch: float, generator: Generator) -> Tensor:
    """Opaque emitters and their wires: large diamonds (red, blue) and small ones between them (green)."""
    period = uniform(generator, *_PERIOD)
    x, y = _turned_plane(size, pitch, generator)
    large, small = period * uniform(generator, 0.28, 0.44), period * uniform(generator, 0.16, 0.3)
    u, v = folded(x, period), folded(y, period)
    u2, v2 = folded(x + period / 2, period), folded(y + period / 2, period)
    # Red and blue alternate on one lattice; with different sizes the actual period is twice as long.
    blocked = torch.maximum(
        inside(diamond(u, v, large), pitch),
        inside(diamond(u2, v2, large * uniform(generator, 0.8, 1.1)), pitch),
    )
    for across, down in ((u2, v), (u, v2)):
        blocked = torch.maximum(blocked, inside(diamond(across, down, small), pitch))
    upright, level = uniform(generator, 0.03, 0.2) * period, uniform(generator, 0.03, 0.2) * period
    blocked = torch.maximum(blocked, inside(upright / 2 - u2.abs(), pitch))
    blocked = torch.maximum(blocked, inside(level / 2 - v.abs(), pitch))
    return _transmission(1.0 - blocked, generator)


def wiring(size: int, pitch: float, generator: Generator) -> Tensor:
    """Straight scan and data lines, each with a finer companion, around rectangular openings."""
    across, down = uniform(generator, *_PERIOD), uniform(generator, *_PERIOD)
    x, y = _turned_plane(size, pitch, generator)
    blocked = torch.zeros(size, size)
    for line, period in ((x, across), (y, down)):
        wide, fine = period * uniform(generator, 0.25, 0.6), period * uniform(generator, 0.0, 0.1)
        offset = period * uniform(generator, 0.3, 0.7)
        blocked = torch.maximum(blocked, inside(wide / 2 - folded(line, period).abs(), pitch))
        blocked = torch.maximum(blocked, inside(fine / 2 - folded(line + offset, period).abs(), pitch))
    return _transmission(1.0 - blocked, generator)


def stripes(size: int, pitch: float, generator: Generator) -> Tensor:
    """Three vertical emitters side by side in every pixel, of different widths, with openings above and between them."""
    period = uniform(generator, *_PERIOD)
    x, y = _turned_plane(size, pitch, generator)
    v = folded(y, period)
    blocked = inside(
        uniform(generator, 0.02, 0.12) * period / 2 - folded(y + period / 2, period).abs(), pitch
    )
    for emitter in range(3):
        width = period * uniform(generator, 0.18, 0.3)
        height = period * uniform(generator, 0.55, 0.9)
        corner = min(width, height) * uniform(generator, 0.0, 0.5)
        u = folded(x + emitter * period / 3, period)
        blocked = torch.maximum(blocked, inside(rectangle(u, v, width, height, corner), pitch))
    return _transmission(1.0 - blocked, generator)


def jittered(size: int, pitch: float, generator: Generator) -> Tensor:
    """One opening per cell with random size and position: layouts meant to scatter light instead of forming ghosts."""
    period = uniform(generator, *_PERIOD)
    x, y = _turned_plane(size, pitch, generator)
    jitter = uniform(generator, 0.05, 0.25)
    column, row = (torch.floor(axis / period + 0.5).long() for axis in (x, y))
    columns, rows = column - column.min(), row - row.min()
    draws = torch.rand(3, int(rows.max()) + 1, int(columns.max()) + 1, generator=generator)
    shift_x, shift_y, scale = (draw[rows, columns] for draw in draws)
    u = folded(x, period) + (shift_x - 0.5) * jitter * period
    v = folded(y, period) + (shift_y - 0.5) * jitter * period
    opening = uniform(generator, 0.4, 0.8) * period * (1.0 - jitter * scale)
    if uniform(generator, 0, 1) < 0.5:
        distance = opening / 2 - torch.hypot(u, v * uniform(generator, 0.7, 1.4))
    else:
        distance = opening / 2 - torch.maximum(u.abs(), v.abs() * uniform(generator, 0.7, 1.4))
    return _transmission(inside(distance, pitch), generator)


def honeycomb(size: int, pitch: float, generator: Generator) -> Tensor:
    """Round openings on a triangular lattice, with ghosts at 60 degrees. Held out."""
    period = uniform(generator, *_PERIOD)
    x, y = _turned_plane(size, pitch, generator)
    tall = math.sqrt(3.0) * period
    first = torch.hypot(folded(x, period), folded(y, tall))
    second = torch.hypot(folded(x + period / 2, period), folded(y + tall / 2, tall))
    radius = period * uniform(generator, 0.22, 0.4)
    return _transmission(inside(radius - torch.minimum(first, second), pitch), generator)


def waves(size: int, pitch: float, generator: Generator) -> Tensor:
    """Sine-shaped wires, used by some makers against streaks, over rounded emitters. Held out."""
    period = uniform(generator, *_PERIOD)
    x, y = _turned_plane(size, pitch, generator)
    swing, length = period * uniform(generator, 0.08, 0.25), period * uniform(generator, 1.0, 2.0)
    u = folded(x + swing * torch.sin(2 * math.pi * y / length), period)
    v = folded(y + swing * torch.sin(2 * math.pi * x / length), period)
    wire = period * uniform(generator, 0.06, 0.2)
    blocked = inside(wire / 2 - torch.minimum(u.abs(), v.abs()), pitch)
    emitter = period * uniform(generator, 0.5, 0.75)
    centred = folded(x + period / 2, period), folded(y + period / 2, period)
    blocked = torch.maximum(blocked, inside(rectangle(*centred, emitter, emitter, 0.4 * emitter), pitch))
    return _transmission(1.0 - blocked, generator)


FAMILIES: dict[str, Callable[[int, float, Generator], Tensor]] = {
    "pentile": pentile,
    "wiring": wiring,
    "stripes": stripes,
    "jittered": jittered,
    "honeycomb": honeycomb,
    "waves": waves,
}
HELD_OUT_FAMILIES = ("honeycomb", "waves")
TRAINING_FAMILIES = tuple(family for family in FAMILIES if family not in HELD_OUT_FAMILIES)


def random_pattern(family: str, size: int, pitch: float, generator: Generator) -> Tensor:
    """A random panel of ``family`` -> transmission ``(size, size)``, float32 [0, 1].

    Args:
        size: samples per side.
        pitch: µm per sample, at most 5, so that wires keep their width.

    Raises ``ValueError`` for a family that is not in ``FAMILIES``, or no samples.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family of patterns {family!r}: expected one of {', '.join(FAMILIES)}")
    if size < 1 or not 0.0 < pitch <= 5.0:
        raise ValueError(f"got {size} samples {pitch} µm apart, expected 1 or more and a pitch in (0, 5]")
    return FAMILIES[family](size, pitch, generator)


def _turned_plane(size: int, pitch: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Coordinates of a mounted panel: mostly upright, sometimes diagonal, at a random offset from the lens."""
    diagonal = uniform(generator, 0, 1) < 0.2
    angle = uniform(generator, -0.03, 0.03) + (math.pi / 4 if diagonal else 0.0)
    x, y = plane(size, pitch, angle)
    return x + uniform(generator, 0.0, _PERIOD[1]), y + uniform(generator, 0.0, _PERIOD[1])


def _transmission(openings: Tensor, generator: Generator) -> Tensor:
    """Openings (1) to transmission: the layers above dim the openings, and the rest is not quite opaque."""
    clear, leak = uniform(generator, 0.8, 1.0), uniform(generator, 0.0, 0.03)
    return leak + (clear - leak) * openings
