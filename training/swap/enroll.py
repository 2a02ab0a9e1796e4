"""Makes weights that show one person, out of a photo of them.

result = enroll_photo(TASK, Path("me.jpg"), Path("me.safetensors"), consent=read_consent(Path("consent.txt")))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.faces.align import SIDE, alignment
from afterlens.training.faces.detect import Floats, find_faces
from afterlens.training.faces.mesh import face_mesh
from afterlens.training.faces.portraits import read_labels
from afterlens.training.faces.pose import pose
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from afterlens.training.swap.consent import Consent
from afterlens.training.swap.enrolled import enroll, identity_of
from afterlens.training.task import Task
from afterlens.training.trained import load_trainable

TURNED = 25.0  # degrees from the camera beyond which half of the face is missing
_SMALLEST = 0.4  # of the aligned square's own size, below which the portrait is too coarse


def enroll_photo(
    task: Task, photo: Path, out: Path, *, consent: Consent | None, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Writes weights for the identity in a photo to ``out``.

    Args:
        task: the identity swap.
        photo: one face, turned to the camera.
        out: .safetensors file; one that is there is replaced.
        consent: of the person shown; None is for rendered portraits of nobody, whose labels lie beside them.
        checkpoint: the weights to start from; None: the bundled ones.

    Returns: ``{"weights", "origin", "turned"}``: "origin" is "rendered" or "consent", "turned" the degrees from the camera.

    Raises UserError where consent is missing, for a photo without exactly one usable face, and for unusable weights.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: expected a name that ends in .safetensors")
    if consent is None and read_labels(photo) is None:
        raise UserError(
            f"{photo}: shows somebody whose consent is missing: have the form signed, and give --consent"
        )
    rgb, landmarks = one_face(photo)
    turned = degrees_turned(landmarks)
    if turned > TURNED:
        raise UserError(
            f"{photo}: the face is turned by {turned:.0f} degrees, expected at most {TURNED:.0f}: look at the camera"
        )
    weights = checkpoint or task.pretrained
    network, metadata = load_trainable(task, weights)
    enroll(network, identity_of(rgb, landmarks))
    about: dict[str, Any] = {"origin": "rendered"}
    if consent is not None:
        about = {"origin": "consent", "date": consent.date.isoformat(), "consent_sha256": consent.sha256}
    save_checkpoint(out, network.state_dict(), {**metadata, "identity": about})
    return {"weights": str(out), "origin": about["origin"], "turned": round(turned, 1)}


def one_face(photo: Path) -> tuple[Floats, Floats]:
    """A photo ``(H, W, 3)`` RGB [0, 1] of one person, and the landmarks ``(468, 2)`` of the face in its pixels.

    Raises UserError where it cannot be read, or has not exactly one face that is large enough.
    """
    rgb = read_photo(photo).rgb
    faces = find_faces(np.rint(rgb * 255.0).astype(np.uint8))
    if len(faces) != 1:
        raise UserError(f"{photo}: {len(faces)} faces found, expected one, turned to the camera")
    landmarks = faces[0].landmarks
    scale = float(np.hypot(*alignment(landmarks)[:, 0]))
    if scale > 1.0 / _SMALLEST:
        raise UserError(
            f"{photo}: the face is {SIDE / scale:.0f} pixels wide with its surroundings, "
            f"expected {SIDE * _SMALLEST:.0f} or more"
        )
    return rgb, landmarks


def degrees_turned(landmarks: Floats) -> float:
    """How far a face is turned from the camera."""
    away = pose(face_mesh().points, landmarks).axes[2]
    return float(np.degrees(np.arccos(np.clip(away[2], -1.0, 1.0))))
