"""Degradations against independent formulations in NumPy, SciPy and OpenCV, on real photos."""

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator, Tensor

from afterlens.training.data import uniform
from afterlens.training.reflection import synthesis
from afterlens.training.reflection.synthesis import (
    KINDS,
    add_occlusion,
    add_reflection,
    add_region,
    add_shadow,
    add_stain,
    attenuate_overflow,
    degrade,
    ellipses_mask,
    feather,
    gaussian_blur,
    ghost,
    lines_mask,
    noise_mask,
    polygon_mask,
    random_mask,
    smooth_noise,
    vignette,
)

Array = NDArray[np.float64]
HEIGHT, WIDTH = 60, 80


def generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def array(x: Tensor) -> Array:
    return x.double().numpy()


@pytest.fixture
def scene(photo: NDArray[np.float32]) -> Tensor:
    """Part of a real photo, (3, 60, 80): floor, wall and a dark edge."""
    return torch.from_numpy(np.ascontiguousarray(photo[250:310, 300:380].transpose(2, 0, 1)))


@pytest.fixture
def other(photo: NDArray[np.float32]) -> Tensor:
    """Another part of it, with the window."""
    return torch.from_numpy(np.ascontiguousarray(photo[20:80, 20:100].transpose(2, 0, 1)))


@pytest.fixture
def mask() -> Tensor:
    """(1, 60, 80), a disc and a bar that touches the border."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    drawn = ((y - 30) ** 2 + (x - 25) ** 2 < 150) | (x > 70)
    return torch.from_numpy(drawn.astype(np.float32))[None]


def blurred(image: Array, sigma: float, mode: str = "mirror") -> Array:
    """SciPy's Gaussian over the last two axes, cut at 3 sigma; "mirror" is what PyTorch calls reflect."""
    return np.asarray(
        ndimage.gaussian_filter(image, sigma, axes=(1, 2), mode=mode, radius=math.ceil(3 * sigma)), np.float64
    )


def feathered(mask: Array, sigma: float) -> Array:
    soft = blurred(mask, sigma)
    return np.asarray(soft / soft.max(), np.float64)


# --- parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.7, 5.5])
def test_blur_is_scipys_and_opencvs(scene: Tensor, sigma: float) -> None:
    got = array(gaussian_blur(scene, sigma))
    np.testing.assert_allclose(got, blurred(array(scene), sigma), atol=1e-6)
    size = 2 * math.ceil(3 * sigma) + 1
    bgr = cv2.GaussianBlur(
        scene.permute(1, 2, 0).numpy(), (size, size), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    np.testing.assert_allclose(got, bgr.transpose(2, 0, 1), atol=1e-6)
    dark = array(gaussian_blur(scene, sigma, "constant"))
    np.testing.assert_allclose(dark, blurred(array(scene), sigma, "constant"), atol=1e-6)
    assert dark[:, 0].mean() < got[:, 0].mean()


def test_blur_wider_than_the_picture_and_of_nothing(scene: Tensor) -> None:
    assert torch.equal(gaussian_blur(scene, 0.0), scene)
    thin = scene[:, :3]
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 4.0) ** 2)  # no more than the picture can mirror
    expected = ndimage.correlate1d(array(thin), weights / weights.sum(), axis=1, mode="mirror")
    expected = ndimage.correlate1d(expected, weights / weights.sum(), axis=2, mode="mirror")
    np.testing.assert_allclose(array(gaussian_blur(thin, 4.0)), expected, atol=1e-6)


def test_smooth_noise_is_normalised_and_as_coarse_as_asked() -> None:
    for cell in (4.0, 20.0):
        noise = smooth_noise(160, 200, cell, generator(1), channels=2)
        assert noise.shape == (2, 160, 200)
        assert abs(float(noise.mean())) < 1e-4 and float(noise.std()) == pytest.approx(1.0, abs=1e-3)
        near = float((noise[..., 1:] * noise[..., :-1]).mean())
        lag = int(2 * cell)
        far = float((noise[..., lag:] * noise[..., :-lag]).mean())
        print(f"cell {cell}: correlation {near:.3f} next door, {far:.3f} two cells away")
        assert near > 0.85 and abs(far) < 0.35


def test_feather_is_a_blur_normalised_to_one(mask: Tensor) -> None:
    got = array(feather(mask, 3.0))
    np.testing.assert_allclose(got, feathered(array(mask), 3.0), atol=1e-6)
    assert got.max() == pytest.approx(1.0)
    assert not feather(torch.zeros(1, 8, 8), 3.0).any(), "an empty mask stays empty"


# --- masks --------------------------------------------------------------------------------------------------


