"""Drawn beards: exact masks, their classes, and blur and noise like the photo's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from afterlens.samples import HELD_OUT_FACES
from afterlens.training.faces.beards import (
    _FREQUENT,
    AMOUNTS,
    CLASSES,
    HAIR,
    _light,
    area_ratio,
    draw_beard,
    edge_blur,
    noise_level,
)
from afterlens.training.faces.laid_beards import mean_landmarks
from afterlens.training.faces.portraits import read_labels
from afterlens.training.faces.regions import beard_regions, scale_of

PATH = HELD_OUT_FACES[1]


@pytest.fixture(scope="module")
def face() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(picture, landmarks)"""
    labels = read_labels(PATH)
    assert labels is not None
    return np.asarray(Image.open(PATH), np.float32) / 255, np.array(labels.landmarks, np.float32)


@pytest.mark.parametrize("kind", CLASSES)
def test_nothing_changes_outside_of_the_mask_and_everything_inside_is_explained_by_it(
    face: tuple[NDArray[np.float32], NDArray[np.float32]], kind: str
) -> None:
    picture, landmarks = face
    beard = draw_beard(picture, landmarks, kind, np.random.default_rng(5))
    worn = beard.over(picture)
    assert np.array_equal(worn[beard.mask == 0], picture[beard.mask == 0])
    there = beard.mask > 0.05
    bare = (worn - beard.colour)[there] / np.maximum(1 - beard.mask[there], 1e-3)[:, None]
    visible = (beard.mask[there] < 0.9) & (worn[there] > 0).all(axis=1) & (worn[there] < 1).all(axis=1)
    np.testing.assert_allclose(bare[visible], picture[there][visible], atol=1e-4)
    assert (beard.mask.max() > 0.3) == (kind != "none")
    assert beard.mask[: int(landmarks[[33, 263], 1].max())].max() < 0.2  # nothing above the eyes


def test_the_classes_differ_in_where_and_how_much(
    face: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    picture, landmarks = face
    regions = beard_regions(landmarks, 256)
    area: dict[str, float] = {}
    cheeks: dict[str, float] = {}
    for kind in CLASSES[1:]:
        beards = [draw_beard(picture, landmarks, kind, np.random.default_rng(seed)) for seed in range(3)]
        area[kind] = float(np.mean([area_ratio(beard.mask, landmarks) for beard in beards]))
        jaw = regions["jaw"] * (regions["chin"] < 0.05) * (regions["corners"] < 0.05)
        cheeks[kind] = float(np.mean([(beard.mask * jaw).sum() / jaw.sum() for beard in beards]))
    print(area, cheeks)
    assert area["moustache"] < area["goatee"] < area["full"]
    assert cheeks["full"] > cheeks["stubble"] > 3 * max(cheeks["moustache"], cheeks["goatee"])


def test_a_goatee_may_come_without_a_moustache_and_says_so(
    face: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    picture, landmarks = face
    region = beard_regions(landmarks, 256)["moustache"] > 0.6
    seen: dict[tuple[float, float, float], list[float]] = {}
    for seed in range(8):
        beard = draw_beard(picture, landmarks, "goatee", np.random.default_rng(seed))
        seen.setdefault(beard.amounts, []).append(float(beard.mask[region].mean()))
    assert set(seen) == {AMOUNTS["goatee"], (0.0, 1.0, 0.0)}
    assert min(seen[AMOUNTS["goatee"]]) > 3 * max(seen[(0.0, 1.0, 0.0)])


def test_a_seed_draws_the_same_beard_again(face: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    first, again, other = (
        draw_beard(*face, "full", np.random.default_rng(seed)).colour for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5])
def test_blur_is_measured(sigma: float) -> None:
    edges = np.zeros((128, 128), np.float32)
    edges[:, 64:] = 1.0
    cv2.circle(edges, (40, 40), 20, (0.7,), -1)
    blurred = cv2.GaussianBlur(edges, (0, 0), sigma)
    measured = edge_blur(np.repeat(blurred[..., None], 3, axis=2))
    assert measured == pytest.approx(sigma, rel=0.3), measured


@pytest.mark.parametrize("level", [0.005, 0.02])
def test_noise_is_measured_and_lies_over_the_beard(
    face: tuple[NDArray[np.float32], NDArray[np.float32]], level: float
) -> None:
    picture, landmarks = face
    smooth = cv2.GaussianBlur(picture, (0, 0), 2.0)
    noisy = smooth + np.random.default_rng(0).normal(0.0, level, picture.shape).astype(np.float32)
    assert noise_level(noisy) == pytest.approx(level, rel=0.25)
    quiet, loud = (draw_beard(base, landmarks, "full", np.random.default_rng(3)) for base in (smooth, noisy))
    dense = (quiet.mask > 0.97) & (loud.mask > 0.97)

    def grain(colour: NDArray[np.float32]) -> float:
        return float((colour - cv2.medianBlur(colour, 3))[dense].std())

    assert grain(loud.colour) > grain(quiet.colour)


@pytest.mark.parametrize(
    ("level", "expected"), [(0.0, 0.2), (0.01, 0.25), (0.03, 0.5), (0.2, (0.2 / 0.45) ** 0.5)]
)
def test_light_on_a_dark_face_has_a_floor(
    face: tuple[NDArray[np.float32], NDArray[np.float32]], level: float, expected: float
) -> None:
    """Brightness over its median, 0.02 at least, times an exposure of 0.5 at least."""
    landmarks = face[1]
    dark = np.full((256, 256, 3), level, np.float32)
    np.testing.assert_allclose(_light(dark, landmarks, scale_of(landmarks)), expected, rtol=1e-4)


def test_the_shares_of_hair_colours_are_those_of_all() -> None:
    assert len(_FREQUENT) == len(HAIR)
    assert _FREQUENT.sum() == pytest.approx(1.0)


def test_hair_hardly_grows_on_the_lips_and_masks_are_shares() -> None:
    parts = beard_regions(mean_landmarks(), 256)
    lips = parts["lips"] > 0.9
    assert lips.sum() > 300
    for name, mask in parts.items():
        print(name, mask.min(), mask.max(), mask[lips].max())
        assert mask.min() >= 0.0 and 0.3 < mask.max() <= 1.0 + 1e-6, name
        assert name == "lips" or mask[lips].max() < (0.4 if name == "moustache" else 0.05), name
