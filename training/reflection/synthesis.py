"""Degradations that put a layer over a clean photo: reflection, shadow, water stain, occlusion.

Every function is pure: float tensors ``(3, H, W)``, RGB, [0, 1] in and out, and all randomness comes from the
``torch.Generator`` passed in. ``degrade`` makes one kind; the others are its parts.

    degraded = degrade(photo, other_photo, "shadow", generator)
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from afterlens.training.data import uniform

KINDS = ("region", "reflection", "shadow", "stain", "occlusion", "clean")


def gaussian_blur(image: Tensor, sigma: float, padding: str = "reflect") -> Tensor:
    """Separable Gaussian blur of ``(C, H, W)``, truncated at 3 sigma; ``sigma`` in pixels, 0 = unchanged.

    ``padding``: "reflect" (mirrored edges) or "constant" (black beyond the edge).
    """
    height, width = image.shape[-2:]
    radius = math.ceil(3.0 * sigma)
    if padding == "reflect":
        radius = min(radius, height - 1, width - 1)
    if sigma <= 0.0 or radius < 1:
        return image
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=image.dtype) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = image.shape[0]
    x = F.pad(image[None], (radius, radius, radius, radius), mode=padding)
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)[0]


def smooth_noise(height: int, width: int, cell: float, generator: Generator, channels: int = 1) -> Tensor:
    """Bicubic noise of zero mean and unit variance with features about ``cell`` pixels wide, ``(channels, H, W)``."""
    rows, columns = max(2, round(height / cell) + 1), max(2, round(width / cell) + 1)
    coarse = torch.randn(1, channels, rows, columns, generator=generator)
    noise = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)[0]
    return (noise - noise.mean()) / (noise.std() + 1e-6)


# --- region masks, (1, H, W) of 0 and 1, at the photo's size -------------------------------------


def _grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return y, x


def ellipses_mask(height: int, width: int, generator: Generator, count: int, size: float) -> Tensor:
    """Union of ``count`` randomly rotated ellipses with semi-axes of about ``size`` pixels."""
    y, x = _grid(height, width)
    mask = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(count):
        cy, cx = uniform(generator, 0, height), uniform(generator, 0, width)
        a, b = size * uniform(generator, 0.5, 1.5), size * uniform(generator, 0.5, 1.5)
        angle = uniform(generator, 0, math.pi)
        u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        v = (y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)
        mask |= (u / a) ** 2 + (v / b) ** 2 <= 1.0
    return mask[None].float()


def polygon_mask(height: int, width: int, generator: Generator, sides: int) -> Tensor:
    """A convex polygon: the intersection of ``sides`` half-planes around a random centre."""
    y, x = _grid(height, width)
    cy, cx = uniform(generator, 0.15, 0.85) * height, uniform(generator, 0.15, 0.85) * width
    extent = min(height, width)
    mask = torch.ones(height, width, dtype=torch.bool)
    for i in range(sides):
        angle = 2 * math.pi * (i + uniform(generator, 0.0, 0.8)) / sides
        distance = extent * uniform(generator, 0.1, 0.45)
        mask &= (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle) <= distance
    return mask[None].float()


def lines_mask(height: int, width: int, generator: Generator, count: int, thickness: float) -> Tensor:
    """Slightly bent lines across the picture: wires, fences, scratches."""
    y, x = _grid(height, width)
    mask = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(count):
        angle = uniform(generator, 0, math.pi)
        cy, cx = uniform(generator, 0, height), uniform(generator, 0, width)
        along = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        across = (y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)
        bend = uniform(generator, -0.2, 0.2) * along**2 / max(height, width)
        mask |= (across - bend).abs() <= thickness * uniform(generator, 0.5, 1.5) / 2
    return mask[None].float()


def noise_mask(height: int, width: int, generator: Generator, cell: float, area: float) -> Tensor:
    """Smooth noise above its quantile: ragged regions that cover the share ``area`` of the picture."""
    noise = smooth_noise(height, width, cell, generator)
    values = noise.flatten()
    step = max(1, values.numel() // 1_000_000)  # torch.quantile refuses more than 16 million values
    return (noise > torch.quantile(values[::step], 1.0 - area)).float()


def random_mask(height: int, width: int, generator: Generator) -> Tensor:
    """One of the region shapes above, covering roughly 5 to 60 % of the picture."""
    extent = min(height, width)
    choice = int(torch.randint(4, (), generator=generator))
    if choice == 0:
        count = int(torch.randint(1, 6, (), generator=generator))
        return ellipses_mask(height, width, generator, count, extent * uniform(generator, 0.08, 0.3))
    if choice == 1:
        return polygon_mask(height, width, generator, int(torch.randint(3, 7, (), generator=generator)))
    if choice == 2:
        count = int(torch.randint(1, 5, (), generator=generator))
        return lines_mask(height, width, generator, count, extent * uniform(generator, 0.05, 0.2))
    cell = extent * uniform(generator, 0.15, 0.6)
    return noise_mask(height, width, generator, cell, uniform(generator, 0.08, 0.5))


def feather(mask: Tensor, sigma: float) -> Tensor:
    """A mask with a Gaussian-feathered boundary, normalised to a maximum of 1."""
    soft = gaussian_blur(mask, sigma)
    return soft / soft.max().clamp_min(1e-6)


# --- layers ----------------------------------------------------------------------------------------------


def add_region(
    photo: Tensor, reference: Tensor, mask: Tensor, feather_sigma: float, blur_sigma: float
) -> Tensor:
    """The claimed synthesis (docs/claims.md): ``photo + feathered mask . blurred reference``, clipped.

    ``mask`` is ``(1, H, W)`` at the photo's size, ``reference`` the picture that is added in the region.
    """
    return (photo + feather(mask, feather_sigma) * gaussian_blur(reference, blur_sigma)).clamp(0.0, 1.0)


def attenuate_overflow(photo: Tensor, layer: Tensor, factor: float = 1.3) -> Tensor:
    """Darkens a reflection layer by ``factor`` times the mean overflow of each channel of the sum.

    From CEILNet (Fan et al., ICCV 2017): a camera would have exposed for the sum, so that a bright reflection loses its
    faint parts instead of saturating the picture.
    """
    excess = (photo + layer - 1.0).clamp_min(0.0)
    count = (excess > 0).sum(dim=(1, 2)).clamp_min(1)
    mean = excess.sum(dim=(1, 2)) / count
    return (layer - factor * mean[:, None, None]).clamp(0.0, 1.0)


def ghost(layer: Tensor, shift: tuple[int, int], strength: float) -> Tensor:
    """Double image from a pane's two faces: ``(1 - strength) layer + strength shifted layer``, shift (y, x) in pixels."""
    height, width = layer.shape[-2:]
    dy, dx = shift
    pad = (max(dx, 0), max(-dx, 0), max(dy, 0), max(-dy, 0))
    moved = F.pad(layer[None], pad, mode="replicate")[0]
    moved = moved[:, max(-dy, 0) : max(-dy, 0) + height, max(-dx, 0) : max(-dx, 0) + width]
    return (1.0 - strength) * layer + strength * moved


