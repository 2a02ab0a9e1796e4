"""Point-spread functions against optics in closed form: Airy's disc, gratings, conservation of light."""

import dataclasses
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import j1
from torch import Generator, Tensor

from afterlens.samples import PANEL
from afterlens.training.media.errors import UserError
from afterlens.training.udc import patterns, psf
from afterlens.training.udc.patterns import (
    FAMILIES,
    HELD_OUT_FAMILIES,
    TRAINING_FAMILIES,
    diamond,
    folded,
    inside,
    plane,
    random_pattern,
    rectangle,
)
from afterlens.training.udc.psf import (
    Optics,
    display_psf,
    fast_length,
    known_psf,
    random_psf,
    read_pattern,
    read_psf,
)

Cli = Callable[..., Any]
GREEN = (550.0, 550.0, 550.0)
# A slow lens and a small aperture: features of many pixels.
SLOW = Optics(2.5, 10.0, 0.2, 1.0, GREEN, 0.0)


def generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def white(size: int = 64) -> Tensor:
    return torch.ones(size, size)


def grating(period: int, opening: int) -> Tensor:
    """Upright slits, ``opening`` of ``period`` samples wide; one period high and wide."""
    return (torch.arange(period) < opening).float().expand(period, period)


# --- physics -------------------------------------------------------------------------------------------------


def test_a_clear_aperture_gives_the_airy_pattern() -> None:
    kernel = display_psf(white(), SLOW, 151).kernel[1].double().numpy()
    row = kernel[75, 75:]
    # First zero at 1.22 λ f / D = 33.55 µm, second ring's zero at 2.233 λ f / D = 61.4 µm; pixels of 1 µm.
    unit = 0.55 * 10e3 / 200.0
    assert np.argmin(row[:45]) == pytest.approx(1.2197 * unit, abs=1.0)
    assert 45 + np.argmin(row[45:72]) == pytest.approx(2.2331 * unit, abs=1.0)
    v = np.pi * np.arange(1, 76) / unit
    airy = (2 * j1(v) / v) ** 2
    error = np.abs(row[1:] / row[0] - airy).max()
    assert error < 0.005, f"largest difference {error:.4f} of the peak"
    # Closed form of the light within a circle, 1 - J0² - J1²: 83.8 % lie within the first zero.
    y, x = np.mgrid[-75:76, -75:76]
    captured = display_psf(white(), SLOW, 151).captured[1]
    assert captured * kernel[np.hypot(y, x) <= 1.2197 * unit].sum() == pytest.approx(0.838, abs=0.01)


def test_a_grating_has_its_orders_where_the_grating_equation_says() -> None:
    # Order n at n λ f / period: 0.55 µm * 4000 µm / 64 µm = 34.375 µm, on pixels of 1.25 µm 27.5 px.
    optics = Optics(2.0, 4.0, 1.5, 1.25, GREEN, 0.0)
    kernel = display_psf(grating(32, 16), optics, 251).kernel[0]
    across = kernel.sum(dim=0).double()
    orders = [float(across[125 + round(n * 27.5) - 4 : 125 + round(n * 27.5) + 5].sum()) for n in range(5)]
    # Fourier series of half-open slits of 16 samples: |sin(πn/2) / (16 sin(πn/32))|², the even orders vanish.
    for n in (1, 3):
        expected = (math.sin(math.pi * n / 2) / (16 * math.sin(math.pi * n / 32))) ** 2
        assert orders[n] / orders[0] == pytest.approx(expected, rel=0.05), n
        around = slice(125 + round(n * 27.5) - 9, 125 + round(n * 27.5) + 10)
        middle = float((across[around] * torch.arange(251)[around]).sum() / across[around].sum()) - 125
        assert middle == pytest.approx(n * 27.5, abs=0.15), n
    for n in (2, 4):
        assert orders[n] < 0.005 * orders[0], n
    # Upright slits scatter sideways only: the light stays in the middle rows.
    assert float(kernel[122:129].sum()) > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_no_light_is_lost_or_made(family: str) -> None:
    # A window nearly as large as all that the pattern determines must hold nearly all light, and never more.
    pattern = random_pattern(family, 130, 4.0, generator(1))
    optics = Optics(4.0, 2.0, 0.5, 2.0, (600.0, 550.0, 500.0), 0.0)
    psf = display_psf(pattern, optics, 123)
    print(family, psf.captured)
    assert all(0.9 < share <= 1.0 + 1e-5 for share in psf.captured)
    assert psf.captured[2] > 0.985  # blue just fits
    assert torch.allclose(psf.kernel.sum(dim=(1, 2)), torch.ones(3), atol=1e-5)
    assert float(psf.kernel.min()) >= 0.0


