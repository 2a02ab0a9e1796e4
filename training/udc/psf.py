"""Point-spread functions of a lens behind a display, by Fourier optics from the display's opening pattern.

    psf = display_psf(read_pattern(Path("panel.png")), Optics(pitch_um=2.0), size=257).kernel    # (3, 257, 257)

Light from a distant point arrives as a plane wave and passes the openings (amplitude = square root of the transmission)
within the round aperture. The lens forms the far field on the sensor: the intensity |F{pattern · aperture}|², scaled in
proportion to the wavelength (Goodman, Introduction to Fourier Optics, ch. 5; for displays: Zhou et al., Image
Restoration for Under-Display Camera, CVPR 2021). With ``N`` samples of pitch ``δ`` its step on the sensor is
``λ f / (N δ)``. Each sensor pixel integrates over its area, so that energy is conserved.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from afterlens.training.data import seeded, uniform
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, read_photo, write_png
from afterlens.training.udc.patterns import TRAINING_FAMILIES, random_pattern

LARGEST_GRID = 8192  # samples per side: 1.5 GB of memory
LARGEST_RANDOM = 129  # pixels, side of the largest window of `random_psf`, which larger ones would slow down

_APERTURE_SAMPLES = 512  # across the aperture of a random panel
_LINES = 11  # wavelengths per channel; with fewer, streaks break up into beads far from the middle
_PREVIEW_DECADES = 5.0  # dynamic range of a preview, from the brightest pixel to 1/100000 of it


@dataclass(frozen=True)
class Optics:
    """Panel, lens and sensor. The defaults are a phone's front camera: f/2, 1.12 µm pixels.

    For a photo that was scaled down, ``sensor_pixel_um`` is the side of one of its pixels on the sensor.
    """

    pitch_um: float = 1.0  # one pixel of the pattern picture, on the panel
    focal_length_mm: float = 3.8
    aperture_mm: float = 1.9  # diameter
    sensor_pixel_um: float = 1.12
    wavelengths_nm: tuple[float, float, float] = (610.0, 540.0, 460.0)  # centres of R, G, B
    bandwidth_nm: float = 50.0  # full width at half maximum of each (a Gaussian); 0 = one wavelength

    def __post_init__(self) -> None:
        """Raises UserError for a length that is not positive, or a wavelength outside 200 to 2000 nm."""
        for field in fields(self):
            values = np.atleast_1d(getattr(self, field.name))
            smallest = 0.0 if field.name == "bandwidth_nm" else math.ulp(0.0)
            if not (np.isfinite(values).all() and values.min() >= smallest):
                raise UserError(f"{field.name} is {getattr(self, field.name)}, expected a positive number")
        shortest, longest = self.spectrum()[0].min(), self.spectrum()[0].max()
        if shortest < 200.0 or longest > 2000.0:
            raise UserError(
                f"wavelengths of {shortest:.0f} to {longest:.0f} nm, expected 200 to 2000, all in nm"
            )

    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Wavelengths in nm and their weights, both ``(3, n)``; the weights of a channel sum to 1."""
        spread = torch.zeros(1, dtype=torch.float64)
        if self.bandwidth_nm > 0.0:
            spread = torch.linspace(-1.0, 1.0, _LINES, dtype=torch.float64)
        middle = torch.tensor(self.wavelengths_nm, dtype=torch.float64)
        weights = torch.exp2(-4.0 * spread**2)
        return middle[:, None] + self.bandwidth_nm * spread, (weights / weights.sum()).expand(3, -1)


@dataclass(frozen=True)
class DisplayPsf:
    """The image of a point of light behind a panel."""

    kernel: Tensor  # (3, size, size) float32, R, G, B, each summing to 1
    captured: tuple[float, float, float]  # share of the light that falls within the window, per channel
    transmission: float  # share of the light within the aperture that passes the panel, [0, 1]


