"""Lays one face on another: a textured mesh over the 468 landmarks.

    laid, there = lay(source, source_landmarks, frame, frame_landmarks)

The mesh takes the source's own shape, in the pose of the frame; lids, brows and lips follow the frame, so that the
expression stays. On a phone the same mesh is a few lines of GPU code: models/face_mesh.json holds its triangles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.training.faces.detect import Floats
from afterlens.training.faces.heads.meshes import Ints
from afterlens.training.faces.heads.raster import ZBuffer
from afterlens.training.faces.regions import LIPS

_MESH = Path(__file__).with_name("models") / "face_mesh.json"
_OWN_SHAPE = 0.8
"""How far a landmark goes from the frame's shape to the source's; landmarks tremble, and poses are estimates."""

_EYES = [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
_EYES += [362, 382, 381, 380, 374, 373, 390, 249, 263, 466, 388, 387, 386, 385, 384, 398]
_INNER_LIPS = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95]
_MOVES = np.unique([*_EYES, *LIPS, *_INNER_LIPS])
"""Landmarks whose places are expression more than shape."""

_RIM = 0.06  # of the distance between the outer corners of the eyes: over which the laid face fades out
_COLOUR = 0.85  # how far the source's mean colour is brought to the frame's; the rest is complexion


@dataclass(frozen=True)
class FaceMesh:
    """The mean head, and the triangles between its landmarks.

    Attributes:
        points: ``(468, 3)``; x to the right and y down on a picture, z away from the camera; the outer corners of the
            eyes are 1 apart. From MakeHuman's base mesh (CC0).
        triangles: ``(T, 3)``, counter-clockwise on the picture; the opening of the mouth is left out.
    """

    points: Floats
    triangles: Ints


@lru_cache(maxsize=1)
def face_mesh() -> FaceMesh:
    """The mesh of models/face_mesh.json."""
    data = json.loads(_MESH.read_text("utf-8"))
    return FaceMesh(np.array(data["points"], np.float32), np.array(data["triangles"], np.int32))


@dataclass(frozen=True)
class Pose:
    """A camera so far away that it sees everything at one scale: ``scale * points @ axes[:2].T + shift``.

    Attributes:
        axes: ``(3, 3)``, a rotation; the last row points away from the camera.
        scale: pixels per unit.
        shift: ``(2,)``, pixels.
    """

    axes: Floats
    scale: float
    shift: Floats

    def seen(self, points: Floats) -> Floats:
        """Points ``(N, 3)`` -> pixels ``(N, 2)``."""
        pixels: Floats = self.scale * points @ self.axes[:2].T + self.shift
        return pixels

    def depths(self, points: Floats) -> Floats:
        """Points ``(N, 3)`` -> how far away they are, ``(N,)``, in the mesh's units from a plane of its own."""
        distances: Floats = points @ self.axes[2]
        return distances


def pose(points: Floats, landmarks: Floats) -> Pose:
    """The pose in which points ``(468, 3)`` come nearest to landmarks ``(468, 2)``.

    Least squares over all affine cameras, then the nearest one without shear (scaled orthography, as in Tomasi & Kanade,
    IJCV 1992).
    """
    middle, there = points.mean(axis=0), landmarks.mean(axis=0)
    affine = np.linalg.lstsq(
        (points - middle).astype(np.float64), (landmarks - there).astype(np.float64), rcond=None
    )[0].T
    left, lengths, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    axes = np.vstack([rows, np.cross(rows[0], rows[1])])
    scale = float(lengths.mean())
    return Pose(axes.astype(np.float32), scale, (there - scale * rows @ middle).astype(np.float32))


def own_shape(landmarks: Floats) -> Floats:
    """A face's own shape ``(468, 3)`` in the mesh's units: the mean head, moved in the plane of the picture.

    From one picture, so what lies along the line of sight is the mean head's; the face should look at the camera.
    """
    mean = face_mesh().points
    seen = pose(mean, landmarks)
    off = (landmarks - seen.seen(mean)) / seen.scale
    shape: Floats = mean + off @ seen.axes[:2]
    return shape