def vignette(height: int, width: int, generator: Generator) -> Tensor:
    """Reflection strength over the picture, ``(1, H, W)`` in (0, 1]: a broad Gaussian around a random centre."""
    y, x = _grid(height, width)
    cy, cx = uniform(generator, 0, height), uniform(generator, 0, width)
    spread = max(height, width) * uniform(generator, 0.35, 1.2)
    return torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * spread**2))[None]


def add_reflection(photo: Tensor, other: Tensor, generator: Generator) -> Tensor:
    """A second scene mirrored in a pane: blurred, sometimes doubled or vignetted, added, and clipped by the sensor."""
    height, width = photo.shape[-2:]
    # Black padding half the time: reflections in the published set fade at the border, real ones do not.
    padding = "constant" if uniform(generator, 0, 1) < 0.5 else "reflect"
    sigma = uniform(generator, 0.5, 4.5) if uniform(generator, 0, 1) < 0.85 else uniform(generator, 4.5, 12.0)
    layer = gaussian_blur(other, sigma, padding)
    if uniform(generator, 0, 1) < 0.25:
        shift = torch.randint(-6, 7, (2,), generator=generator).tolist()
        layer = ghost(layer, (shift[0], shift[1]), uniform(generator, 0.2, 0.5))
    if uniform(generator, 0, 1) < 0.25:
        layer = layer * vignette(height, width, generator)
    style = uniform(generator, 0, 1)
    if style < 0.5:
        return (photo + attenuate_overflow(photo, layer)).clamp(0.0, 1.0)
    strength, transmission = uniform(generator, 0.2, 0.85), uniform(generator, 0.85, 1.0)
    if style < 0.65:
        return (transmission * photo + strength * layer).clamp(0.0, 1.0)
    # In linear light (gamma 2.2), as on a sensor. The mirrored scene is often a lit wall or the sky, bright and flat: a
    # veil that is strongest over dark parts of the photo.
    layer = layer ** uniform(generator, 0.4, 1.1)
    linear = transmission * photo**2.2 + (strength * layer) ** 2.2
    return linear.clamp(1e-6, 1.0) ** (1 / 2.2)


def add_shadow(photo: Tensor, mask: Tensor, sigma: float, colour: Tensor) -> Tensor:
    """Multiplies the feathered region by ``colour``, ``(3,)`` in (0, 1]: the share of each channel's light that is left."""
    soft = feather(mask, sigma)
    return photo * (1.0 - soft * (1.0 - colour.view(3, 1, 1)))


