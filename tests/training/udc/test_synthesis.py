"""Image formation behind a display against direct convolution, closed forms and statistics, on a real photo."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator, Tensor

from afterlens.training.udc import synthesis
from afterlens.training.udc.psf import random_psf
from afterlens.training.udc.synthesis import (
    KINDS,
    PANELS,
    SIZE,
    SRGB,
    TONE_MAPPED,
    Camera,
    add_light_sources,
    convolve,
    degrade,
    expand_highlights,
    form_image,
    panel_psf,
    photograph,
    to_linear,
    to_srgb,
    veiled,
)


def generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def point(size: int = 5) -> Tensor:
    """The PSF of no panel at all."""
    psf = torch.zeros(3, size, size)
    psf[:, size // 2, size // 2] = 1.0
    return psf


def lopsided(size: int) -> Tensor:
    """A PSF without any symmetry, so that a flip or a shift shows."""
    psf = torch.rand(3, size, size, generator=generator(8)) ** 4
    return psf / psf.sum(dim=(1, 2), keepdim=True)


@pytest.fixture
def scene(photo: NDArray[np.float32]) -> Tensor:
    """(3, 70, 96) of a real photo, with the window."""
    return torch.from_numpy(np.ascontiguousarray(photo[20:90, 20:116].transpose(2, 0, 1)))


# --- convolution ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 17, 65])
def test_fourier_convolution_is_direct_convolution(scene: Tensor, size: int) -> None:
    psf = lopsided(size)
    expected = np.stack(
        [
            ndimage.convolve(channel, kernel, mode="mirror")  # SciPy's name for PyTorch's reflect
            for channel, kernel in zip(scene.double().numpy(), psf.double().numpy(), strict=True)
        ]
    )
    error = np.abs(convolve(scene, psf).double().numpy() - expected).max()
    assert error < 1e-5, f"largest difference {error:.1e}"


def test_pictures_of_a_batch_may_share_a_psf_or_have_their_own(scene: Tensor) -> None:
    batch = torch.stack([scene, scene.flip(2)])
    psfs = torch.stack([lopsided(9), point(9)])
    own = convolve(batch, psfs)
    shared = convolve(batch, psfs[0])
    assert torch.allclose(own[0], convolve(scene, psfs[0]), atol=1e-6)
    assert torch.allclose(own[1], batch[1], atol=1e-6)
    assert torch.allclose(shared[1], convolve(batch[1], psfs[0]), atol=1e-6)


def test_a_picture_smaller_than_the_psf_is_convolved_too() -> None:
    flat = torch.full((3, 5, 7), 0.4)
    assert torch.allclose(convolve(flat, lopsided(65)), flat, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 5, 3)])
def test_a_psf_without_a_middle_is_refused(scene: Tensor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="k odd"):
        convolve(scene, torch.ones(shape))


def test_convolution_can_be_learned_through(scene: Tensor) -> None:
    psf = lopsided(5).requires_grad_()
    to_srgb(convolve(to_linear(scene), psf).clamp_min(0.0)).mean().backward()
    assert psf.grad is not None
    assert bool(torch.isfinite(psf.grad).all())
    assert float(psf.grad.abs().max()) > 0.0


# --- light ---------------------------------------------------------------------------------------------------


def test_srgb_is_the_standard_curve() -> None:
    # IEC 61966-2-1: code 188 of 255 is half of the light; near black the slope is 12.92.
    assert float(to_linear(torch.tensor(188 / 255))) == pytest.approx(0.5029, abs=1e-4)
    assert float(to_linear(torch.tensor(0.02))) == pytest.approx(0.02 / 12.92)
    assert float(to_srgb(torch.tensor(0.18))) == pytest.approx(0.4614, abs=1e-4)
    codes = torch.linspace(0.0, 1.0, 1001, dtype=torch.float64)
    assert float((to_srgb(to_linear(codes)) - codes).abs().max()) < 1e-6


def test_black_has_a_finite_gradient() -> None:
    for curve in (to_srgb, to_linear):
        black = torch.zeros(3, requires_grad=True)
        curve(black).sum().backward()
        assert black.grad is not None
        assert bool(torch.isfinite(black.grad).all()), curve


def test_highlights_rise_and_the_rest_stays(scene: Tensor) -> None:
    linear = to_linear(scene)
    linear[:, 3, 4] = 1.0
    hdr = expand_highlights(linear, knee=0.8, peak=20.0, added=1e9)
    dark = linear.amax(dim=0) <= 0.8
    assert torch.equal(hdr[:, dark], linear[:, dark])
    assert hdr[:, 3, 4].tolist() == pytest.approx([20.0] * 3)
    assert float((hdr / linear.clamp_min(1e-6)).max()) <= 20.0 + 1e-4
    assert bool((hdr >= linear).all())


def test_a_bright_sky_is_not_a_hundred_lamps() -> None:
    sky = torch.full((2, 3, 16, 16), 0.3)
    sky[0, :, :8] = 1.0
    sky[1, :, 0, 0] = 1.0
    hdr = expand_highlights(sky, knee=0.8, peak=50.0, added=0.2)
    added = (hdr - sky).mean(dim=(1, 2, 3)) / sky.mean(dim=(1, 2, 3))
    assert float(added[0]) == pytest.approx(0.2)
    assert float(hdr[1, 0, 0, 0]) == pytest.approx(1.0 + 0.2 * float(sky[1].mean()) * 256, rel=1e-4)


def test_lamps_are_small_bright_and_clipped(scene: Tensor) -> None:
    night = scene * 0.2
    for seed in range(5):
        lit = add_light_sources(night, generator(seed))
        changed = (lit != night).any(dim=0)
        assert 0.0 < float(changed.float().mean()) < 0.5
        assert float(lit.max()) > 0.85
        assert 0.0 <= float(lit.min()) <= float(lit.max()) <= 1.0
        assert bool((lit >= night).all())
    assert torch.equal(add_light_sources(night, generator(3)), add_light_sources(night, generator(3)))


# --- the camera ----------------------------------------------------------------------------------------------

NOISELESS = Camera(transmission=0.2, gain=5.0, full_well=1e12, read_noise=0.0)


def test_without_a_panel_and_noise_the_photo_comes_back(scene: Tensor) -> None:
    for picture in (scene, torch.stack([scene, scene.flip(1)])):
        result = form_image(to_linear(picture), point(), NOISELESS, generator(0))
        assert float((result - picture).abs().max()) < 1e-3


def test_a_lamp_beyond_white_flares_more_than_a_clipped_one() -> None:
    psf = panel_psf(0, held_out=False)
    dark = torch.full((3, 97, 97), 0.05)
    clipped, lamp = dark.clone(), dark.clone()
    clipped[:, 48, 48], lamp[:, 48, 48] = 1.0, 50.0
    near = [
        form_image(light, psf, NOISELESS, generator(0))[:, 30:67, 30:67].mean()
        for light in (dark, clipped, lamp)
    ]
    assert near[0] < near[1]
    assert near[2] - near[0] > 5 * (near[1] - near[0])


def test_noise_has_the_variance_of_shot_and_read_noise() -> None:
    camera = Camera(transmission=0.1, gain=10.0, full_well=1e4, read_noise=12.0)
    flat = torch.full((3, 128, 128), 0.3)
    measured = to_linear(form_image(flat, point(1), camera, generator(1)).double())
    # 0.3 * 0.1 * 1e4 = 300 electrons; 1000 electrons are white.
    assert float(measured.mean()) == pytest.approx(0.3, rel=0.01)
    assert float(measured.std()) == pytest.approx(math.sqrt(300 + 144) / 1000, rel=0.02)


def test_less_light_through_the_panel_is_more_noise_at_the_same_brightness(scene: Tensor) -> None:
    def noise(transmission: float) -> float:
        camera = Camera(transmission, 1.0 / transmission, 5e3, 3.0)
        return float((form_image(to_linear(scene), point(), camera, generator(1)) - scene).std())

    assert noise(0.05) > 2.0 * noise(0.4)


@pytest.mark.parametrize(
    "values",
    [
        (0.0, 5.0, 1e4, 1.0),
        (1.1, 5.0, 1e4, 1.0),
        (0.2, math.inf, 1e4, 1.0),
        (0.2, 5.0, -1.0, 1.0),
        (0.2, 5.0, 1e4, -1.0),
    ],
)
def test_impossible_cameras_are_refused(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Camera(*values)


# --- degradations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_degradations_are_pictures_that_their_seed_decides(scene: Tensor, kind: str) -> None:
    before = scene.clone()
    degraded = degrade(scene, scene, kind, generator(5))
    assert degraded.shape == scene.shape
    assert degraded.dtype == torch.float32
    assert 0.0 <= float(degraded.min()) <= float(degraded.max()) <= 1.0
    assert torch.equal(scene, before)
    assert torch.equal(degraded, degrade(scene, scene, kind, generator(5)))
    assert not torch.equal(degraded, degrade(scene, scene, kind, generator(6)))


@pytest.mark.parametrize("kind", KINDS)
def test_degradations_are_as_strong_as_real_ones(photo: NDArray[np.float32], kind: str) -> None:
    # Pictures through measured panels are 18 to 30 dB from the truth.
    clear = torch.from_numpy(photo.transpose(2, 0, 1)[:, 100:350, 200:500].copy())
    scores = [
        -10.0 * math.log10(float((degrade(clear, clear, kind, generator(seed)) - clear).square().mean()))
        for seed in range(8)
    ]
    print(kind, [f"{score:.1f}" for score in scores])
    assert 14.0 < min(scores) < max(scores) < 36.0
    assert 18.0 < sum(scores) / len(scores) < 30.0


def test_a_flat_picture_keeps_its_brightness() -> None:
    flat = torch.full((3, 64, 64), 0.5)
    for seed in range(4):
        assert float(
            photograph(flat, random_psf(generator(seed), 33), generator(seed)).mean()
        ) == pytest.approx(0.5, abs=0.03)


def test_contrast_is_lost() -> None:
    stripes = (torch.arange(96) // 4 % 2).float().mul(0.5).add(0.2).expand(3, 96, 96)
    for kind in KINDS:
        assert float(degrade(stripes, stripes, kind, generator(2)).mean(dim=1).std()) < 0.9 * float(
            stripes.std()
        )


def test_held_out_panels_are_others() -> None:
    trained, held_out = panel_psf(0, held_out=False), panel_psf(0, held_out=True)
    assert trained.shape == held_out.shape == (3, SIZE, SIZE)
    assert not torch.equal(trained, held_out)
    assert not torch.equal(trained, panel_psf(PANELS - 1, held_out=False))


def test_panels_are_mounted_in_all_eight_ways(scene: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch.zeros(3, 5, 5)
    kernel[:, 0, 1] = 1.0
    seen: set[tuple[int, ...]] = set()

    def remember(photo: Tensor, psf: Tensor, generator: Generator) -> Tensor:
        seen.add(tuple(psf[0].nonzero()[0].tolist()))
        return photo

    monkeypatch.setattr(synthesis, "panel_psf", lambda index, held_out: kernel)
    monkeypatch.setattr(synthesis, "photograph", remember)
    for seed in range(64):
        synthesis.degrade(scene, scene, "panel", Generator().manual_seed(seed))
    assert seen == {(0, 1), (0, 3), (1, 0), (3, 0), (4, 1), (4, 3), (1, 4), (3, 4)}


def test_light_from_beyond_the_kernel_veils_the_scene() -> None:
    halves = torch.zeros(3, 8, 8)
    halves[:, :, 4:] = 0.5
    veils = []
    for seed in range(40):
        scene = veiled(halves, generator(seed))
        veils.append(float(scene[0, 0, 0] / scene[0].mean()))  # of black
    assert 0.0 <= min(veils) < 0.01 and 0.05 < max(veils) <= 0.1


def test_tone_curves_are_their_own_inverses() -> None:
    levels = torch.linspace(0.0, 1.0, 256).expand(3, 1, 256)
    assert float((SRGB.encode(SRGB.decode(levels)) - levels).abs().max()) < 1e-4
    below = levels[..., :251]  # brighter ones are taken for 16 times white
    assert float((TONE_MAPPED.encode(TONE_MAPPED.decode(below)) - below).abs().max()) < 1e-4
    light = TONE_MAPPED.decode(levels)
    assert (
        float(light.max()) == pytest.approx(16.0, rel=1e-3) and float(TONE_MAPPED.encode(-light).max()) == 0.0
    )


def test_an_unknown_kind_is_refused(scene: Tensor) -> None:
    with pytest.raises(ValueError, match="held_out_panel"):
        degrade(scene, scene, "rain", generator(0))
