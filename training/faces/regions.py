"""Soft masks of parts of a face, from its landmarks: where each part of a beard grows.

parts = beard_regions(landmarks, side=256)
parts["moustache"]                           # (256, 256), [0, 1]
"""

from __future__ import annotations

import cv2
import numpy as np

from afterlens.training.faces.detect import Floats

OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
OVAL += [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
LIPS = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]
_NOSE = [129, 49, 131, 134, 51, 5, 281, 363, 360, 279, 358, 327, 326, 2, 97, 98]
_ABOVE_LIP = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 436, 426, 391, 393, 164, 167, 165, 206, 216]
_CORNERS = ([61, 57, 43, 202, 204, 106, 91, 146], [291, 287, 273, 422, 424, 335, 321, 375])
_CHIN = [204, 106, 182, 83, 18, 313, 406, 335, 424, 431, 395, 369, 396, 175, 171, 140, 170, 211]
_SOUL = [84, 17, 314, 313, 18, 83]
_JAWLINE = [172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397]
_JAW = [132, 58, *_JAWLINE, 288, 361, 401, 435, 416, 434, 432, 422, 424]
_JAW += [418, 421, 200, 201, 194, 204, 202, 212, 214, 192, 213, 177]
_UNDER_MOUTH = [*_JAWLINE, 432, 422, 424, 335, 18, 106, 204, 202, 212]
_SIDES = ([234, 93, 132, 177, 137, 227], [454, 323, 361, 401, 366, 447])


def scale_of(landmarks: Floats) -> float:
    """Pixels that are 1 where the outer corners of the eyes are 100 pixels apart."""
    return float(np.linalg.norm(landmarks[33] - landmarks[263])) / 100.0


def polygon(landmarks: Floats, corners: list[int], side: int) -> Floats:
    """``(side, side)``, 1 inside of the landmarks' polygon, with a smooth edge."""
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.rint(landmarks[corners] * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255.0


def face_mask(landmarks: Floats, side: int) -> Floats:
    """The face from the hairline to the jaw and from ear to ear, ``(side, side)`` in [0, 1]."""
    return polygon(landmarks, OVAL, side)


def carrier(landmarks: Floats, side: int) -> Floats:
    """The face and what is below its chin as far as a beard may hang, ``(side, side)`` in [0, 1], with a soft edge."""
    unit = scale_of(landmarks)
    down = landmarks[152] - landmarks[10]  # from the forehead to the chin
    hanging = landmarks + 0.25 * down
    grown = np.vstack([landmarks[_JAWLINE], hanging[_JAWLINE][::-1]])
    below = polygon(grown, list(range(len(grown))), side)
    mask: Floats = cv2.GaussianBlur(np.maximum(face_mask(landmarks, side), below), (0, 0), 4.0 * unit)
    return mask


def beard_regions(landmarks: Floats, side: int) -> dict[str, Floats]:
    """Soft masks ``(side, side)`` in [0, 1] of landmarks in pixels of the square.

    "moustache"; "corners": beside the mouth; "soul": below the lower lip; "chin"; "jaw": from ear to ear; "sides": before
    the ears; "lips", which the others leave out.
    """
    unit = scale_of(landmarks)

    def area(*parts: list[int]) -> Floats:
        return np.max([polygon(landmarks, part, side) for part in parts], axis=0)

    def soft(mask: Floats, sigma: float) -> Floats:
        blurred: Floats = cv2.GaussianBlur(mask, (0, 0), sigma * unit)
        return blurred

    hard_lips = area(LIPS)
    lips = soft(hard_lips, 0.8)
    moustache = area(_ABOVE_LIP) * (1.0 - hard_lips) * (1.0 - area(_NOSE))
    return {
        "lips": lips,
        "moustache": soft(moustache, 2.2),
        "corners": soft(area(*_CORNERS), 2.5) * (1.0 - lips),
        "soul": soft(area(_SOUL), 1.6) * (1.0 - lips),
        "chin": soft(area(_CHIN), 4.0) * (1.0 - lips),
        "jaw": soft(area(_JAW, _UNDER_MOUTH), 4.0) * (1.0 - lips),
        "sides": soft(area(*_SIDES), 3.0),
    }