def display_psf(pattern: Tensor, optics: Optics, size: int) -> DisplayPsf:
    """The PSF of a panel with the given opening pattern.

    Args:
        pattern: ``(H, W)`` transmission in [0, 1]. A pattern smaller than the aperture is tiled (one period is
            enough); of a larger one the middle is used.
        optics: lengths and wavelengths.
        size: side of the result in sensor pixels, odd.

    Raises UserError for an opaque pattern, one too coarse or too fine for the aperture, an even size, and a size beyond
    what a pattern of this pitch determines; ValueError for a pattern of wrong shape or range.
    """
    if pattern.ndim != 2 or 0 in pattern.shape:
        raise ValueError(f"got a pattern of shape {tuple(pattern.shape)}, expected (H, W)")
    if not (float(pattern.min()) >= 0.0 and float(pattern.max()) <= 1.0):
        raise ValueError("expected a pattern in [0, 1]")
    if size < 1 or size % 2 == 0:
        raise UserError(f"a size of {size} pixels: expected an odd number, so that there is a middle pixel")
    wavelengths, weights = optics.spectrum()
    reach = wavelengths.min().item() * 1e-3 * optics.focal_length_mm * 1e3 / optics.pitch_um
    if size * optics.sensor_pixel_um > reach:
        raise UserError(
            f"{size} pixels are {size * optics.sensor_pixel_um:.0f} µm on the sensor, but a pattern of "
            f"{optics.pitch_um:g} µm a pixel determines {reach:.0f} µm: give a smaller size or a finer picture"
        )
    across = optics.aperture_mm * 1e3 / optics.pitch_um
    # Twice the aperture, since the intensity has twice the bandwidth of the amplitude; and at least two samples per
    # sensor pixel, to integrate over pixel areas accurately.
    wanted = max(2.0 * across, 2.0 * reach / optics.sensor_pixel_um)
    if across < 8.0 or wanted > LARGEST_GRID:
        raise UserError(
            f"an aperture of {optics.aperture_mm:g} mm is {across:.6g} pixels of the pattern at {optics.pitch_um:g} µm "
            f"and needs a grid of {wanted:.6g}, expected 8 pixels or more and a grid of {LARGEST_GRID} or less: "
            "scale the picture, and change the pitch with it"
        )
    samples = fast_length(math.ceil(wanted))
    light = _through_aperture(pattern, across)
    passed = light.sum() / _aperture(light.shape[0], across).sum()
    if not float(light.sum()) > 0.0:
        raise UserError(
            "the pattern lets no light through the aperture, expected some pixels that are not black"
        )
    steps = wavelengths * 1e-3 * optics.focal_length_mm * 1e3 / (samples * optics.pitch_um)
    needed = math.ceil(size * optics.sensor_pixel_um / 2 / steps.min().item()) + 1
    table = _summed(_far_field(light.sqrt(), samples, needed))
    kernel = torch.zeros(3, size, size)
    for channel in range(3):
        for step, weight in zip(steps[channel].tolist(), weights[channel].tolist(), strict=True):
            kernel[channel] += weight * _on_pixels(table, optics.sensor_pixel_um / step, size)
    captured = kernel.sum(dim=(1, 2))
    return DisplayPsf(kernel / captured[:, None, None], tuple(captured.tolist()), passed.item())


def fast_length(smallest: int) -> int:
    """The next even number without a prime factor above 5, for which Fourier transforms are fast."""
    length = smallest + smallest % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2


def _aperture(size: int, across: float) -> Tensor:
    """A disc of ``across`` samples in diameter in the middle of ``(size, size)``, with an edge one sample wide."""
    along = torch.arange(size, dtype=torch.float32) - size // 2
    return (across / 2 - torch.hypot(along[:, None], along[None, :]) + 0.5).clamp(0.0, 1.0)