def test_spread_is_in_proportion_to_wavelength_and_focal_length_and_inverse_to_the_pixel() -> None:
    def width(optics: Optics, channel: int) -> float:
        across = display_psf(grating(16, 8), optics, 181).kernel[channel].sum(dim=0).double()
        return int(across[100:].argmax()) + 10  # the first order, to the right of the undeviated light

    optics = Optics(4.0, 4.0, 1.0, 1.0, (640.0, 480.0, 320.0), 0.0)
    red, green, blue = (width(optics, channel) for channel in range(3))
    assert (red, green, blue) == (40, 30, 20)  # λ f / 64 µm
    assert width(dataclasses.replace(optics, focal_length_mm=6.0), 1) == 45
    assert width(dataclasses.replace(optics, sensor_pixel_um=1.5), 1) == 20


def test_sensor_pixels_collect_what_falls_on_them() -> None:
    fine = display_psf(white(), SLOW, 153)
    coarse = display_psf(white(), dataclasses.replace(SLOW, sensor_pixel_um=3.0), 51)
    binned = fine.kernel.reshape(3, 51, 3, 51, 3).sum(dim=(2, 4))
    assert coarse.captured[0] == pytest.approx(fine.captured[0], abs=2e-3)
    assert float((binned - coarse.kernel).abs().max()) < 0.02 * float(binned.max())


def test_the_amplitude_is_the_root_of_the_transmission() -> None:
    # Slits of transmission 1 and 0.25: amplitudes 1 and 0.5, so that order 1 : order 0 is (0.5 / 1.5)² of open slits'.
    pattern = 0.25 + 0.75 * grating(32, 16)
    optics = Optics(2.0, 4.0, 1.5, 1.25, GREEN, 0.0)
    psf = display_psf(pattern, optics, 251)
    across = psf.kernel[0].sum(dim=0)
    ratio = float(across[125 + 24 : 125 + 32].sum() / across[125 - 3 : 125 + 4].sum())
    slits = 1.0 / (16 * math.sin(math.pi / 32)) ** 2
    assert ratio == pytest.approx(slits / 9.0, rel=0.05)
    assert psf.transmission == pytest.approx(0.625, abs=0.01)


def test_a_channels_spectrum_falls_to_half_at_half_its_bandwidth() -> None:
    wavelengths, weights = Optics(wavelengths_nm=(600.0, 540.0, 460.0), bandwidth_nm=50.0).spectrum()
    assert torch.allclose(weights.sum(1), torch.ones(3, dtype=torch.float64))
    peak = float(weights[0].max())
    for away, weight in zip((wavelengths[0] - 600.0).tolist(), weights[0].tolist(), strict=True):
        assert weight / peak == pytest.approx(0.5 ** ((away / 25.0) ** 2))
    assert float((wavelengths[1] - 540.0).abs().max()) == 50.0


def test_bandwidth_smears_the_orders_but_not_the_middle() -> None:
    narrow = Optics(2.0, 4.0, 1.5, 1.25, GREEN, 0.0)
    sharp = display_psf(grating(32, 16), narrow, 151).kernel[0].sum(dim=0)
    broad = (
        display_psf(grating(32, 16), dataclasses.replace(narrow, bandwidth_nm=80.0), 151).kernel[0].sum(dim=0)
    )
    assert float(broad[75]) == pytest.approx(float(sharp[75]), rel=0.05)
    assert float(broad[95:112].max()) < 0.6 * float(sharp[95:112].max())
    assert float(broad[95:112].sum()) == pytest.approx(float(sharp[95:112].sum()), rel=0.05)


