"""Linear light and sensor noise: the parts of every degradation in front of or on the sensor.

Pure functions on float tensors, RGB, ``(3, H, W)`` or ``(N, 3, H, W)``, on any device.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def to_linear(srgb: Tensor) -> Tensor:
    """sRGB [0, 1] -> linear light [0, 1] (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0.0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Linear light [0, 1] -> sRGB [0, 1] (IEC 61966-2-1)."""
    # The power has an infinite slope at 0, and `where` would pass on a NaN gradient.
    curve = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curve)


def expand_highlights(linear: Tensor, knee: float, peak: float, added: float) -> Tensor:
    """Inverse tone mapping: values above ``knee`` are raised, to at most ``peak`` times white.

    Args:
        linear: ``(..., 3, H, W)`` light in [0, 1].
        knee: level of the brightest channel above which a pixel counts as a highlight, [0, 1).
        peak: brightness of white afterwards, 1 or more.
        added: all highlights of a picture together add at most this share of its light, because a camera exposes for
            a bright sky.
    """
    brightness = linear.amax(dim=-3, keepdim=True)
    rise = ((brightness - knee) / (1.0 - knee)).clamp(0.0, 1.0).square() * linear
    limit = added * linear.mean(dim=(-3, -2, -1), keepdim=True)
    share = limit / rise.mean(dim=(-3, -2, -1), keepdim=True).clamp_min(1e-8)
    return linear + rise * share.clamp_max(peak - 1.0)


def with_noise(electrons: Tensor, read_noise: float, generator: Generator) -> Tensor:
    """Adds shot and read noise, in electrons. Shot noise is taken as Gaussian, a good approximation above about ten."""
    noise = torch.randn(electrons.shape, generator=generator, device=generator.device).to(electrons)
    return electrons + noise * (electrons + read_noise**2).sqrt()