def test_ellipses_are_opencvs() -> None:
    for seed in range(10):
        got = ellipses_mask(HEIGHT, WIDTH, generator(seed), 3, 12.0)
        draws, expected = generator(seed), np.zeros((HEIGHT, WIDTH), np.uint8)
        for _ in range(3):
            cy, cx = uniform(draws, 0, HEIGHT), uniform(draws, 0, WIDTH)
            a, b = 12 * uniform(draws, 0.5, 1.5), 12 * uniform(draws, 0.5, 1.5)
            angle = math.degrees(uniform(draws, 0, math.pi))
            cv2.ellipse(expected, ((cx, cy), (2 * a, 2 * b), angle), (1.0,), cv2.FILLED)
        both = np.logical_and(got[0].numpy(), expected).sum()
        either = np.logical_or(got[0].numpy(), expected).sum()
        assert both / either > 0.88, (seed, both / either)  # OpenCV rounds outlines outwards


def test_polygons_are_convex() -> None:
    for seed in range(20):
        got = polygon_mask(4 * HEIGHT, 4 * WIDTH, generator(seed), 3 + seed % 4)[0].numpy().astype(np.uint8)
        points = cv2.findNonZero(got)
        assert points is not None, seed
        hull = cv2.fillConvexPoly(np.zeros_like(got), cv2.convexHull(points), (1.0,))
        assert got.sum() / hull.sum() > 0.95, (seed, got.sum(), hull.sum())


def test_lines_cross_the_picture_and_are_as_thick_as_asked() -> None:
    for seed in range(20):
        got = lines_mask(100, 100, generator(seed), 1, 6.0)[0].numpy().astype(np.uint8)
        if got.sum() < 100:
            continue  # only a corner
        # The largest disc that fits inside: half the thickness, which is 0.5 to 1.5 of what was asked.
        radius = cv2.distanceTransform(np.pad(got, 1), cv2.DIST_L2, 5).max()
        assert 1.0 <= radius <= 6.0, (seed, radius)
        border = np.concatenate([got[0], got[-1], got[:, 0], got[:, -1]])
        assert border.any(), seed


def test_lines_are_slightly_bent() -> None:
    """Each is a parabola, however it is turned: 20 pixels off its tangent at 100 pixels from its vertex, at most."""
    bends = []
    for seed in range(20):
        rows, columns = np.nonzero(lines_mask(100, 100, generator(seed), 1, 2.0)[0].numpy())
        if len(rows) < 100:
            continue  # only a corner
        best = (np.inf, 0.0)
        for angle in np.linspace(0, np.pi, 360, endpoint=False):
            along = columns * np.cos(angle) + rows * np.sin(angle)
            across = rows * np.cos(angle) - columns * np.sin(angle)
            fitted = np.polynomial.Polynomial.fit(along, across, 2)
            best = min(best, (np.abs(across - fitted(along)).max(), abs(fitted.convert().coef[2])))
        off, bend = best
        assert off < 2.5 and bend < 0.0025, (seed, best)  # half the thickness, half a pixel, half a degree
        bends.append(bend)
    print(f"{len(bends)} lines, bends {np.round(bends, 4)}")
    assert len(bends) > 10 and max(bends) > 0.001


@pytest.mark.parametrize("area", [0.05, 0.3, 0.6])
def test_noise_mask_covers_the_share_that_was_asked(area: float) -> None:
    assert float(noise_mask(HEIGHT, WIDTH, generator(3), 12.0, area).mean()) == pytest.approx(area, abs=0.01)


def test_random_masks_are_binary_and_of_plausible_area() -> None:
    areas = []
    for seed in range(200):
        got = random_mask(HEIGHT, WIDTH, generator(seed))
        assert got.shape == (1, HEIGHT, WIDTH) and set(got.unique().tolist()) <= {0.0, 1.0}
        areas.append(float(got.mean()))
    tenth, half, ninetieth = np.quantile(areas, [0.1, 0.5, 0.9])
    print(f"area: tenth {tenth:.2f}, median {half:.2f}, ninetieth {ninetieth:.2f}")
    assert tenth > 0.02 and 0.1 < half < 0.4 and ninetieth < 0.7


# --- layers ----------------------------------------------------------------------------------------------


def test_region_follows_the_claimed_recipe(scene: Tensor, other: Tensor, mask: Tensor) -> None:
    """Mask feathered and normalised, reference blurred, product added linearly."""
    got = array(add_region(scene, other, mask, 2.5, 1.5))
    expected = np.clip(array(scene) + feathered(array(mask), 2.5) * blurred(array(other), 1.5), 0.0, 1.0)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    far = feathered(array(mask), 2.5)[0] == 0.0
    assert far.any() and np.array_equal(got[:, far], array(scene)[:, far]), "untouched outside the region"