def test_one_period_is_as_good_as_the_whole_panel() -> None:
    optics = Optics(2.0, 4.0, 1.0, 2.0, GREEN, 0.0)
    tile = read_pattern(PANEL)
    whole = tile.repeat(10, 10)
    assert torch.allclose(
        display_psf(tile, optics, 65).kernel, display_psf(whole, optics, 65).kernel, atol=1e-7
    )


# --- random panels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_are_transmissions_that_their_seed_decides(family: str) -> None:
    pattern = random_pattern(family, 200, 3.0, generator(4))
    assert pattern.shape == (200, 200)
    assert pattern.dtype == torch.float32
    assert 0.0 <= float(pattern.min()) < 0.1  # something blocks
    assert 0.7 < float(pattern.max()) <= 1.0  # something is open
    assert torch.equal(pattern, random_pattern(family, 200, 3.0, generator(4)))
    assert not torch.equal(pattern, random_pattern(family, 200, 3.0, generator(5)))


def test_test_patterns_are_not_trained_on() -> None:
    assert set(TRAINING_FAMILIES) | set(HELD_OUT_FAMILIES) == set(FAMILIES)
    assert not set(TRAINING_FAMILIES) & set(HELD_OUT_FAMILIES)
    # What each says of itself.
    assert set(HELD_OUT_FAMILIES) == {
        n for n, draw in FAMILIES.items() if "Held out." in (draw.__doc__ or "")
    }
    assert len(HELD_OUT_FAMILIES) == 2


def test_a_honeycomb_turned_by_60_degrees_is_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(angle: float) -> Tensor:
        monkeypatch.setattr(
            patterns, "_turned_plane", lambda size, pitch, generator: plane(size, pitch, angle)
        )
        return patterns.honeycomb(256, 2.0, Generator().manual_seed(3))

    upright = turned(0.0)
    assert float((turned(math.pi / 3) - upright).abs().mean()) < 0.01
    assert float((turned(math.pi / 4) - upright).abs().mean()) > 0.1


def test_a_fifth_of_the_panels_is_mounted_diagonally() -> None:
    angles = []
    for seed in range(200):
        x, _ = patterns._turned_plane(8, 1.0, Generator().manual_seed(seed))
        angles.append(math.atan2(float(x[1, 0] - x[0, 0]), float(x[0, 1] - x[0, 0])))
    diagonal = [angle for angle in angles if abs(angle - math.pi / 4) < 0.04]
    assert 20 <= len(diagonal) <= 60
    assert all(abs(angle) < 0.04 for angle in angles if angle not in diagonal)


def test_scattered_light_falls_with_the_square_of_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    halo = psf._halo(129, 4.0)
    middle = float(halo[64, 64])
    assert float(halo.sum()) == pytest.approx(1.0, rel=1e-4)
    assert float(halo[64, 68]) == pytest.approx(middle / 2, rel=1e-4)
    assert float(halo[64, 104]) == pytest.approx(middle * 16 / (16 + 1600), rel=1e-4)
    # And a random panel has some of it: here it is all in one corner.
    corner = torch.zeros(33, 33)
    corner[0, 0] = 1.0
    monkeypatch.setattr(psf, "_halo", lambda size, core: corner)
    shares = [float(random_psf(Generator().manual_seed(seed), 33)[1, 0, 0]) for seed in range(6)]
    assert max(shares) > 0.05 and max(shares) <= 0.36


@pytest.mark.parametrize(
    ("distance", "area"),
    [
        (lambda x, y: rectangle(x, y, 30.0, 20.0, 0.0), 600.0),
        (lambda x, y: rectangle(x, y, 30.0, 20.0, 6.0), 600.0 - (4.0 - math.pi) * 36.0),
        (lambda x, y: diamond(x, y, 20.0), 800.0),
    ],
)
def test_shapes_cover_their_area(distance: Callable[[Tensor, Tensor], Tensor], area: float) -> None:
    x, y = plane(128, 0.5, 0.3)
    assert float(inside(distance(x, y), 0.5).sum()) * 0.25 == pytest.approx(area, rel=0.005)


