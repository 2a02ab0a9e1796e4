"""What a camera sees through a display: image formation from a clear photo and a point-spread function.

    degraded = degrade(photo, photo, "panel", generator)             # a random panel
    degraded = photograph(photo, psf, generator)                     # your own: psf = read_psf(Path("psf.npy"))

In linear light: highlights are restored above white, because clipped lamps and skies cause the visible flare. The scene is
convolved, dimmed by the panel, recorded with the noise of so little light, brightened by the camera, clipped and
encoded as sRGB: y = clip(g (γ (x ∗ k) + n)) (Zhou et al., Image Restoration for Under-Display Camera, CVPR 2021; with
highlights: Feng et al., Removing Diffraction Image Artifacts in Under-Display Camera via Dynamic Skip Connection
Network, CVPR 2021).

Pure functions on float tensors ``(3, H, W)`` or ``(N, 3, H, W)``, RGB, on any device; randomness comes from the
``torch.Generator`` passed in, which may be on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from afterlens.training.data import seeded, uniform
from afterlens.training.media.light import expand_highlights, to_linear, to_srgb, with_noise
from afterlens.training.udc.patterns import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from afterlens.training.udc.psf import fast_length, known_psf, random_psf

# "panel": one of PANELS random panels; "held_out_panel": from families of patterns that "panel" never draws, for testing;
# "known": always the panel of `known_psf`, for a model that serves one phone only.
KINDS = ("panel", "held_out_panel", "known")

PANELS = 1024  # times eight orientations; computed once each and cached, since one takes 50 ms
SIZE = 97  # pixels, side of the PSFs of `degrade`


@dataclass(frozen=True)
class Camera:
    """A sensor behind a panel, with a gain that makes the picture about as bright as without the panel."""

    transmission: float = 0.2  # γ: share of the light that passes the panel
    gain: float = 5.0  # compensates for the panel: 1 / transmission at a correct exposure
    full_well: float = (
        2e4  # electrons at white without the panel; in a reduced photo, summed over the pixels combined
    )
    read_noise: float = 5.0  # electrons, standard deviation

    def __post_init__(self) -> None:
        """Raises ValueError for a transmission, gain, full well or noise out of range."""
        values = (self.transmission, self.gain, self.full_well)
        if not (min(values) > 0.0 and max(values) < math.inf and self.transmission <= 1.0):
            raise ValueError(
                f"got {self}, expected a transmission in (0, 1] and a positive gain and full well"
            )
        if not 0.0 <= self.read_noise < math.inf:
            raise ValueError(f"got a read noise of {self.read_noise} electrons, expected 0 or more")


# --- parts --------------------------------------------------------------------------------------------------


def convolve(light: Tensor, psf: Tensor) -> Tensor:
    """Each channel convolved with its own kernel, by FFT; the picture is mirrored beyond its border.

    Args:
        light: ``(..., 3, H, W)``.
        psf: ``(..., 3, k, k)``, k odd; leading axes are broadcast.
    """
    height, width = light.shape[-2:]
    size, radius = psf.shape[-1], psf.shape[-1] // 2
    if psf.shape[-2] != size or size % 2 == 0:
        raise ValueError(f"got a PSF of shape {tuple(psf.shape)}, expected (..., 3, k, k) with k odd")
    # Mirroring needs more pixels than it adds; tiny pictures repeat their edge instead.
    mode = "reflect" if radius < min(height, width) else "replicate"
    padded = F.pad(light if light.ndim == 4 else light[None], (radius,) * 4, mode=mode)
    # Circular convolution wraps into the padding only, which is cut off.
    shape = (fast_length(height + 2 * radius), fast_length(width + 2 * radius))
    spectrum = torch.fft.rfft2(padded, shape) * torch.fft.rfft2(psf, shape)
    result = torch.fft.irfft2(spectrum, shape)[..., 2 * radius :, 2 * radius :][..., :height, :width]
    return result if light.ndim == 4 or psf.ndim == 4 else result[0]


def add_light_sources(photo: Tensor, generator: Generator) -> Tensor:
    """One to four lamps (discs and tubes, nearly white) over an sRGB ``(3, H, W)`` photo, clipped to [0, 1].

    For clean photos before `degrade`, which makes the lamps flare; the lamps themselves belong to the ground truth.
    """
    height, width = photo.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    alpha = torch.zeros(height, width)
    for _ in range(int(torch.randint(1, 5, (), generator=generator))):
        radius = min(height, width) * 0.006 * 8.0 ** uniform(generator, 0.0, 1.0) + 0.7
        half_length = radius * uniform(generator, 1.0, 8.0) if uniform(generator, 0, 1) < 0.4 else 0.0
        angle = uniform(generator, 0.0, math.pi)
        u, v = x - uniform(generator, 0, width), y - uniform(generator, 0, height)
        along = u * math.cos(angle) + v * math.sin(angle)
        nearest = along.clamp(-half_length, half_length)
        distance = torch.hypot(u - nearest * math.cos(angle), v - nearest * math.sin(angle))
        alpha = torch.maximum(alpha, (radius - distance + 0.5).clamp(0.0, 1.0))
    colour = 1.0 - 0.12 * torch.rand(3, 1, 1, generator=generator) * torch.tensor([0.0, 0.5, 1.0]).view(
        3, 1, 1
    )
    alpha, colour = alpha.to(photo), colour.to(photo)
    return (photo + alpha * (colour - photo)).clamp(0.0, 1.0)


@dataclass(frozen=True)
class ToneCurve:
    """From light, 1 = white, to a picture in [0, 1], and back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