def placed(source: Floats, frame: Floats) -> tuple[Floats, Floats]:
    """Where the source's landmarks lie in the frame: pixels ``(468, 2)``, and depths ``(468,)`` above 0.

    Args:
        source, frame: landmarks ``(468, 2)``, each in pixels of its picture.
    """
    shape = own_shape(source)
    seen = pose(shape, frame)
    share = np.full((len(shape), 1), _OWN_SHAPE, np.float32)
    share[_MOVES] = 0.0
    points = frame + share * (seen.seen(shape) - frame)
    depths = seen.depths(shape)
    return points.astype(np.float32), (depths - depths.min() + 1.0).astype(np.float32)


def lay(
    source: Floats, source_landmarks: Floats, frame: Floats, frame_landmarks: Floats
) -> tuple[Floats, Floats]:
    """The frame with the source's face laid on, and where it lies.

    Args:
        source: ``(h, w, 3)`` RGB [0, 1].
        frame: ``(side, side, 3)`` RGB [0, 1].
        source_landmarks, frame_landmarks: ``(468, 2)``, pixels of each.

    Returns: the picture ``(side, side, 3)``, the source's colours brought to the frame's; and ``(side, side)`` in [0, 1],
        1 where the source covers the frame.
    """
    points, depths = placed(source_landmarks, frame_landmarks)
    side = frame.shape[0]
    texture, triangle = drawn(source, source_landmarks, points, depths, face_mesh().triangles, side)
    inside = triangle >= 0
    if inside.sum() < 16:
        return frame, np.zeros((side, side), np.float32)
    rim = max(0.5, _RIM * float(np.linalg.norm(frame_landmarks[33] - frame_landmarks[263])))
    inwards = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    there = (inwards / (2.0 * rim)).clip(0.0, 1.0).astype(np.float32)
    matched = _matched(texture, frame, inside & _is_skin()[triangle])
    laid: Floats = frame + there[..., None] * (matched - frame)
    return laid.clip(0.0, 1.0), there


def drawn(
    texture: Floats, corners: Floats, points: Floats, depths: Floats, triangles: Ints, side: int
) -> tuple[Floats, Ints]:
    """A textured mesh as a camera sees it.

    Args:
        texture: ``(h, w, C)``.
        corners: ``(V, 2)``, where each point of the mesh lies in the texture, in pixels.
        points, depths: ``(V, 2)`` and ``(V,)``, where it lies in the picture, and how far away, above 0.
        triangles: ``(T, 3)``.
        side: of the picture in pixels.

    Returns: the picture ``(side, side, C)``; and ``(side, side)``, which triangle is seen, -1 where there is none. There the
        picture holds any values.
    """
    buffer = ZBuffer(side)
    buffer.draw(points, depths, triangles, closed=True)
    inside = buffer.layer >= 0
    at = np.zeros((side, side, 2), np.float32)
    seen = corners[triangles[buffer.triangle[inside]]]
    at[inside] = (seen * buffer.weights[inside][:, :, None]).sum(axis=1) - 0.5
    picture: Floats = cv2.remap(
        texture.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return picture, np.where(inside, buffer.triangle, -1)


@lru_cache(maxsize=1)
def _is_skin() -> NDArray[np.bool_]:
    """``(T,)``: which triangles lie on the cheeks, the nose and the chin, where no hair hangs and no glasses sit."""
    mesh = face_mesh()
    across, down = mesh.points[mesh.triangles].mean(axis=1)[:, :2].T
    skin: NDArray[np.bool_] = (abs(across) < 0.5) & (
        ((down > -0.2) & (down < 0.25)) | ((down > 0.5) & (down < 0.8))
    )
    return skin


def _matched(texture: Floats, frame: Floats, where: NDArray[np.bool_]) -> Floats:
    """The texture with most of the frame's mean ``where`` both show skin: a factor for each channel."""
    if where.sum() < 16:
        return texture
    own, wanted = texture[where].mean(axis=0), frame[where].mean(axis=0)
    matched: Floats = texture * ((wanted + 0.02) / (own + 0.02)).clip(0.25, 4.0) ** np.float32(_COLOUR)
    return matched