def test_folding_repeats() -> None:
    x = torch.linspace(-50.0, 50.0, 101)
    assert torch.allclose(folded(x, 8.0)[8:], folded(x, 8.0)[:-8])
    assert float(folded(x, 8.0).abs().max()) <= 4.0


@pytest.mark.parametrize("size", [1, 65, 129])
def test_random_psfs_are_light_that_their_seed_decides(size: int) -> None:
    kernel = random_psf(generator(2), size)
    assert kernel.shape == (3, size, size)
    assert kernel.dtype == torch.float32
    assert float(kernel.min()) >= 0.0
    assert torch.allclose(kernel.sum(dim=(1, 2)), torch.ones(3), atol=1e-4)
    assert torch.equal(kernel, random_psf(generator(2), size))
    assert size == 1 or not torch.equal(kernel, random_psf(generator(3), size))


def test_random_psfs_leave_a_picture_in_the_middle_and_scatter_the_rest() -> None:
    shares = [float(random_psf(generator(seed), 65)[1, 31:34, 31:34].sum()) for seed in range(8)]
    print(shares)
    assert 0.1 < min(shares) < max(shares) < 0.95


def test_the_known_panel_stays_the_same() -> None:
    kernel = known_psf(65)
    assert torch.equal(kernel, known_psf(65))
    # Measured when it was chosen: weights trained for it depend on it.
    assert kernel[:, 32, 32].tolist() == pytest.approx([0.5128, 0.5152, 0.5183], rel=1e-3)


@pytest.mark.parametrize("smallest", [1, 2, 7, 97, 1023, 4097])
def test_fast_lengths_are_even_and_smooth(smallest: int) -> None:
    length = fast_length(smallest)
    assert smallest <= length <= max(2, 1.2 * smallest + 1)
    assert length % 2 == 0
    assert 2**20 * 3**12 * 5**9 % length == 0


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"pitch_um": 0.0}, "pitch_um"),
        ({"focal_length_mm": -1.0}, "focal_length_mm"),
        ({"aperture_mm": math.nan}, "aperture_mm"),
        ({"sensor_pixel_um": math.inf}, "sensor_pixel_um"),
        ({"wavelengths_nm": (0.61, 0.54, 0.46)}, "expected 200 to 2000"),
        ({"wavelengths_nm": (2100.0, 540.0, 460.0)}, "expected 200 to 2000"),
        ({"bandwidth_nm": -5.0}, "bandwidth_nm"),
    ],
)
def test_impossible_optics_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        Optics(**change)


@pytest.mark.parametrize(
    ("pattern", "optics", "size", "text"),
    [
        (torch.zeros(8, 8), Optics(), 65, "no light"),
        (white(), Optics(), 64, "odd"),
        (white(), Optics(), -1, "odd"),
        (white(), Optics(pitch_um=20.0), 257, "finer picture"),
        (white(), Optics(pitch_um=0.05), 65, "scale the picture"),
        (white(), Optics(aperture_mm=4.0962), 65, r"needs a grid of 8192\.4, .* a grid of 8192 or less"),
        (white(), Optics(aperture_mm=0.0079), 65, r"is 7\.9 pixels .* expected 8 pixels or more"),
        (white(), Optics(pitch_um=500.0, sensor_pixel_um=0.01), 1, "scale the picture"),
        (white(), Optics(sensor_pixel_um=1e-300), 65, "scale the picture"),
    ],
)
def test_what_cannot_be_computed_is_refused(pattern: Tensor, optics: Optics, size: int, text: str) -> None:
    with pytest.raises(UserError, match=text):
        display_psf(pattern, optics, size)


def test_wrong_calls_are_errors() -> None:
    with pytest.raises(ValueError, match="shape"):
        display_psf(torch.ones(3, 8, 8), Optics(), 65)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        display_psf(torch.full((8, 8), math.nan), Optics(), 65)
    with pytest.raises(ValueError, match="129"):
        random_psf(generator(0), 131)
    with pytest.raises(ValueError, match="family"):
        random_pattern("lace", 8, 1.0, generator(0))
    with pytest.raises(ValueError, match="pitch"):
        random_pattern("waves", 8, 9.0, generator(0))


