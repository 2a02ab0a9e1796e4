"""The model of faces: what it is made of, and that identity and expression are told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from afterlens.training.faces.heads.face_shape import write_face_shape
from afterlens.training.faces.mesh import face_mesh
from afterlens.training.faces.pose import pose
from afterlens.training.faces.shape import face_shape, fitted, nearest


def test_the_bundled_model_is_of_the_mesh_and_each_direction_is_its_own() -> None:
    shape = face_shape()
    mean = nearest(shape.mean, face_mesh().points)
    assert np.linalg.norm(mean - face_mesh().points, axis=1).mean() < 0.06  # of the distance between the eyes
    for directions, count in ((shape.identities, 40), (shape.expressions, 20)):
        flat = directions.reshape(count, -1)
        lengths = np.linalg.norm(flat, axis=1)
        assert directions.shape == (count, 468, 3) and (np.diff(lengths) <= 1e-3).all()
        large = lengths > 0.02 * lengths[0]
        product = (flat / lengths[:, None])[large] @ (flat / lengths[:, None])[large].T
        assert np.abs(product - np.eye(int(large.sum()))).max() < 0.05  # half floats
    # An expression moves the mouth more than the forehead; the face ends at its rim.
    moved = np.linalg.norm(shape.expressions, axis=2).sum(axis=0)
    assert moved[[14, 17, 61, 291]].min() > 3.0 * moved[[10, 151]].max()
    assert shape.of_face[[1, 4, 9, 13]].min() > 0.98 and 0.0 <= shape.of_face.min() < 0.5


@pytest.mark.parametrize("scale", [50.0, 400.0])
def test_identity_and_expression_are_told_apart_whatever_the_size_of_the_picture(scale: float) -> None:
    shape, rng = face_shape(), np.random.default_rng(2)
    alike, apart, acting = [], [], []
    for _ in range(8):
        identity = rng.normal(0.0, 1.0, 40).astype(np.float32)
        expressions = rng.normal(0.0, 1.0, (2, 20)).astype(np.float32)
        rest = []
        for expression in expressions:
            points = shape.at_rest(identity) + shape.expressed(expression)
            fit = fitted((scale * points[:, :2] + [300.0, 200.0]).astype(np.float32))
            assert fit.pose.seen(points) == pytest.approx(
                scale * points[:, :2] + [300.0, 200.0], abs=0.12 * scale
            )
            rest.append(nearest(shape.at_rest(fit.identity), shape.mean)[:, :2])
        truth = nearest(shape.at_rest(identity), shape.mean)[:, :2]
        alike.append(np.linalg.norm(rest[0] - rest[1], axis=1).mean())
        apart.append(np.linalg.norm(truth - shape.mean[:, :2], axis=1).mean())
        acting.append(np.linalg.norm(shape.expressed(expressions[0] - expressions[1]), axis=1).mean())
    print(
        f"two expressions of one person: {np.mean(alike):.4f}, people: {np.mean(apart):.4f}, acting {np.mean(acting):.4f}"
    )
    assert np.mean(alike) < 0.5 * np.mean(apart) and np.mean(alike) < 0.5 * np.mean(acting)


def test_a_turned_face_is_no_other_face() -> None:
    shape = face_shape()
    for turn in (-0.4, 0.4):
        across = np.array([[np.cos(turn), 0.0, np.sin(turn)], [0.0, 1.0, 0.0]], np.float32)
        landmarks = (100.0 * shape.mean @ across.T + 128.0).astype(np.float32)
        fit = fitted(landmarks)
        assert np.abs(fit.identity).max() < 0.3 and np.abs(fit.expression).max() < 0.3
        assert fit.pose.seen(shape.mean) == pytest.approx(
            pose(shape.mean, landmarks).seen(shape.mean), abs=1.0
        )


def test_the_model_is_made_by_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assets, base = folders
    made = write_face_shape(assets, tmp_path / "shape.safetensors", base=base, people=64)
    assert made["people"] == 64 and 0.9 < made["identities"] <= 1.0
    again = write_face_shape(assets, tmp_path / "again.safetensors", base=base, people=64)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "shape.safetensors").read_bytes()
    assert again["identities"] == made["identities"]
