"""Rendered triplets: what source, first and target share, and that a stopped call goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afterlens.training.faces.heads.render import Studio
from afterlens.training.faces.heads.scene import Scene
from afterlens.training.faces.heads.swapped import face_weights, swapped
from afterlens.training.faces.portraits import CIRCLE, read_labels
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.swap.synthesis import index_triplets
from tests.conftest import Result


def test_the_target_has_the_sources_face_and_the_firsts_head(studio: Studio) -> None:
    first, source = studio.person(3), studio.person(8)
    target = swapped(studio, first, source)
    weights = face_weights(studio)
    assert weights.min() >= 0.0 and weights.max() <= 1.0
    moved = np.linalg.norm(target.vertices - first.vertices, axis=1)
    assert (moved[weights == 0.0] == 0.0).all() and moved[weights > 0.9].mean() > 0.003
    assert target.identity.hair == first.identity.hair and target.identity.iris == source.identity.iris
    # In the middle of the face, distances are the source's, but for one scale: no photo shows a size.
    middle = np.flatnonzero(weights > 0.999)
    assert len(middle) > 3
    apart = [np.ptp(person.vertices[middle], axis=0) for person in (target, source)]
    seen = apart[1] > 1e-3
    ratio = apart[0][seen] / apart[1][seen]
    assert ratio == pytest.approx(ratio.mean(), rel=1e-3) and 0.8 < ratio.mean() < 1.25


def test_swapped_with_itself_a_head_stays_as_it_is(studio: Studio) -> None:
    person = studio.person(5)
    same = swapped(studio, person, person)
    assert np.abs(same.vertices - person.vertices).max() < 1e-4
    assert np.abs(same.skin - person.skin).max() < 1e-3


def test_first_and_target_are_taken_from_the_same_place(studio: Studio) -> None:
    first, source = studio.person(3), studio.person(8)
    scene = Scene(yaw=0.2, noise=0.01)
    rng = [np.random.default_rng(0) for _ in range(2)]
    one = studio.portrait(first, {}, scene, rng[0])
    other = studio.portrait(swapped(studio, first, source), {}, scene, rng[1], like=one)
    assert (one.into == other.into).all()
    differs = np.abs(one.picture - other.picture).max(axis=2) > 0.02
    assert (
        0.01 < differs.mean() < 0.6 and not differs[:8, :8].any()
    )  # the backdrop, with its noise, is the same


def test_a_head_with_other_eyes_stays_where_it_is(studio: Studio) -> None:
    """The camera looks at a point between the eyes: where another face has them elsewhere, the head must not move."""
    first = studio.person(3)
    weights = face_weights(studio)
    raised = first.vertices + weights[:, None] * np.array([0.0, 0.3, 0.0], np.float32)
    other = replace(first, vertices=raised.astype(np.float32))
    scene = Scene(yaw=0.2, pitch=0.1)
    one = studio.portrait(first, {}, scene, np.random.default_rng(0))
    two = studio.portrait(other, {}, scene, np.random.default_rng(0), like=one)
    moved = np.linalg.norm(two.landmarks - one.landmarks, axis=1)
    of_face = studio.anchors.on(np.repeat(weights[:, None], 3, axis=1))[:, 0]
    print(f"rim {moved[of_face < 0.01]}, face {moved[of_face > 0.99].mean():.1f}")
    assert moved[of_face > 0.99].min() > 2.0
    assert (moved <= 1e-3 + moved.max() * of_face * 1.5).all() and of_face.min() < 0.5


def test_a_folder_of_triplets_is_what_training_reads(
    cli: Callable[..., Result], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    assets, base = folders
    out = tmp_path / "triplets"
    arguments = ("heads", assets, "-o", out, "--base", base, "--triplets", "--people", "2", "--each", "1")
    done = cli(*arguments, "--json")
    assert done.code == 0 and '"written": 2' in done.stdout, done.stderr
    records = index_triplets(find_photos([out]))
    assert [record.group for record in records] == ["circle 0", "circle 0"]
    for number, record in enumerate(records):
        labels = {name: read_labels(path) for name, path in [("first", record.photo), *record.files.items()]}
        people = {name: found.person for name, found in labels.items() if found is not None}
        assert people["first"] == number != people["source"] == people["target"] < CIRCLE
        source = labels["source"]
        assert source is not None and not source.glasses
        pictures = [read_photo(path).rgb for path in (record.photo, record.files["target"])]
        assert 0.001 < np.abs(pictures[0] - pictures[1]).mean() < 0.2
    # What is there is kept, what is missing is drawn again, the same.
    missing = out / "00001_0_target.png"
    before = missing.read_bytes()
    missing.unlink()
    again = cli(*arguments, "--json")
    assert '"written": 1' in again.stdout and missing.read_bytes() == before
