"""Changes every face of a photo, with a network that sees one aligned face at a time.

    engine = face_engine(task, "torch", checkpoint, None, AMOUNTS["full"])
    changed = engine(rgb)                        # (H, W, 3), same size

Each face is found, cut out aligned, changed, and what changed is added to the photo at its place. Outside of the faces
the photo stays as it is, and its own detail stays everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.restore.photo import Engine, Image, Runtime, by_torch, open_runtime
from afterlens.training.faces.align import SIDE, alignment, cut, moved, pasted
from afterlens.training.faces.detect import Floats, find_faces
from afterlens.training.faces.regions import carrier
from afterlens.training.media.errors import UserError
from afterlens.training.task import Task

WANTED_FACE = "it must be turned to the camera, and a tenth of the picture or larger"
"""What the errors say of a face that can be found."""

Change = Callable[[Image, NDArray[np.float32]], Image]  # aligned face, what is wanted -> the changed face
Paste = Callable[
    [Image, Floats], Image
]  # photo, landmarks (468, 2) of one face -> the photo with that face changed


def face_engine(
    task: Task,
    runtime: Runtime,
    checkpoint: Path | None,
    bundle: Path | None,
    wanted: Sequence[float],
) -> Engine:
    """A photo of any size -> the photo with all of its faces changed.

    Args:
        runtime, checkpoint, bundle: as for `afterlens.conversion.restore.photo.restore`.
        wanted: the numbers that the network takes beside the face.

    Raises UserError for weights or a bundle that cannot be used; the engine, where a photo has no face.
    """
    paste = face_paster(task, runtime, checkpoint, bundle, wanted)

    def engine(rgb: Image) -> Image:
        faces = find_faces(to_levels(rgb))
        if not faces:
            raise UserError(f"no face found; {WANTED_FACE}")
        for face in faces:
            rgb = paste(rgb, face.landmarks)
        return rgb

    return engine


def face_paster(
    task: Task,
    runtime: Runtime,
    checkpoint: Path | None,
    bundle: Path | None,
    wanted: Sequence[float],
) -> Paste:
    """A photo and the landmarks of one of its faces -> the photo with this face changed; arguments as above."""
    if runtime == "torch":
        change, side = _by_network(task, checkpoint), SIDE
    else:
        fit, run = open_runtime(task, bundle, runtime)(SIDE, SIDE)
        output, side = fit.artifact.outputs[0].name, fit.artifact.width

        def change(face: Image, numbers: NDArray[np.float32]) -> Image:
            return run(face, numbers)[output]

    numbers = np.array(wanted, np.float32)

    def paste(rgb: Image, landmarks: Floats) -> Image:
        into = alignment(landmarks, side)
        square = cut(rgb, into, side).clip(0.0, 1.0)
        where = carrier(moved(landmarks, into), side)[..., None]
        return pasted(rgb, (change(square, numbers) - square) * where, into)

    return paste


def _by_network(task: Task, checkpoint: Path | None) -> Change:
    import torch

    from afterlens.training.trained import load_network

    network, _ = load_network(task, checkpoint or task.pretrained)
    restorer = task.restorer(network).eval()

    def change(face: Image, numbers: NDArray[np.float32]) -> Image:
        changed: Image = by_torch(restorer, face, torch.from_numpy(numbers)[None])[0]
        return changed

    return change