# --- the verb ------------------------------------------------------------------------------------------------


def test_the_panel_of_the_help_is_drawn_by_our_own_shapes() -> None:
    x, y = plane(64, 1.0)
    u, v = folded(x + 32.0, 64.0), folded(y + 32.0, 64.0)
    shapes = (diamond(x, y, 24.0), diamond(u, v, 24.0), diamond(u, y, 13.0), diamond(x, v, 13.0))
    wires = (2.0 - u.abs(), 2.0 - y.abs())
    blocked = torch.stack([inside(shape, 1.0) for shape in (*shapes, *wires)]).amax(dim=0)
    assert float((read_pattern(PANEL) - (1.0 - blocked)).abs().max()) < 0.003


def test_the_command_of_the_help_writes_what_python_computes(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    words = shlex.split(cli("psf", "--help").stdout.splitlines()[0])
    words = [str(tmp_path / word) if word.startswith("build/") else word for word in words[1:]]
    result = cli(*words, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    expected = display_psf(read_pattern(PANEL), Optics(), 257)
    kernel = read_psf(Path(document["psf"]))
    assert torch.equal(kernel, expected.kernel)
    assert document["captured"] == pytest.approx(expected.captured)
    assert document["transmission"] == pytest.approx(expected.transmission)
    assert document["optics"] == json.loads(json.dumps(dataclasses.asdict(Optics())))
    preview = np.asarray(Image.open(document["preview"]))
    assert preview.shape == (514, 514, 3)
    assert preview[256:258, 256:258].min() > 200
    # 5 decades: an order of 1/1000 of the peak is shown at 2/5 of white
    level = 1.0 + np.log10(kernel.numpy() / float(kernel.max()) + 1e-30) / 5.0
    assert np.abs(preview[::2, ::2].transpose(2, 0, 1) - 255 * level.clip(0, 1)).max() <= 1.0


def test_lengths_reach_the_optics(cli: Cli, tmp_path: Path) -> None:
    lengths = (
        "--pitch 2 --focal-length 4 --aperture 1.6 --sensor-pixel 3 --wavelengths 600,500,450 --bandwidth 0"
    )
    result = cli("psf", PANEL, "-o", tmp_path / "a.npy", *lengths.split(), "--size", "33")
    assert result.code == 0, result.stderr
    expected = display_psf(read_pattern(PANEL), Optics(2.0, 4.0, 1.6, 3.0, (600.0, 500.0, 450.0), 0.0), 33)
    assert torch.equal(read_psf(tmp_path / "a.npy"), expected.kernel)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npy"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("-o a.txt", ".npy"),
        ("-o a.npy --preview a.jpg", ".png"),
        ("-o a.npy --size 64", "odd"),
        ("-o a.npy --wavelengths 550", "R,G,B"),
        ("-o a.npy --wavelengths 1,2,x", "R,G,B"),
        ("-o a.npy --pitch -1", "pitch"),
        ("-o missing/../a.npy --pitch 30", "finer picture"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("psf", PANEL, *options.split())
    assert result.code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert text in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_pattern_that_is_no_picture_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "panel.png").write_bytes(b"no picture")
    result = cli("psf", tmp_path / "panel.png", "-o", tmp_path / "a.npy")
    assert result.code == 2
    assert "panel.png" in result.stderr
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.full((3, 4, 4), 1 / 16, np.float32), "odd"),
        (np.full((5, 5), 0.04, np.float32), "shape"),
        (np.full((3, 5, 5), 1.0, np.float32), "sum"),
        (np.full((3, 5, 5), np.nan, np.float32), "light"),
        (np.full((3, 5, 5), -0.04, np.float32), "light"),
        (np.ones((3, 1, 1), np.int64), "light"),
        (np.array([{"a": 1}], dtype=object), "not a NumPy file"),
    ],
)
def test_other_arrays_are_no_psf(tmp_path: Path, array: Any, text: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=text):
        read_psf(tmp_path / "a.npy")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"\x93NUMPY\x01\x00", None])
def test_other_files_are_no_psf(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npy"):
        read_psf(tmp_path / "a.npy")
