"""MakeHuman's file formats, as far as heads need them: meshes (.obj), axes of shape (.target), fitted meshes (.mhclo)."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError

Floats = NDArray[Any]  # float32 where nothing else is said; OpenCV's types promise "some number" only
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Mesh:
    """Triangles.

    Attributes:
        vertices: ``(V, 3)``, decimetres; x to the person's left, y up, z to the front.
        faces: ``(F, 3)``, places in ``vertices``.
        uv: ``(T, 2)``, places in a texture: u to the right, v up, both in [0, 1].
        uv_faces: ``(F, 3)``, places in ``uv``.
        groups: ``(F,)``, the name of each triangle's group.
    """

    vertices: Floats
    faces: Ints
    uv: Floats
    uv_faces: Ints
    groups: NDArray[np.str_]

    def part(self, chosen: NDArray[np.bool_]) -> Mesh:
        """The triangles for which ``chosen``, ``(F,)``, holds; all vertices stay, so that axes of shape still fit."""
        return Mesh(self.vertices, self.faces[chosen], self.uv, self.uv_faces[chosen], self.groups[chosen])


def read_obj(path: Path) -> Mesh:
    """A Wavefront file; polygons become fans of triangles. Raises UserError where it cannot be read."""
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    faces: list[list[int]] = []
    uv_faces: list[list[int]] = []
    groups: list[str] = []
    group = ""
    try:
        for line in path.read_text("utf-8", errors="replace").splitlines():
            kind, *words = line.split() or [""]
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "vt":
                uv.append([float(word) for word in words[:2]])
            elif kind == "g":
                group = words[0] if words else ""
            elif kind == "f":
                corners = [word.split("/") for word in words]
                points = [int(corner[0]) - 1 for corner in corners]
                places = [int(corner[1]) - 1 if corner[1:] and corner[1] else 0 for corner in corners]
                for last in range(2, len(points)):
                    faces.append([points[0], points[last - 1], points[last]])
                    uv_faces.append([places[0], places[last - 1], places[last]])
                    groups.append(group)
        if not faces:
            raise UserError(f"{path}: expected a mesh (.obj), found no faces")
        mesh = Mesh(
            np.array(vertices, np.float32).reshape(-1, 3),
            np.array(faces, np.int32),
            np.array(uv or [[0.0, 0.0]], np.float32).reshape(-1, 2),
            np.array(uv_faces, np.int32),
            np.array(groups),
        )
        for numbers, known in ((mesh.faces, mesh.vertices), (mesh.uv_faces, mesh.uv)):
            if not 0 <= numbers.min() <= numbers.max() < len(known):
                raise ValueError(f"a face has corner {numbers.max() + 1} of {len(known)}")
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a mesh that can be read ({error})") from error
    return mesh


@lru_cache(maxsize=1024)
def read_target(path: Path) -> tuple[Ints, Floats]:
    """An axis of shape: the vertices that it moves, ``(M,)``, and where to at its full weight, ``(M, 3)``.

    Lines are "vertex x y z"; the file may be gzipped. Raises UserError where it cannot be read.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        rows = np.array(" ".join(lines).split(), np.float64).reshape(-1, 4)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not an axis of shape that can be read ({error})") from error
    return rows[:, 0].astype(np.int32), rows[:, 1:].astype(np.float32)


@dataclass(frozen=True)
class Fitted:
    """A mesh that sits on the base mesh and follows its shape, such as eyes or hair.

    Each vertex is a weighted mean of three base vertices plus an offset, which grows with the base.
    """

    mesh: Mesh
    anchors: Ints  # (V, 3), base vertices
    weights: Floats  # (V, 3)
    offsets: Floats  # (V, 3)
    scales: tuple[
        tuple[int, int, float] | None, ...
    ]  # per axis: two base vertices, and their distance at scale 1

    def on(self, base: Floats) -> Floats:
        """The vertices ``(V, 3)`` on base vertices ``(B, 3)``."""
        scale = np.ones(3, np.float32)
        for axis, rule in enumerate(self.scales):
            if rule is not None:
                first, second, length = rule
                scale[axis] = abs(base[first, axis] - base[second, axis]) / length
        placed: Floats = (base[self.anchors] * self.weights[:, :, None]).sum(axis=1) + self.offsets * scale
        return placed


def read_fitted(path: Path) -> Fitted:
    """A .mhclo file and the .obj beside it. Raises UserError where either cannot be read, or they do not match."""
    scales: list[tuple[int, int, float] | None] = [None, None, None]
    rows: list[list[float]] = []
    mesh_name = f"{path.stem}.obj"
    in_table = False
    try:
        for line in path.read_text("utf-8", errors="replace").splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if words[0] == "obj_file":
                mesh_name = words[1]
            elif words[0] in ("x_scale", "y_scale", "z_scale"):
                scales["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
            elif words[0] == "verts":
                in_table = True
            elif in_table and words[0].isdigit():
                numbers = [float(word) for word in words]
                if len(numbers) == 1:  # sits exactly on one vertex
                    numbers = [numbers[0]] * 3 + [1.0, 0.0, 0.0]
                rows.append((numbers + [0.0] * 3)[:9])
            elif words[0] == "delete_verts":  # of the base mesh, which stay hidden anyway
                break
        table = np.array(rows, np.float32).reshape(-1, 9)
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not a fitted mesh that can be read ({error})") from error
    mesh = read_obj(path.with_name(mesh_name))
    if len(table) != len(mesh.vertices):
        raise UserError(
            f"{path}: places {len(table)} vertices, expected the {len(mesh.vertices)} of {mesh_name}"
        )
    return Fitted(mesh, table[:, :3].astype(np.int32), table[:, 3:6], table[:, 6:], tuple(scales))


def vertex_normals(vertices: Floats, faces: Ints) -> Floats:
    """Unit normals ``(V, 3)``, each the mean of its triangles' weighted by their areas."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.stack(
        [
            np.bincount(
                faces.ravel(), np.repeat(normals[:, axis], 3).astype(np.float64), minlength=len(vertices)
            )
            for axis in range(3)
        ],
        axis=1,
    )
    lengths = np.linalg.norm(summed, axis=1, keepdims=True)
    return (summed / np.maximum(lengths, 1e-12)).astype(np.float32)
