"""The identity that a swap network shows: one portrait, enrolled into its weights.

    enroll(network, identity_of(photo, landmarks))
    identity = enrolled(network)
    laid, there = lay(identity.picture, identity.landmarks, frame, frame_landmarks)

Weights as they are trained show nobody. `afterlens enroll`, which asks for the person's consent, makes weights for one
identity; the bundled ones show somebody who does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from afterlens.training.checkpoint import load_tensors
from afterlens.training.data import as_picture
from afterlens.training.faces.align import SIDE, alignment, cut, moved
from afterlens.training.faces.detect import POINTS, Floats
from afterlens.training.media.errors import UserError
from afterlens.training.swap.identity import NUMBERS, load_encoder

SHAPES = {"picture": (SIDE, SIDE, 3), "landmarks": (POINTS, 2), "vector": (NUMBERS,)}
"""Of an identity's tensors, which a network has as its buffers ``identity_...``; the picture in levels, 0 to 255."""

_PREFIX = "identity_"


@dataclass(frozen=True)
class Identity:
    """One person's face.

    Attributes:
        picture: the aligned portrait, ``(256, 256, 3)`` RGB [0, 1].
        landmarks: ``(468, 2)``, its pixels.
        vector: ``(128,)``, of the identity encoder.
    """

    picture: Floats
    landmarks: Floats
    vector: Tensor


def identity_of(photo: Floats, landmarks: Floats) -> Identity:
    """The identity of a face in a photo ``(H, W, 3)`` RGB [0, 1], landmarks ``(468, 2)`` in its pixels."""
    into = alignment(landmarks)
    picture = np.rint(cut(photo, into, SIDE).clip(0.0, 1.0) * 255.0).astype(np.float32) / np.float32(255.0)
    with torch.no_grad():
        vector = load_encoder()(as_picture(picture)[None])[0]
    return Identity(picture, moved(landmarks, into).astype(np.float32), vector)


def enroll(network: torch.nn.Module, identity: Identity) -> None:
    """The network shows this identity from now on."""
    tensors = {
        "picture": torch.from_numpy(np.rint(identity.picture * 255.0).astype(np.uint8)),
        "landmarks": torch.from_numpy(np.ascontiguousarray(identity.landmarks)),
        "vector": identity.vector,
    }
    for name, tensor in tensors.items():
        network.get_buffer(_PREFIX + name).copy_(tensor)


def enrolled(network: torch.nn.Module) -> Identity:
    """Whom the network shows. Raises UserError where nobody is enrolled."""
    return _identity({name: network.get_buffer(_PREFIX + name) for name in SHAPES}, "these weights")


def read_identity(weights: Path) -> Identity:
    """Whom a file of weights shows. Raises UserError where it shows nobody, or is no file of swap weights."""
    tensors = load_tensors(weights)
    own = {name: tensors.get(_PREFIX + name, torch.empty(0)) for name in SHAPES}
    if any(own[name].shape != shape for name, shape in SHAPES.items()):
        raise UserError(f"{weights}: no weights of the identity swap; take a file of `afterlens enroll`")
    return _identity(own, str(weights))


def _identity(tensors: dict[str, Tensor], where: str) -> Identity:
    if not tensors["vector"].any():
        raise UserError(f"{where} show nobody yet; enroll somebody: afterlens enroll PHOTO --consent FILE")
    return Identity(
        tensors["picture"].numpy().astype(np.float32) / np.float32(255.0),
        tensors["landmarks"].numpy().astype(np.float32),
        tensors["vector"].detach().float(),
    )
