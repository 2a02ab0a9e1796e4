"""What a face is and what it does, told apart by its landmarks: a linear model of both.

    fit = fitted(landmarks)                      # identity, expression and pose that explain landmarks (468, 2)
    rest = face_shape().at_rest(fit.identity)    # the same face without its expression, (468, 3)

A 3D morphable model (Blanz and Vetter, A Morphable Model for the Synthesis of 3D Faces, SIGGRAPH 1999) of the landmarks
alone: the mean head, 40 directions in which heads differ, 20 in which expressions move them. They are principal components
of MakeHuman's axes (CC0), made by `afterlens.training.faces.heads.face_shape`. No photo of a person took part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from afterlens.training.checkpoint import load_tensors
from afterlens.training.faces.detect import Floats
from afterlens.training.faces.pose import Pose, pose

FILE = Path(__file__).with_name("models") / "face_shape.safetensors"

_NOISE = 0.02  # of landmarks, over the distance between the outer corners of the eyes
_ROUNDS = 6  # of pose and coefficients in turn


@dataclass(frozen=True)
class FaceShape:
    """The model. x to the right and y down on a picture, z away from the camera; the eyes' outer corners are about 1 apart.

    Attributes:
        mean: ``(468, 3)``.
        identities: ``(40, 468, 3)``, one standard deviation each.
        expressions: ``(20, 468, 3)``, likewise.
        of_face: ``(468,)``, 1 on the face, falling to 0 where it becomes the rest of the head.
    """

    mean: Floats
    identities: Floats
    expressions: Floats
    of_face: Floats

    def at_rest(self, identity: Floats) -> Floats:
        """The face of coefficients ``(40,)`` without an expression, ``(468, 3)``."""
        points: Floats = self.mean + np.tensordot(identity, self.identities, 1)
        return points

    def expressed(self, expression: Floats) -> Floats:
        """By how much coefficients ``(20,)`` move the landmarks, ``(468, 3)``."""
        moved: Floats = np.tensordot(expression, self.expressions, 1)
        return moved


@dataclass(frozen=True)
class Fit:
    """What explains a face's landmarks: coefficients ``(40,)`` and ``(20,)`` of standard deviation 1, and the pose."""

    identity: Floats
    expression: Floats
    pose: Pose


@lru_cache(maxsize=1)
def face_shape() -> FaceShape:
    """The bundled model."""
    tensors = {name: tensor.float().numpy() for name, tensor in load_tensors(FILE).items()}
    return FaceShape(**tensors)


def fitted(landmarks: Floats) -> Fit:
    """The likeliest identity, expression and pose for landmarks ``(468, 2)`` in pixels.

    Pose and coefficients in turn: for a pose, the latter are a regularised least squares.
    """
    shape = face_shape()
    basis = np.concatenate([shape.identities, shape.expressions])
    found = np.zeros(len(basis), np.float32)
    for _ in range(_ROUNDS):
        seen = pose((shape.mean + np.tensordot(found, basis, 1)).astype(np.float32), landmarks)
        base = seen.seen(shape.mean)
        moves = (seen.scale * basis @ seen.axes[:2].T).reshape(len(basis), -1).T
        # The picture may also be shifted and scaled anew, for nothing.
        centred = base - base.mean(axis=0)
        free = np.stack(
            [np.tile([1.0, 0.0], len(base)), np.tile([0.0, 1.0], len(base)), centred.ravel()], axis=1
        )
        system = np.concatenate([moves, free], axis=1).astype(np.float64)
        unlikely = np.zeros(system.shape[1])
        unlikely[: len(basis)] = (_NOISE * seen.scale) ** 2
        normal = system.T @ system + np.diag(unlikely)
        found = np.linalg.solve(normal, system.T @ (landmarks - base).ravel())[: len(basis)].astype(
            np.float32
        )
    count = len(shape.identities)
    return Fit(found[:count], found[count:], seen)


def nearest(points: Floats, other: Floats) -> Floats:
    """Points ``(468, 3)``, scaled and shifted until they lie nearest to others: no photo shows how large a head is."""
    centred, wanted = points - points.mean(axis=0), other - other.mean(axis=0)
    scale = float((centred * wanted).sum() / (centred**2).sum())
    scaled: Floats = centred * np.float32(scale) + other.mean(axis=0)
    return scaled