def overflow_attenuated(photo: Array, layer: Array, factor: float) -> Array:
    """CEILNet's data formula, pixel by pixel."""
    out = np.empty_like(layer)
    for channel in range(3):
        total, count = 0.0, 0
        for y in range(photo.shape[1]):
            for x in range(photo.shape[2]):
                mixed = photo[channel, y, x] + layer[channel, y, x]
                if mixed > 1.0:
                    total, count = total + mixed - 1.0, count + 1
        mean = total / count if count else 0.0
        out[channel] = np.clip(layer[channel] - factor * mean, 0.0, 1.0)
    return out


def test_overflow_darkens_the_reflection_as_in_ceilnet(scene: Tensor, other: Tensor) -> None:
    other = other * 0.987  # sums of 8-bit values are often 1 exactly, or a rounding error above it
    got = array(attenuate_overflow(scene, other))
    np.testing.assert_allclose(got, overflow_attenuated(array(scene), array(other), 1.3), atol=1e-5)
    assert (array(scene) + array(other)).max() > 1.0 and got.mean() < other.mean()
    dark = scene * 0.1
    assert torch.equal(attenuate_overflow(dark, dark), dark), "nothing overflows, nothing changes"


@pytest.mark.parametrize("shift", [(3, -5), (-2, 4), (0, 6), (0, 0)])
def test_ghost_adds_the_shifted_layer(scene: Tensor, shift: tuple[int, int]) -> None:
    layer = array(scene)
    expected = np.empty_like(layer)
    for y in range(HEIGHT):
        for x in range(WIDTH):
            row = min(max(y - shift[0], 0), HEIGHT - 1)
            column = min(max(x - shift[1], 0), WIDTH - 1)
            expected[:, y, x] = 0.7 * layer[:, y, x] + 0.3 * layer[:, row, column]
    np.testing.assert_allclose(array(ghost(scene, shift, 0.3)), expected, atol=1e-6)


def test_vignette_is_a_broad_gaussian() -> None:
    for seed in range(5):
        got, draws = vignette(HEIGHT, WIDTH, generator(seed)), generator(seed)
        cy, cx = uniform(draws, 0, HEIGHT), uniform(draws, 0, WIDTH)
        spread = WIDTH * uniform(draws, 0.35, 1.2)
        rows = np.exp(-0.5 * ((np.arange(HEIGHT) - cy) / spread) ** 2)
        columns = np.exp(-0.5 * ((np.arange(WIDTH) - cx) / spread) ** 2)
        np.testing.assert_allclose(array(got)[0], np.outer(rows, columns), atol=1e-5)


def test_reflections_are_composed_of_their_parts(scene: Tensor, other: Tensor) -> None:
    """The same draws, put together in NumPy: blurred, doubled, vignetted, added in one of three ways, clipped."""
    other = other * 0.987  # see above
    photo, styles = array(scene), set()
    for seed in range(40):
        draws = generator(seed)
        mode = "constant" if uniform(draws, 0, 1) < 0.5 else "mirror"
        sigma = uniform(draws, 0.5, 4.5) if uniform(draws, 0, 1) < 0.85 else uniform(draws, 4.5, 12.0)
        layer = blurred(array(other), sigma, mode)
        doubled = uniform(draws, 0, 1) < 0.25
        if doubled:
            dy, dx = torch.randint(-6, 7, (2,), generator=draws).tolist()
            strength = uniform(draws, 0.2, 0.5)
            edge = np.pad(layer, ((0, 0), (6, 6), (6, 6)), mode="edge")
            layer = (1 - strength) * layer + strength * edge[:, 6 - dy :, 6 - dx :][:, :HEIGHT, :WIDTH]
        faded = uniform(draws, 0, 1) < 0.25
        if faded:
            layer = layer * array(vignette(HEIGHT, WIDTH, draws))
        style = uniform(draws, 0, 1)
        if style < 0.5:
            expected = photo + overflow_attenuated(photo, layer, 1.3)
        else:
            strength, transmission = uniform(draws, 0.2, 0.85), uniform(draws, 0.85, 1.0)
            if style < 0.65:
                expected = transmission * photo + strength * layer
            else:
                layer = layer ** uniform(draws, 0.4, 1.1)
                linear = transmission * photo**2.2 + (strength * layer) ** 2.2
                expected = np.clip(linear, 1e-6, 1.0) ** (1 / 2.2)
        got = array(add_reflection(scene, other, generator(seed)))
        np.testing.assert_allclose(got, np.clip(expected, 0.0, 1.0), atol=2e-5, err_msg=f"seed {seed}")
        styles.add((doubled, faded, int(style >= 0.5) + int(style >= 0.65)))
    assert {style[2] for style in styles} == {0, 1, 2} and {style[0] for style in styles} == {False, True}


