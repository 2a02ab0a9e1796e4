"""Faces and their 468 landmarks in a photo, by two small networks of MediaPipe in LiteRT.

for face in find_faces(rgb):                 # largest first
    face.landmarks                           # (468, 2), pixels of the photo

The landmarks are numbered as in MediaPipe's Face Mesh. Nobody is recognised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32 where nothing else is said; OpenCV's types promise "some number" only

POINTS = 468
LEAST_SCORE = 0.5
"""Of the detector and of the landmarks' own verdict, each a probability."""

_MODELS = Path(__file__).with_name("models")
_DETECTOR_SIDE, _MESH_SIDE = 128, 192  # pixels
_SAME_FACE = 0.3  # intersection over union from which two boxes are taken for one face
_MARGIN = 1.5  # the mesh wants this many times the detector's box
_RIGHT_EYE, _LEFT_EYE = 0, 1  # the person's, among the detector's six points


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        score: of the detector, 0 to 1.
        box: left, top, right, bottom in pixels.
        landmarks: ``(468, 2)``, x and y in pixels.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: Floats


def find_faces(rgb: NDArray[np.uint8], least: float = LEAST_SCORE) -> list[Face]:
    """The faces of a photo ``(H, W, 3)``, the largest first; an empty list where there is none."""
    faces = []
    for score, box, points in _detect(rgb, least):
        left, top, right, bottom = box
        along = points[_LEFT_EYE] - points[_RIGHT_EYE]
        presence, landmarks = landmarks_in(
            rgb,
            ((left + right) / 2, (top + bottom) / 2),
            max(right - left, bottom - top) * _MARGIN,
            math.atan2(along[1], along[0]),
        )
        if presence >= least:
            faces.append(Face(score, box, landmarks))
    return sorted(faces, key=lambda face: -(face.box[2] - face.box[0]))


def landmarks_in(
    rgb: NDArray[np.uint8], centre: tuple[float, float], side: float, angle: float = 0.0
) -> tuple[float, Floats]:
    """(probability that a face is there, its landmarks ``(468, 2)``) in a square of a photo.

    Args:
        centre: of the square, (x, y) in pixels.
        side: of the square, in pixels.
        angle: of the line from the person's right to the left eye, in radians, clockwise.
    """
    scale = _MESH_SIDE / side
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    x, y = centre
    half = _MESH_SIDE / 2
    into = np.array(
        [[cosine, sine, half - cosine * x - sine * y], [-sine, cosine, half + sine * x - cosine * y]]
    )
    square = cv2.warpAffine(rgb, into, (_MESH_SIDE, _MESH_SIDE)).astype(np.float32) / 255.0
    outputs = _run("face_landmark", square)
    mesh = next(output for output in outputs if output.size == 3 * POINTS).reshape(POINTS, 3)
    (verdict,) = (float(output.ravel()[0]) for output in outputs if output.size == 1)
    out_of = cv2.invertAffineTransform(into)
    return _probability(verdict), (mesh[:, :2] @ out_of[:, :2].T + out_of[:, 2]).astype(np.float32)


def _detect(
    rgb: NDArray[np.uint8], least: float
) -> list[tuple[float, tuple[float, float, float, float], Floats]]:
    """(score, box, six points) of each face, the surest first."""
    height, width = rgb.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = rgb
    small = cv2.resize(square, (_DETECTOR_SIDE, _DETECTOR_SIDE), interpolation=cv2.INTER_AREA)
    outputs = _run("face_detection_short_range", small.astype(np.float32) / 127.5 - 1.0)
    boxes = next(output for output in outputs if output.shape[-1] == 16)[0]
    logits = next(output for output in outputs if output.shape[-1] == 1)[0, :, 0]
    corner = np.array([left, top], np.float32)
    found: list[tuple[float, tuple[float, float, float, float], Floats]] = []
    for place in np.argsort(-logits):
        score = _probability(float(logits[place]))
        if score < least:
            break
        points = (boxes[place].reshape(8, 2) / _DETECTOR_SIDE).astype(np.float32)
        points[2:] += _anchors()[place]
        middle, size = points[0] + _anchors()[place], points[1]
        low, high = (middle - size / 2) * side - corner, (middle + size / 2) * side - corner
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        if all(_overlap(box, other) < _SAME_FACE for _, other, _ in found):
            found.append((score, box, points[2:] * side - corner))
    return found


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / max(sum(areas) - both, 1e-9)


def _probability(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -50.0), 50.0)))


@lru_cache(maxsize=1)
def _anchors() -> Floats:
    """The detector's 896 places, ``(896, 2)`` in [0, 1]: two in each cell of a 16x16 grid, six in each of an 8x8 grid."""
    places = [
        ((x + 0.5) / cells, (y + 0.5) / cells)
        for cells, each in ((16, 2), (8, 6))
        for y in range(cells)
        for x in range(cells)
        for _ in range(each)
    ]
    return np.array(places, np.float32)


@lru_cache(maxsize=2)
def _interpreter(name: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(_MODELS / f"{name}.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _run(name: str, picture: Floats) -> list[Floats]:
    interpreter = _interpreter(name)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
