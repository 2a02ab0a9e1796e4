"""Things in front of the lens: fences, branches, fingers, dirt, with texture of their own and out of focus.

input = occlude(photo, other, generator)       # (3, H, W), RGB, [0, 1]
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from afterlens.training.data import log_uniform, uniform
from afterlens.training.media.light import to_linear, to_srgb
from afterlens.training.reflection.panes import colour_cast, luma, magnified
from afterlens.training.reflection.shadows import ramp
from afterlens.training.reflection.synthesis import (
    ellipses_mask,
    gaussian_blur,
    lines_mask,
    noise_mask,
    smooth_noise,
)


def fence_mask(height: int, width: int, generator: Generator, pitch: float, thickness: float) -> Tensor:
    """A mesh of two sets of parallel wires, slightly bent, ``(1, H, W)`` of 0 and 1; lengths in pixels."""
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    bend = smooth_noise(height, width, 4.0 * pitch, generator)[0] * 0.08 * pitch
    angle = uniform(generator, 0.0, math.pi)
    crossing = angle + uniform(generator, 0.35, 0.65) * math.pi
    mask = torch.zeros(height, width, dtype=torch.bool)
    for direction in (angle, crossing):
        across = y * math.cos(direction) - x * math.sin(direction) + bend + uniform(generator, 0.0, pitch)
        mask |= (across % pitch) < thickness
    return mask[None].float()


def edge_mask(height: int, width: int, generator: Generator, area: float) -> Tensor:
    """A ragged thing that reaches in from one side and covers about the share ``area``: a finger, a leaf, a frame."""
    line = ramp(height, width, uniform(generator, 0.0, 2.0 * math.pi))
    ragged = line + 0.08 * smooth_noise(height, width, min(height, width) * 0.4, generator)
    values = ragged.flatten()
    return (ragged < torch.quantile(values[:: max(1, values.numel() // 20_000)], area)).float()


def occluder_mask(height: int, width: int, generator: Generator) -> Tensor:
    """One of the shapes that stand before a lens, ``(1, H, W)`` of 0 and 1."""
    extent = min(height, width)
    style = uniform(generator, 0, 1)
    if style < 0.25:
        pitch = extent * uniform(generator, 0.12, 0.45)
        return fence_mask(height, width, generator, pitch, max(1.5, pitch * uniform(generator, 0.04, 0.16)))
    if style < 0.5:
        count = int(torch.randint(1, 6, (), generator=generator))
        return lines_mask(height, width, generator, count, 2.0 + extent * uniform(generator, 0.0, 0.06))
    if style < 0.65:
        return edge_mask(height, width, generator, uniform(generator, 0.03, 0.2))
    if style < 0.85:
        count = int(torch.randint(1, 12, (), generator=generator))
        return ellipses_mask(height, width, generator, count, extent * uniform(generator, 0.012, 0.07))
    return noise_mask(
        height, width, generator, extent * uniform(generator, 0.06, 0.25), uniform(generator, 0.03, 0.15)
    )


def surface(other: Tensor, generator: Generator) -> Tensor:
    """The occluder's own look in linear light, ``(3, H, W)``: a piece of another photo, lit differently."""
    light = to_linear(magnified(other, uniform(generator, 1.0, 6.0), generator))
    grey = luma(light)
    light = grey + uniform(generator, 0.0, 1.0) * (light - grey)
    flat = light.mean(dim=(1, 2), keepdim=True)
    light = flat + uniform(generator, 0.1, 1.0) * (light - flat)
    return light * log_uniform(generator, 0.15, 1.5) * colour_cast(generator, 0.15)


def occlude(photo: Tensor, other: Tensor, generator: Generator) -> Tensor:
    """``photo`` partly hidden, in linear light, where the blur of a bright or dark edge is what a lens makes of it."""
    height, width = photo.shape[-2:]
    mask = occluder_mask(height, width, generator)
    defocus = log_uniform(generator, 0.4, 0.02 * min(height, width) + 1.0)
    alpha = gaussian_blur(mask, defocus)
    near = gaussian_blur(surface(other, generator), defocus)
    light = to_linear(photo)
    return to_srgb((light + alpha * (near - light)).clamp(0.0, 1.0))