def add_stain(photo: Tensor, mask: Tensor, flow: Tensor, sigma: float, gain: float, edge: float) -> Tensor:
    """Water on the lens: inside the feathered region the picture is warped, blurred and brightened or darkened.

    ``flow``: ``(2, H, W)`` displacement (x, y) in pixels; ``sigma``: blur in pixels; ``edge``: feather in pixels.
    """
    height, width = photo.shape[-2:]
    soft = feather(mask, edge)
    y, x = _grid(height, width)
    grid = torch.stack(
        [
            (x + flow[0] * soft[0]) * 2 / max(width - 1, 1) - 1,
            (y + flow[1] * soft[0]) * 2 / max(height - 1, 1) - 1,
        ],
        dim=-1,
    )
    bent = F.grid_sample(
        photo[None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=True
    )[0]
    wet = gaussian_blur(bent, sigma) * gain
    return (photo + soft * (wet - photo)).clamp(0.0, 1.0)


def add_occlusion(photo: Tensor, occluder: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Alpha-over: ``occluder`` hides the photo inside the slightly feathered region."""
    alpha = feather(mask, sigma)
    return photo + alpha * (occluder - photo)


def _random_occlusion(photo: Tensor, other: Tensor, generator: Generator) -> Tensor:
    height, width = photo.shape[-2:]
    extent = min(height, width)
    style = uniform(generator, 0, 1)
    if style < 0.35:
        count, thickness = (
            int(torch.randint(1, 7, (), generator=generator)),
            uniform(generator, 2.0, 0.05 * extent + 2),
        )
        mask = lines_mask(height, width, generator, count, thickness)
    elif style < 0.7:
        count, size = (
            int(torch.randint(1, 12, (), generator=generator)),
            extent * uniform(generator, 0.015, 0.09),
        )
        mask = ellipses_mask(height, width, generator, count, size)
    else:
        cell, area = extent * uniform(generator, 0.05, 0.2), uniform(generator, 0.03, 0.15)
        mask = noise_mask(height, width, generator, cell, area)
    colour = torch.rand(3, 1, 1, generator=generator)
    grain = smooth_noise(height, width, 6.0, generator) * uniform(generator, 0.0, 0.05)
    plain = (colour + grain).clamp(0.0, 1.0)
    mix = uniform(generator, 0.6, 1.0) if uniform(generator, 0, 1) < 0.3 else 0.0
    occluder = plain + mix * (other - plain)
    return add_occlusion(photo, occluder, mask, uniform(generator, 0.5, 3.0))


def degrade(photo: Tensor, other: Tensor, kind: str, generator: Generator) -> Tensor:
    """Puts one random layer of ``kind`` over ``photo``; ``other`` is a second photo of the same shape.

    Raises ``ValueError`` for a kind that is not in ``KINDS``.
    """
    height, width = photo.shape[-2:]
    extent = min(height, width)
    if kind == "clean":
        return photo
    if kind == "region":
        mask = random_mask(height, width, generator)
        reference = other * uniform(generator, 0.25, 1.0)
        return add_region(
            photo, reference, mask, uniform(generator, 2.0, 0.08 * extent + 2), uniform(generator, 0.5, 6.0)
        )
    if kind == "reflection":
        return add_reflection(photo, other, generator)
    if kind == "shadow":
        mask = random_mask(height, width, generator)
        level = uniform(generator, 0.2, 0.75)
        tint = torch.tensor([-0.5, 0.0, 0.5]) * uniform(
            generator, -0.02, 0.12
        )  # skylight: shadows turn bluish
        return add_shadow(
            photo, mask, uniform(generator, 1.0, 0.05 * extent + 1), (level + tint).clamp(0.05, 1.0)
        )
    if kind == "stain":
        if uniform(generator, 0, 1) < 0.5:
            count, size = (
                int(torch.randint(3, 14, (), generator=generator)),
                extent * uniform(generator, 0.03, 0.12),
            )
            mask = ellipses_mask(height, width, generator, count, size)
        else:
            mask = random_mask(height, width, generator)
        flow = smooth_noise(height, width, extent * uniform(generator, 0.1, 0.3), generator, channels=2)
        # A film of water on the lens is far out of focus: it blurs, and displaces by a few pixels only.
        flow = flow * uniform(generator, 0.3, 0.006 * extent + 0.7)
        gain = (
            uniform(generator, 1.05, 1.6)
            if uniform(generator, 0, 1) < 0.75
            else uniform(generator, 0.7, 0.95)
        )
        return add_stain(photo, mask, flow, uniform(generator, 1.0, 4.0), gain, uniform(generator, 1.0, 5.0))
    if kind == "occlusion":
        return _random_occlusion(photo, other, generator)
    raise ValueError(f"unknown kind of degradation {kind!r}: expected one of {', '.join(KINDS)}")
