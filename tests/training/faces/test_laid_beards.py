"""Beards laid on a face: strands that move with it, in the colour of its brows."""

from __future__ import annotations

import numpy as np
import pytest

from afterlens.samples import HELD_OUT_FACES
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.beards import AMOUNTS, grow
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.laid_beards import _BROWS, brow_colour, laid, lay_beard, mean_landmarks
from afterlens.training.faces.portraits import read_labels
from afterlens.training.faces.regions import beard_regions
from afterlens.training.media.images import read_photo


@pytest.fixture(scope="module")
def face() -> tuple[Floats, Floats]:
    """(picture, landmarks)"""
    labels = read_labels(HELD_OUT_FACES[1])
    assert labels is not None
    return read_photo(HELD_OUT_FACES[1]).rgb, np.array(labels.landmarks, np.float32)


def test_on_the_mean_head_it_is_as_it_was_grown() -> None:
    grown = grow(mean_landmarks(), SIDE, "full", np.random.default_rng(3))
    again = laid(grown, mean_landmarks(), SIDE)
    for before, after in ((grown.coverage, again.coverage), (grown.shadow, again.shadow)):
        # All but the opening of the mouth, which is no part of the mesh.
        assert before.max() > 0.3 and (np.abs(after - before) > 1e-3).mean() < 1e-3
    hair = again.coverage > 0.2
    np.testing.assert_allclose(again.tone[hair], grown.tone[hair], atol=1e-2)


def test_it_moves_with_the_face(face: tuple[Floats, Floats]) -> None:
    _, landmarks = face
    grown = grow(mean_landmarks(), SIDE, "full", np.random.default_rng(3))
    moved = landmarks + np.array([9.0, -6.0], np.float32)
    here, there = laid(grown, landmarks, SIDE), laid(grown, moved, SIDE)
    shifted = np.roll(here.coverage, (-6, 9), (0, 1))
    assert np.abs(shifted - there.coverage)[10:-10, 10:-10].mean() < 1e-3 < there.coverage.mean()


def test_each_class_lies_where_it_grows(face: tuple[Floats, Floats]) -> None:
    picture, landmarks = face
    regions = beard_regions(landmarks, SIDE)
    lip, chin = regions["moustache"] > 0.7, regions["chin"] > 0.9
    cheek = (regions["jaw"] > 0.9) & (regions["chin"] < 0.05) & (regions["corners"] < 0.05)
    changed = {
        kind: [
            float(np.abs(lay_beard(picture, landmarks, amounts) - picture)[part].mean())
            for part in (lip, chin, cheek)
        ]
        for kind, amounts in AMOUNTS.items()
    }
    print(changed)
    assert changed["none"] == [0.0, 0.0, 0.0] and min(changed["stubble"]) > 0.02
    assert min(changed["full"]) > 0.1 and max(changed["stubble"]) < max(changed["full"])
    assert changed["moustache"][0] > 0.1 > 10 * max(changed["moustache"][1:])
    assert min(changed["goatee"][:2]) > 0.1 > 5 * changed["goatee"][2]
    above_the_eyes = lay_beard(picture, landmarks, AMOUNTS["full"])[: int(landmarks[[33, 263], 1].min())]
    assert np.array_equal(above_the_eyes, picture[: len(above_the_eyes)])


def test_the_brows_are_each_others_mirror_image() -> None:
    mean = mean_landmarks()
    middle = (mean[:, 0].min() + mean[:, 0].max()) / 2
    right, left = (mean[brow] for brow in _BROWS)
    mirrored = right * np.array([-1, 1]) + np.array([2 * middle, 0])
    print(np.abs(mirrored - left).max())
    np.testing.assert_allclose(mirrored, left, atol=2.0)  # the mean head is not quite symmetric
    eyes = mean[[33, 133, 263, 362], 1].min()
    assert max(right[:, 1].max(), left[:, 1].max()) < eyes  # above them


def test_it_has_the_colour_of_the_brows(face: tuple[Floats, Floats]) -> None:
    picture, landmarks = face
    for colour in ((0.6, 0.4, 0.1), (0.05, 0.05, 0.05)):
        painted = picture.copy()
        for brow in (landmarks[[70, 63, 105, 66, 107, 55]], landmarks[[300, 293, 334, 296, 336, 285]]):
            left, top = np.floor(brow.min(axis=0)).astype(int)
            right, bottom = np.ceil(brow.max(axis=0)).astype(int)
            painted[top:bottom, left:right] = colour
        np.testing.assert_allclose(brow_colour(painted, landmarks), colour, atol=0.05)
    assert brow_colour(picture, landmarks - 1000.0).shape == (3,)  # not in the picture