def test_shadow_multiplies_each_channel(scene: Tensor, mask: Tensor) -> None:
    colour = torch.tensor([0.3, 0.4, 0.55])
    expected = array(scene).copy()
    soft = feathered(array(mask), 2.0)[0]
    for channel, left in enumerate((0.3, 0.4, 0.55)):
        expected[channel] = (1 - soft) * expected[channel] + soft * left * expected[channel]
    np.testing.assert_allclose(array(add_shadow(scene, mask, 2.0, colour)), expected, atol=1e-6)


def test_stain_warps_blurs_and_brightens_inside_its_region(scene: Tensor, mask: Tensor) -> None:
    flow = smooth_noise(HEIGHT, WIDTH, 15.0, generator(2), channels=2) * 3.0
    got = array(add_stain(scene, mask, flow, 1.5, 1.2, 2.0))
    soft = feathered(array(mask), 2.0)[0]
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    places = np.stack([y + array(flow)[1] * soft, x + array(flow)[0] * soft])
    exact = np.stack([ndimage.map_coordinates(c, places, order=1, mode="mirror") for c in array(scene)])
    np.testing.assert_allclose(
        got, np.clip(array(scene) + soft * (blurred(exact, 1.5) * 1.2 - array(scene)), 0.0, 1.0), atol=2e-5
    )

    # OpenCV knows positions to 1/32 pixel only.
    rows, columns = places.astype(np.float32)
    bent = cv2.remap(
        scene.permute(1, 2, 0).numpy(), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    ).transpose(2, 0, 1)
    wet = np.clip(
        array(scene) + soft * (blurred(bent.astype(np.float64), 1.5) * 1.2 - array(scene)), 0.0, 1.0
    )
    np.testing.assert_allclose(got, wet, atol=4e-3)
    assert np.abs(exact - array(scene)).max() > 0.1, "the warp moved something"
    assert np.array_equal(got[:, soft == 0.0], array(scene)[:, soft == 0.0])


def test_occlusion_is_alpha_over(scene: Tensor, other: Tensor, mask: Tensor) -> None:
    alpha = feathered(array(mask), 1.0)
    expected = alpha * array(other) + (1 - alpha) * array(scene)
    np.testing.assert_allclose(array(add_occlusion(scene, other, mask, 1.0)), expected, atol=1e-6)


# --- degrade ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_range_and_shape_and_depends_on_the_seed_alone(
    kind: str, scene: Tensor, other: Tensor
) -> None:
    before = scene.clone(), other.clone()
    state = torch.get_rng_state()
    changes = []
    for seed in range(40):
        got = degrade(scene, other, kind, generator(seed))
        assert got.shape == scene.shape and got.dtype == torch.float32
        assert bool(got.isfinite().all()) and float(got.min()) >= -1e-6 and float(got.max()) <= 1.0 + 1e-6
        assert torch.equal(got, degrade(scene, other, kind, generator(seed)))
        changes.append(float((got - scene).abs().mean()))
    assert torch.equal(scene, before[0]) and torch.equal(other, before[1]), "the inputs are left alone"
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn from the global generator"
    print(f"{kind}: mean change {np.mean(changes):.3f}, least {min(changes):.4f}")
    if kind == "clean":
        assert max(changes) == 0.0
    else:
        assert len(set(changes)) > 35 and np.mean(changes) > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (33, 70)])
def test_other_sizes_work(kind: str, size: tuple[int, int]) -> None:
    photo, second = torch.rand(2, 3, *size, generator=generator(1))
    for seed in range(8):
        assert degrade(photo, second, kind, generator(seed)).shape == photo.shape


def test_kinds_do_what_they_are_called(scene: Tensor, other: Tensor) -> None:
    """Reflections and regions add light, shadows take it away; occlusions leave most of the picture alone."""
    for seed in range(20):
        assert float((degrade(scene, other, "region", generator(seed)) - scene).min()) >= 0.0
        assert float((degrade(scene, other, "shadow", generator(seed)) - scene).max()) <= 1e-6
    share = [
        float(
            (degrade(scene, other, "occlusion", generator(seed)) - scene)
            .abs()
            .amax(dim=0)
            .gt(0.02)
            .float()
            .mean()
        )
        for seed in range(40)
    ]
    print(f"occluded: mean {np.mean(share):.2f}")
    assert 0.03 < np.mean(share) < 0.5


def test_unknown_kinds_are_refused(scene: Tensor) -> None:
    with pytest.raises(
        ValueError, match="unknown kind of degradation 'snow': expected one of region, reflection"
    ):
        degrade(scene, scene, "snow", generator(0))
    assert synthesis.KINDS[-1] == "clean"
