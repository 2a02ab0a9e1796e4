"""Changes every face of a photo, with a network that sees one aligned face at a time.

    paste = beard_paster(task, "torch", checkpoint, None, AMOUNTS["full"])
    changed = face_engine(paste)(rgb)            # (H, W, 3), same size

Each face is found, cut out aligned, changed, and what changed is added to the photo at its place. Outside of the faces
the photo stays as it is, and its own detail stays everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afterlens.conversion.bundle.contract import digest, read_bundle
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.restore.photo import Engine, Image, Runtime, by_torch, open_runtime
from afterlens.training.faces.align import SIDE, alignment, cut, moved, pasted
from afterlens.training.faces.detect import Floats, find_faces
from afterlens.training.faces.laid_beards import lay_beard
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.regions import carrier
from afterlens.training.media.errors import UserError
from afterlens.training.task import Task

WANTED_FACE = "it must be turned to the camera, and a tenth of the picture or larger"
"""What the errors say of a face that can be found."""

Change = Callable[[Image, Floats], Image]  # aligned face, its landmarks there -> the changed face
Paste = Callable[
    [Image, Floats], Image
]  # photo, landmarks (468, 2) of one face -> the photo with that face changed


def face_engine(paste: Paste) -> Engine:
    """A photo of any size -> the photo with all of its faces changed; UserError where it has none."""

    def engine(rgb: Image) -> Image:
        faces = find_faces(to_levels(rgb))
        if not faces:
            raise UserError(f"no face found; {WANTED_FACE}")
        for face in faces:
            rgb = paste(rgb, face.landmarks)
        return rgb

    return engine


def beard_paster(
    task: Task,
    runtime: Runtime,
    checkpoint: Path | None,
    bundle: Path | None,
    wanted: Sequence[float],
) -> Paste:
    """Gives one face the wanted beard.

    Args:
        runtime, checkpoint, bundle: as for `afterlens.conversion.restore.photo.restore`.
        wanted: how much above the lip, on the chin, on the cheeks.

    Raises UserError for weights or a bundle that cannot be used.
    """
    import torch

    numbers = np.array(wanted, np.float32)
    if runtime == "torch":
        restorer, amounts = _restorer(task, checkpoint), torch.from_numpy(numbers)[None]

        def by_weights(face: Image, landmarks: Floats) -> Image:
            return by_torch(restorer, face, amounts, _tensor(lay_beard(face, landmarks, wanted)))[0]

        return _paster(by_weights, SIDE)
    fit, run = open_runtime(task, bundle, runtime)(SIDE, SIDE)
    output = fit.artifact.outputs[0].name

    def by_bundle(face: Image, landmarks: Floats) -> Image:
        return run(face, numbers, lay_beard(face, landmarks, wanted))[output]

    return _paster(by_bundle, fit.artifact.width)


def swap_paster(
    task: Task,
    runtime: Runtime,
    checkpoint: Path | None,
    bundle: Path | None,
    portrait: Image,
    points: Floats,
) -> Paste:
    """Gives one face the identity that the weights show.

    Args:
        runtime, checkpoint, bundle: as above. A bundle holds the network alone, so ``checkpoint`` must be the weights that it
            was converted from.
        portrait: what these weights show, an aligned ``(256, 256, 3)``.
        points: its landmarks, ``(468, 2)``.

    Raises UserError for weights or a bundle that cannot be used, and where they do not belong together.
    """
    weights = checkpoint or task.pretrained
    if runtime == "torch":
        restorer = _restorer(task, checkpoint)

        def run(face: Image, laid: Image) -> Image:
            return by_torch(restorer, face, _tensor(laid))[0]

        side = SIDE
    else:
        fit, open_run = open_runtime(task, bundle, runtime)(SIDE, SIDE)
        assert bundle is not None  # or `open_runtime` had refused
        if read_bundle(bundle).contract.provenance["checkpoint_sha256"] != digest(weights)[0]:
            raise UserError(
                f"{bundle}: was not converted from {weights}; give the weights it was made of with -c"
            )
        output, side = fit.artifact.outputs[0].name, fit.artifact.width

        def run(face: Image, laid: Image) -> Image:
            return open_run(face, laid)[output]

    def change(face: Image, landmarks: Floats) -> Image:
        laid, there = lay(portrait, points, face, landmarks)
        return run(face, np.asarray(laid, np.float32)) if there.any() else face

    return _paster(change, side)


def _paster(change: Change, side: int) -> Paste:
    """Cuts the aligned face out, changes it, and adds the change at its place."""

    def paste(rgb: Image, landmarks: Floats) -> Image:
        into = alignment(landmarks, side)
        square = cut(rgb, into, side).clip(0.0, 1.0)
        points = moved(landmarks, into)
        where = carrier(points, side)[..., None]
        return pasted(rgb, (change(square, points) - square) * where, into)

    return paste


def _tensor(picture: Image) -> Any:
    """``(H, W, 3)`` -> a PyTorch tensor ``(1, 3, H, W)``."""
    from afterlens.training.data import as_picture

    return as_picture(picture)[None]


def _restorer(task: Task, checkpoint: Path | None) -> Callable[..., Any]:
    from afterlens.training.trained import load_network

    network, _ = load_network(task, checkpoint or task.pretrained)
    return task.restorer(network).eval()
