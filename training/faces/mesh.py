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
from afterlens.training.faces.shape import Fit, face_shape, fitted, nearest

_MESH = Path(__file__).with_name("models") / "face_mesh.json"
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


def placed(source: Floats, frame: Floats) -> tuple[Floats, Floats]:
    """Where the source's landmarks lie in the frame: pixels ``(468, 2)``, and depths ``(468,)`` above 0.

    What both faces are without expression is told apart from what they do (`afterlens.training.faces.shape`); the frame's
    landmarks move by the difference of the two, in the frame's pose. So the expression stays, jaw and cheeks included, and
    so does the head that the face is part of.

    Args:
        source, frame: landmarks ``(468, 2)``, each in pixels of its picture.
    """
    shape = face_shape()
    own, worn = _fit(source.astype(np.float32).tobytes()), fitted(frame)
    here = shape.at_rest(worn.identity)
    there = nearest(shape.at_rest(own.identity), here)
    moved = (there - here) * shape.of_face[:, None]
    points = frame + worn.pose.scale * moved @ worn.pose.axes[:2].T
    depths = worn.pose.depths(there + shape.expressed(worn.expression))
    return points.astype(np.float32), (depths - depths.min() + 1.0).astype(np.float32)


@lru_cache(maxsize=4)
def _fit(landmarks: bytes) -> Fit:
    """Of float32 landmarks: in a clip the source is the same in every frame."""
    return fitted(np.frombuffer(landmarks, np.float32).reshape(-1, 2))


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