_HALF = 0.25  # light that the tone-mapped curve shows as half
_BRIGHTEST = 16.0  # of the light that it is inverted to


def _clipped(light: Tensor) -> Tensor:
    return to_srgb(light.clamp(0.0, 1.0))


def _compressed(light: Tensor) -> Tensor:
    light = light.clamp_min(0.0)
    return light / (light + _HALF)


def _expanded(picture: Tensor) -> Tensor:
    picture = picture.clamp_max(_BRIGHTEST / (_BRIGHTEST + _HALF))
    return _HALF * picture / (1.0 - picture)


SRGB = ToneCurve(_clipped, to_linear)

# The curve of the public sets of high dynamic range (Feng et al., CVPR 2021): x / (x + 0.25). It clips nothing, so a
# picture says how bright its lamps are.
TONE_MAPPED = ToneCurve(_compressed, _expanded)


def form_image(scene: Tensor, psf: Tensor, camera: Camera, generator: Generator) -> Tensor:
    """The sRGB picture, [0, 1], that a camera behind a display takes of a scene.

    Args:
        scene: ``(3, H, W)`` or ``(N, 3, H, W)`` linear light, 1 = white, highlights above 1.
        psf: ``(3, k, k)`` or ``(N, 3, k, k)``, each channel summing to 1.
        camera: losses, gain and noise.
        generator: for the noise.
    """
    return exposed(convolve(scene, psf), camera, SRGB, generator)


def exposed(light: Tensor, camera: Camera, curve: ToneCurve, generator: Generator) -> Tensor:
    """The picture, [0, 1], that a camera takes of light on its sensor: ``(..., 3, H, W)``, 1 = white."""
    electrons = light.clamp_min(0.0) * (camera.transmission * camera.full_well)
    electrons = with_noise(electrons, camera.read_noise, generator)
    return curve.encode(electrons * (camera.gain / camera.full_well))


# --- random cameras and panels ------------------------------------------------------------------------------


def photograph(photo: Tensor, psf: Tensor, generator: Generator) -> Tensor:
    """``photo``, sRGB ``(3, H, W)`` [0, 1], taken by a random camera through a display with this PSF."""
    light = convolve(veiled(lit_scene(photo, generator), generator), psf.to(photo))
    return exposed(light, random_camera(generator), SRGB, generator)


def lit_scene(photo: Tensor, generator: Generator) -> Tensor:
    """The linear light that an sRGB photo ``(3, H, W)`` shows, its highlights raised to 2 to 100 times white."""
    peak = 2.0 * 50.0 ** uniform(generator, 0.0, 1.0)
    added = 0.02 * 20.0 ** uniform(generator, 0.0, 1.0)
    return expand_highlights(to_linear(photo), uniform(generator, 0.75, 0.95), peak, added)


def veiled(scene: Tensor, generator: Generator) -> Tensor:
    """Light that the display scatters beyond the kernel's window: a veil of the scene's mean colour."""
    veil = 0.1 * uniform(generator, 0.0, 1.0) ** 2
    return scene + veil * (scene.mean(dim=(-2, -1), keepdim=True) - scene)


def random_camera(generator: Generator) -> Camera:
    """With 8 to 48 % transmission, exposed to within 4 %."""
    transmission = 0.08 * 6.0 ** uniform(generator, 0.0, 1.0)
    return Camera(
        transmission=transmission,
        gain=uniform(generator, 0.96, 1.04) / transmission,
        full_well=1e4 * 10.0 ** uniform(generator, 0.0, 1.0),
        read_noise=uniform(generator, 2.0, 10.0),
    )


def degrade(photo: Tensor, other: Tensor, kind: str, generator: Generator) -> Tensor:
    """``photo``, sRGB ``(3, H, W)`` [0, 1], through a panel of ``kind``; ``other`` is ignored.

    Raises ``ValueError`` for a kind that is not in ``KINDS``.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of panel {kind!r}: expected one of {', '.join(KINDS)}")
    return photograph(photo, psf_of(kind, generator), generator)


def psf_of(kind: str, generator: Generator) -> Tensor:
    """The PSF of a random panel of a kind, ``(3, 97, 97)``, mounted in one of eight ways."""
    if kind == "known":
        return known_psf(SIZE)
    psf = panel_psf(int(torch.randint(PANELS, (), generator=generator)), held_out=kind == "held_out_panel")
    turns, mirrored = torch.randint(4, (), generator=generator), torch.randint(2, (), generator=generator)
    psf = psf.rot90(int(turns), (1, 2))
    return psf.flip(2) if mirrored else psf


@lru_cache(maxsize=2 * PANELS)
def panel_psf(index: int, held_out: bool) -> Tensor:
    """Panel number ``index``, ``(3, 97, 97)``, of the training or the held-out families; the same in every run."""
    families = HELD_OUT_FAMILIES if held_out else TRAINING_FAMILIES
    return random_psf(seeded(int(held_out), index), SIZE, families)
