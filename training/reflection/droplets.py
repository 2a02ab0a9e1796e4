"""Drops of water on a pane or on the lens: small lenses that show the scene upside down, dark at the rim, out of focus.

input = droplets(photo, generator)         # (3, H, W), RGB, [0, 1]
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from afterlens.training.data import log_uniform, uniform
from afterlens.training.media.light import to_linear, to_srgb
from afterlens.training.reflection.synthesis import gaussian_blur, smooth_noise


def drop_field(height: int, width: int, radii: list[float], generator: Generator) -> tuple[Tensor, Tensor]:
    """Drops at random places -> radius ``(1, H, W)``, below 1 inside a drop, and the way to its centre ``(2, H, W)``.

    The way is (x, y) in pixels. Where drops overlap, the one whose centre is relatively nearer wins. Outlines are
    irregular and a little taller than wide, as on an upright pane.
    """
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    wobble = 1.0 + 0.12 * smooth_noise(height, width, 1.5 * max(radii), generator)[0]
    radius, way = torch.full((height, width), math.inf), torch.zeros(2, height, width)
    for size in radii:
        cy, cx = uniform(generator, 0, height), uniform(generator, 0, width)
        tall = uniform(generator, 0.9, 1.5)
        own = (((x - cx) / size) ** 2 + ((y - cy) / (size * tall)) ** 2).sqrt() * wobble
        nearer = own < radius
        radius = torch.where(nearer, own, radius)
        way = torch.where(nearer, torch.stack([cx - x, cy - y]), way)
    return radius[None], way


def refracted(photo: Tensor, way: Tensor, minification: float) -> Tensor:
    """What a drop shows: the point mirrored at its centre and ``minification`` times as far from it."""
    height, width = photo.shape[-2:]
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    x, y = x + way[0] * (1.0 + minification), y + way[1] * (1.0 + minification)
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(photo[None], grid[None], padding_mode="reflection", align_corners=True)[0]


def droplets(photo: Tensor, generator: Generator) -> Tensor:
    """``photo`` through a pane with drops on it, in linear light."""
    height, width = photo.shape[-2:]
    extent = min(height, width)
    count = int(log_uniform(generator, 3, 30))
    typical = extent * log_uniform(generator, 0.025, 0.1 if count > 8 else 0.18)
    radii = [typical * log_uniform(generator, 0.5, 1.8) for _ in range(count)]
    radius, way = drop_field(height, width, radii, generator)
    light = to_linear(photo)
    # A drop gathers the light of a wide view, so its inside is a mean of much of the scene.
    inside = refracted(light, way, log_uniform(generator, 1.5, 8.0))
    inside = gaussian_blur(inside, typical * uniform(generator, 0.03, 0.25))
    rim = ((radius - 0.6) / 0.4).clamp(0.0, 1.0) ** 2
    inside = inside * (1.0 - uniform(generator, 0.0, 0.7) * rim) * log_uniform(generator, 0.75, 1.5)
    alpha = (radius < 1.0).float()
    if uniform(generator, 0, 1) < 0.4:  # the glint of a lamp or the sky near the top
        glint = ((way[0] / typical) ** 2 + ((way[1] - 0.5 * typical) / typical) ** 2 < 0.03)[None].float()
        inside = inside + uniform(generator, 0.2, 0.8) * glint
    # The camera focuses on the scene: the nearer the drops, the wider each is spread over the picture.
    defocus = typical * log_uniform(generator, 0.04, 0.5)
    soft = gaussian_blur(alpha, defocus)
    mean = gaussian_blur(alpha * inside, defocus) / soft.clamp_min(1e-4)
    wet = light + soft * uniform(generator, 0.7, 1.0) * (mean - light)
    return to_srgb(wet.clamp(0.0, 1.0))
