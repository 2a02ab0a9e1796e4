"""Reflections in a pane of glass, as measured on real pairs: added in linear light, wide, often sharp, with a veil.

    mix, target = pane_reflection(photo, other, generator)     # (3, H, W), RGB, [0, 1]

In four registered real pairs nearly every block of pixels changed. The light added had a median of 0.02 to 0.11 of
white, and 63 to 90 % of its energy lay beyond a blur of sigma 32 pixels: mirrored walls, windows and sky, large, flat and
greyish. The camera exposes for the mix, so the target is the photo at the mix's exposure.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from afterlens.training.data import log_uniform, uniform
from afterlens.training.media.light import to_linear, to_srgb
from afterlens.training.reflection.synthesis import (
    feather,
    gaussian_blur,
    ghost,
    polygon_mask,
    smooth_noise,
    vignette,
)

_LUMA = torch.tensor([0.2126, 0.7152, 0.0722]).view(3, 1, 1)


def luma(linear: Tensor) -> Tensor:
    """Relative luminance, ``(3, H, W)`` -> ``(1, H, W)``."""
    return (linear * _LUMA).sum(dim=0, keepdim=True)


def quantile(values: Tensor, share: float) -> float:
    """The value below which ``share`` of ``values`` lie, estimated from at most 20,000 of them."""
    flat = values.flatten()
    return float(torch.quantile(flat[:: max(1, flat.numel() // 20_000)], share))


def magnified(photo: Tensor, scale: float, generator: Generator) -> Tensor:
    """A random part of ``photo`` enlarged ``scale`` times to the photo's own size."""
    height, width = photo.shape[-2:]
    rows, columns = max(1, int(height / scale)), max(1, int(width / scale))
    y = int(uniform(generator, 0, height - rows + 1))
    x = int(uniform(generator, 0, width - columns + 1))
    part = photo[None, :, y : y + rows, x : x + columns]
    return F.interpolate(part, (height, width), mode="bicubic", align_corners=False)[0].clamp(0.0, 1.0)


def colour_cast(generator: Generator, deviation: float) -> Tensor:
    """Log-normal factors for the three channels, ``(3, 1, 1)``."""
    return torch.exp(deviation * torch.randn(3, 1, 1, generator=generator))


def mirrored_scene(other: Tensor, generator: Generator) -> Tensor:
    """The scene on the camera's side in linear light, scaled so that 95 % of its pixels are below 1."""
    if uniform(generator, 0, 1) < 0.6:
        other = magnified(other, uniform(generator, 1.0, 3.5), generator)
    light = to_linear(other)
    if uniform(generator, 0, 1) < 0.6:  # real layers are less colourful
        grey = luma(light)
        light = grey + uniform(generator, 0.2, 1.0) * (light - grey)
    if uniform(generator, 0, 1) < 0.5:  # lamps and sky are brighter than a photo's white
        light = light * (1.0 + uniform(generator, 0.5, 5.0) * luma(light).clamp(0.0, 1.0) ** 3)
    focus = uniform(generator, 0, 1)
    if focus > 0.3:
        light = gaussian_blur(
            light, uniform(generator, 0.3, 2.0) if focus < 0.75 else uniform(generator, 2.0, 6.0)
        )
    if uniform(generator, 0, 1) < 0.35:
        dy, dx = torch.randint(-8, 9, (2,), generator=generator).tolist()
        light = ghost(light, (dy, dx), uniform(generator, 0.15, 0.5))
    light = light * colour_cast(generator, 0.12)
    return light / max(quantile(light.amax(dim=0), 0.95), 0.05)


def coverage(height: int, width: int, generator: Generator) -> Tensor:
    """Where the pane mirrors, ``(1, H, W)`` in [0, 1]: everywhere, in smooth patches, in a window, or around a centre."""
    style = uniform(generator, 0, 1)
    if style < 0.45:
        return torch.ones(1, height, width)
    least = uniform(generator, 0.0, 0.4) if uniform(generator, 0, 1) < 0.5 else 0.0
    if style < 0.65:
        noise = smooth_noise(height, width, height * uniform(generator, 0.3, 1.2), generator)
        shape = torch.sigmoid(noise * uniform(generator, 1.5, 6.0) + uniform(generator, -1.0, 1.0))
    elif style < 0.9:  # a bright window, or all but the outline of whoever holds the camera
        sides = int(torch.randint(3, 6, (), generator=generator))
        shape = feather(polygon_mask(height, width, generator, sides), uniform(generator, 0.3, 4.0))
        if uniform(generator, 0, 1) < 0.5:
            shape = 1.0 - shape
    else:
        shape = vignette(height, width, generator)
    return least + (1.0 - least) * shape


def auto_exposure(linear: Tensor, generator: Generator) -> float:
    """The factor that brings the 98th percentile near white, as a camera would, within a stop."""
    return min(2.0, max(0.5, uniform(generator, 0.75, 1.25) / max(quantile(linear.amax(dim=0), 0.98), 0.05)))


def pane_reflection(photo: Tensor, other: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """``photo`` behind glass in which ``other`` is mirrored -> (mix, target), at one exposure."""
    height, width = photo.shape[-2:]
    light = to_linear(photo)
    if uniform(generator, 0, 1) < 0.5:  # what lies behind a pane is often darker than what it mirrors
        light = light * uniform(generator, 0.3, 1.0)
    layer = mirrored_scene(other, generator) * log_uniform(generator, 0.03, 0.6)
    layer = layer * coverage(height, width, generator)
    if uniform(generator, 0, 1) < 0.65:  # the veil: stray light from dust and haze on the glass
        layer = layer + uniform(generator, 0.002, 0.06) * colour_cast(generator, 0.1)
    mix = light + layer
    if uniform(generator, 0, 1) < 0.7:
        exposure = auto_exposure(mix, generator)
        light, mix = light * exposure, mix * exposure
    if uniform(generator, 0, 1) < 0.4:  # tinted glass, or the pair's second photo exposed differently
        tint = colour_cast(generator, 0.07)
        mix = mix * (tint if uniform(generator, 0, 1) < 0.5 else tint[:1])
    return to_srgb(mix.clamp(0.0, 1.0)), to_srgb(light.clamp(0.0, 1.0))
