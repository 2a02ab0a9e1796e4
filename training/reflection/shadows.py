"""Shadows of things in the sun or under a lamp: in linear light, with a penumbra that widens away from the caster.

input, target = cast_shadow(photo, other, generator)       # (3, H, W), RGB, [0, 1]
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from afterlens.training.data import log_uniform, uniform
from afterlens.training.media.light import to_linear, to_srgb
from afterlens.training.reflection.panes import luma, magnified, quantile
from afterlens.training.reflection.synthesis import gaussian_blur, lines_mask, random_mask


def silhouette(other: Tensor, generator: Generator) -> Tensor:
    """The dark or bright parts of a photo as a mask, ``(1, H, W)``: outlines of real things, foliage among them."""
    extent = min(other.shape[-2:])
    grey = luma(magnified(other, uniform(generator, 1.0, 3.0), generator))
    grey = gaussian_blur(grey, extent * uniform(generator, 0.005, 0.03))
    mask = (grey < quantile(grey, uniform(generator, 0.15, 0.6))).float()
    return mask if uniform(generator, 0, 1) < 0.7 else 1.0 - mask


def caster(other: Tensor, generator: Generator) -> Tensor:
    """What stands in the light, ``(1, H, W)`` of 0 and 1."""
    height, width = other.shape[-2:]
    style = uniform(generator, 0, 1)
    if style < 0.45:
        return silhouette(other, generator)
    if style < 0.6:  # bars, branches, poles
        count = int(torch.randint(2, 8, (), generator=generator))
        return lines_mask(
            height, width, generator, count, min(height, width) * uniform(generator, 0.03, 0.15)
        )
    return random_mask(height, width, generator)


def ramp(height: int, width: int, angle: float) -> Tensor:
    """Rises from 0 to 1 across the picture in the direction ``angle``, ``(1, H, W)``."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    return ((along - along.min()) / (along.max() - along.min()).clamp_min(1e-6))[None]


def penumbra(mask: Tensor, near: float, far: float, angle: float) -> Tensor:
    """``mask`` blurred by sigma ``near`` at one side of the picture up to ``far`` at the other, in pixels."""
    share = ramp(mask.shape[-2], mask.shape[-1], angle)
    middle = math.sqrt(near * far)
    first, second, third = (gaussian_blur(mask, sigma) for sigma in (near, middle, far))
    early, late = (2.0 * share).clamp(max=1.0), (2.0 * share - 1.0).clamp_min(0.0)
    return first + early * (second - first) + late * (third - second)


def cast_shadow(photo: Tensor, other: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """``photo`` partly shaded -> (shaded, target). What is left in the shade is skylight, which is bluish."""
    height, width = photo.shape[-2:]
    extent = min(height, width)
    near = log_uniform(generator, 0.4, 0.03 * extent + 0.5)
    far = near * log_uniform(generator, 1.0, 6.0)
    shade = penumbra(caster(other, generator), near, far, uniform(generator, 0.0, 2.0 * math.pi))
    left = log_uniform(generator, 0.06, 0.65)
    blue = uniform(generator, -0.05, 0.35)
    colour = left * torch.tensor([1.0 - blue, 1.0 - 0.3 * blue, 1.0 + 0.5 * blue]).view(3, 1, 1)
    light = to_linear(photo)
    if uniform(generator, 0, 1) < 0.4:  # exposed for the shade
        light = light * uniform(generator, 1.0, 1.5)
    shaded = light * (1.0 - shade * (1.0 - colour.clamp(0.02, 0.95)))
    return to_srgb(shaded.clamp(0.0, 1.0)), to_srgb(light.clamp(0.0, 1.0))
