"""Laying a face on another: the mesh, the pose, and what stays where."""

from __future__ import annotations

import math

import numpy as np
import pytest

from afterlens.training.faces.mesh import face_mesh, lay, placed
from afterlens.training.faces.pose import pose
from afterlens.training.faces.shape import face_shape, nearest
from tests.training.swap.triplets import portrait


def turned(yaw: float, pitch: float) -> np.ndarray:
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def test_the_mesh_covers_the_face_but_not_the_opening_of_the_mouth() -> None:
    mesh = face_mesh()
    assert mesh.points.shape == (468, 3) and set(mesh.triangles.ravel()) == set(range(468))
    a, b, c = (mesh.points[mesh.triangles[:, k], :2] for k in range(3))
    inner = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
    assert not np.isin(mesh.triangles, inner).all(axis=1).any()
    area = abs(np.cross(b - a, c - a)).sum() / 2
    hull = mesh.points[:, :2]
    assert 0.8 < area / np.prod(np.ptp(hull, axis=0)) < 1.1
    assert np.linalg.norm(mesh.points[33] - mesh.points[263]) == pytest.approx(1.0, abs=0.01)
    assert (
        mesh.points[1, 2] < mesh.points[[33, 263], 2].min()
    )  # the nose is nearer to the camera than the eyes


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.5, 0.0), (-0.3, 0.2), (0.1, -0.3)])
def test_a_pose_is_found_again(yaw: float, pitch: float) -> None:
    points = face_mesh().points
    axes = turned(yaw, pitch)
    landmarks = 80.0 * points @ axes[:2].T + [120.0, 130.0]
    found = pose(points, landmarks)
    assert found.axes == pytest.approx(axes, abs=1e-4) and found.scale == pytest.approx(80.0, rel=1e-4)
    assert found.seen(points) == pytest.approx(landmarks, abs=1e-3)
    # What is nearer to the camera hides what is behind it.
    assert found.depths(points)[1] < found.depths(points)[[33, 263]].min() + 0.2


def test_the_source_keeps_its_shape_and_the_frame_its_expression() -> None:
    """Both are drawn from the model of faces, the frame turned and with an open mouth: the exact answer is known."""
    shape, rng = face_shape(), np.random.default_rng(0)
    errors, before = [], []
    for number in range(12):
        own, worn = rng.normal(0.0, 1.0, (2, 40)).astype(np.float32)
        expression = rng.normal(0.0, 1.0, 20).astype(np.float32)
        axes = turned(rng.uniform(-0.4, 0.4), rng.uniform(-0.2, 0.2))

        def seen(points: np.ndarray, axes: np.ndarray = axes) -> np.ndarray:
            return (100.0 * points @ axes[:2].T + 128.0).astype(np.float32)

        source = (90.0 * shape.at_rest(own)[:, :2] + 128.0).astype(np.float32)
        frame = seen(shape.at_rest(worn) + shape.expressed(expression))
        there = nearest(shape.at_rest(own), shape.at_rest(worn)) - shape.at_rest(worn)
        right = frame + seen(there * shape.of_face[:, None]) - 128.0
        points, depths = placed(source, frame)
        assert (depths > 0.0).all(), number
        errors.append(float(np.linalg.norm(points - right, axis=1).mean()))
        before.append(float(np.linalg.norm(frame - right, axis=1).mean()))
    print(
        f"frame {np.mean(before):.1f} pixels from the answer, placed {np.mean(errors):.1f}, worst {max(errors):.1f}"
    )
    assert np.mean(before) > 3.5 and np.mean(errors) < 2.0


def test_a_face_laid_on_itself_is_itself() -> None:
    picture, landmarks, _ = portrait(0)
    laid, there = lay(picture, landmarks, picture, landmarks)
    assert there.max() == 1.0 and 0.1 < there.mean() < 0.6
    assert abs(laid - picture)[there > 0.99].mean() < 2.0 / 255.0
    assert (laid[there == 0.0] == picture[there == 0.0]).all()


def test_another_face_is_laid_within_the_face_in_the_frames_colours() -> None:
    picture, landmarks, _ = portrait(0)
    source, points, _ = portrait(1)
    laid, there = lay(source * 0.5, points, picture, landmarks)
    cheeks = landmarks[[50, 280, 101, 330]].astype(int)
    for x, y in cheeks:
        assert there[y, x] == 1.0
    frame, skin = (np.mean([p[y, x] for x, y in cheeks], axis=0) for p in (picture, laid))
    own = np.mean([0.5 * source[y, x] for x, y in points[[50, 280, 101, 330]].astype(int)], axis=0)
    assert abs(skin - frame).mean() < 0.6 * abs(own - frame).mean()
    assert (laid[there == 0.0] == picture[there == 0.0]).all()


def test_a_face_out_of_the_frame_changes_nothing() -> None:
    picture, landmarks, _ = portrait(0)
    laid, there = lay(picture, landmarks, picture, landmarks + 1000.0)
    assert not there.any() and (laid == picture).all()