def _through_aperture(pattern: Tensor, across: float) -> Tensor:
    """Transmission of pattern and aperture together, square; their centres coincide."""
    side = math.ceil(across) + 2
    rows, columns = (
        (torch.arange(side) - side // 2 + length // 2) % length
        for length in (pattern.shape[0], pattern.shape[1])
    )
    return pattern.float()[rows][:, columns] * _aperture(side, across)


def _far_field(amplitude: Tensor, samples: int, needed: int) -> Tensor:
    """|F|² on a grid of ``samples``, normalised to a sum of 1, cut to ``needed`` cells around direction 0.

    Returns ``(2 r + 1, 2 r + 1)`` with direction 0 in the middle.
    """
    field = torch.fft.fft2(amplitude, (samples, samples))
    reach = min(needed, samples // 2 - 1)
    rows = torch.cat([field[-reach:], field[: reach + 1]])
    part = torch.cat([rows[:, -reach:], rows[:, : reach + 1]], dim=1)
    # By Parseval's theorem, the sum over all directions.
    return (part.real.square() + part.imag.square()) / (samples**2 * amplitude.double().square().sum())


def _summed(intensity: Tensor) -> Tensor:
    """Integral image, ``(n + 1, n + 1)`` float64: entry (i, j) is the light in the first i rows and j columns."""
    return F.pad(intensity.double().cumsum(0).cumsum(1), (1, 0, 1, 0))


def _on_pixels(table: Tensor, pixel: float, size: int) -> Tensor:
    """Light on each of ``(size, size)`` sensor pixels around direction 0; a pixel is ``pixel`` cells of the table wide.

    Bilinear interpolation in the integral image divides cells in proportion to area.
    """
    cells = table.shape[0] - 1
    edges = cells / 2 + (torch.arange(size + 1, dtype=torch.float64) - size / 2) * pixel
    edges = edges.clamp(0.0, float(cells))  # the grid ends here
    low = edges.long().clamp_max(cells - 1)
    high = edges - low
    rows = table[low] + high[:, None] * (table[low + 1] - table[low])
    corners = rows[:, low] + high * (rows[:, low + 1] - rows[:, low])
    return corners.diff(dim=0).diff(dim=1).clamp_min(0.0).float()  # rounding may give negative values


# --- random panels ------------------------------------------------------------------------------------------


def random_psf(generator: Generator, size: int, families: tuple[str, ...] = TRAINING_FAMILIES) -> Tensor:
    """The PSF of a random panel in front of a random camera -> ``(3, size, size)``, each channel sums to 1.

    Cameras of f/1.8 to f/2.6 with pixels of 1.5 to 7.5 µm, as in photos that were scaled down; a large window limits
    the pixel size. It combines diffraction, a soft lens, and a halo of scattered light. ``size`` must be odd and at
    most 129, else ValueError.
    """
    if not (0 < size <= LARGEST_RANDOM and size % 2 == 1):
        raise ValueError(f"got a size of {size}, expected an odd number up to {LARGEST_RANDOM}")
    aperture, f_number = uniform(generator, 1.2, 2.4), uniform(generator, 1.8, 2.6)
    pitch = aperture * 1e3 / _APERTURE_SAMPLES
    green = uniform(generator, 525.0, 550.0)
    wavelengths = (green + uniform(generator, 55.0, 80.0), green, green - uniform(generator, 65.0, 85.0))
    bandwidth = uniform(generator, 30.0, 60.0)
    reach = (wavelengths[2] - bandwidth) * 1e-3 * f_number * _APERTURE_SAMPLES  # see display_psf
    pixel = min(1.5 * 5.0 ** uniform(generator, 0.0, 1.0), 0.99 * reach / size)
    optics = Optics(pitch, aperture * f_number, aperture, pixel, wavelengths, bandwidth)
    family = families[int(torch.randint(len(families), (), generator=generator))]
    pattern = random_pattern(family, _APERTURE_SAMPLES + 2, pitch, generator)
    kernel = _softened(display_psf(pattern, optics, size).kernel, uniform(generator, 0.2, 0.8))
    share, core = 0.35 * uniform(generator, 0.0, 1.0) ** 2, 1.0 + 4.0 * uniform(generator, 0.0, 1.0)
    return kernel + share * (_halo(size, core) - kernel)


def with_tail(psf: Tensor, size: int, generator: Generator) -> Tensor:
    """A PSF ``(3, k, k)`` in a window of ``size`` pixels, with light scattered as far as that; the sums stay 1."""
    share, core = 0.25 * uniform(generator, 0.0, 1.0) ** 2, 1.0 + 4.0 * uniform(generator, 0.0, 1.0)
    margin = (size - psf.shape[-1]) // 2
    wide = F.pad(psf, (margin,) * 4)
    return wide + share * (_halo(size, core) - wide)


def _halo(size: int, core: float) -> Tensor:
    """Light scattered by rough layers, sum 1: flat within ``core`` pixels, then falling with the square of the angle.

    The law of disability glare (Stiles and Holladay; CIE 146:2002), which diffraction at the openings does not explain.
    """
    along = torch.arange(size, dtype=torch.float32) - size // 2
    halo = 1.0 / (core**2 + along[:, None] ** 2 + along[None, :] ** 2)
    return halo / halo.sum()


def _softened(kernel: Tensor, sigma: float) -> Tensor:
    """Blurred by a Gaussian of ``sigma`` pixels, for lens, demosaicing and scaling; the sum is preserved."""
    along = torch.arange(kernel.shape[-1], dtype=kernel.dtype)
    spread = torch.exp(-0.5 * ((along[:, None] - along[None, :]) / sigma) ** 2)
    spread = spread / spread.sum(dim=0)
    return spread @ kernel @ spread.T


@lru_cache(maxsize=4)
def known_psf(size: int) -> Tensor:
    """The PSF of one fixed panel, ``(3, size, size)``: the example of a maker who trains for a single phone.

    A PenTile panel drawn with seed 7 at 2.5 µm per sample, in front of a 3.8 mm lens at f/2 and a sensor whose picture
    was scaled down to pixels of 4.5 µm. ``size`` is odd, at most 171.
    """
    optics = Optics(pitch_um=2.5, focal_length_mm=3.8, aperture_mm=1.9, sensor_pixel_um=4.5)
    samples = math.ceil(optics.aperture_mm * 1e3 / optics.pitch_um) + 2
    return display_psf(random_pattern("pentile", samples, optics.pitch_um, seeded(7)), optics, size).kernel


# --- files ----------------------------------------------------------------------------------


def simulate(
    pattern: Path, optics: Optics, size: int, out: Path, preview: Path | None = None
) -> dict[str, Any]:
    """`afterlens psf`: compute the PSF of a picture of a panel, write it to ``out`` and a picture of it to ``preview``.

    Returns a JSON-able dict of the files and results. Raises UserError as `read_pattern` and `display_psf` do,
    and where a file can't be written.
    """
    if out.suffix != ".npy" or (preview is not None and preview.suffix != ".png"):
        raise UserError(
            f"expected a .npy file for the PSF and a .png file for the preview, got {out} and {preview}"
        )
    psf = display_psf(read_pattern(pattern), optics, size)
    with atomic_path(out) as temporary:
        np.save(temporary, psf.kernel.numpy())
    if preview is not None:
        write_preview(preview, psf.kernel)
    middle = psf.kernel[:, size // 2, size // 2]
    return {
        "pattern": str(pattern),
        "psf": str(out),
        "preview": None if preview is None else str(preview),
        "size": size,
        "transmission": psf.transmission,
        "captured": list(psf.captured),
        "middle_pixel": middle.tolist(),
        "optics": asdict(optics),
    }


def read_pattern(path: Path) -> Tensor:
    """A picture of a panel's openings -> ``(H, W)`` transmission in [0, 1]: black blocks light, white passes it.

    Grey levels are taken as transmission without a transfer curve, the mean over the colours. UserError if the file is
    not a picture.
    """
    return torch.from_numpy(read_photo(path).rgb.mean(axis=2).clip(0.0, 1.0))


def read_psf(path: Path) -> Tensor:
    """A PSF written by `simulate`: ``(3, k, k)`` float32, not negative, each channel summing to 1.

    Raises UserError for any other file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected one of `afterlens psf`")
    try:
        kernel = np.load(path, allow_pickle=False)
    except (
        Exception
    ) as error:  # NumPy reads the header as Python's syntax, and raises as many kinds as that has
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a NumPy file that can be read: {reason}") from error
    shape: tuple[int, ...] = getattr(kernel, "shape", ())  # an .npz has none
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2] or shape[1] % 2 == 0:
        raise UserError(
            f"{path}: shape {tuple(shape)}, expected (3, k, k) with k odd, as `afterlens psf` writes it"
        )
    if kernel.dtype.kind != "f" or not np.isfinite(kernel).all() or kernel.min() < 0.0:
        raise UserError(
            f"{path}: {kernel.dtype} values that cannot be light, expected finite floats of 0 or more"
        )
    sums = kernel.sum(axis=(1, 2), dtype=np.float64)
    if np.abs(sums - 1.0).max() > 1e-3:
        raise UserError(f"{path}: its channels sum to {sums.round(3).tolist()}, expected 1 each")
    return torch.from_numpy(kernel.astype(np.float32))


def write_preview(path: Path, kernel: Tensor) -> None:
    """Write ``(3, k, k)`` as a PNG on a logarithmic scale: white is the brightest value, black 1/100000 of it."""
    shown = 1.0 + torch.log10((kernel / kernel.max()).clamp_min(1e-30)) / _PREVIEW_DECADES
    times = math.ceil(512 / kernel.shape[1])
    enlarged = shown.clamp(0.0, 1.0).repeat_interleave(times, 1).repeat_interleave(times, 2)
    write_png(path, enlarged.permute(1, 2, 0).numpy())
