"""Changes the faces of a clip, frame by frame, at places that do not tremble.

    engine = FaceClip(beard_paster(task, "torch", checkpoint, None, AMOUNTS["full"]), task)
    changed = engine(frame, new_scene=True)      # (H, W, 3) float32 RGB [0, 1] in and out

Faces are found anew in each frame. Landmarks tremble by a pixel or so where nothing moves, and what is drawn at them
would flicker; each face's are steadied over time. A frame without a face stays as it is.
"""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.restore.credentials import can_be_signed, sign
from afterlens.conversion.restore.faces import WANTED_FACE, Paste
from afterlens.conversion.restore.photo import Image
from afterlens.training.faces.detect import Floats, find_faces
from afterlens.training.faces.regions import scale_of
from afterlens.training.media.errors import UserError
from afterlens.training.task import Task

_STILL = 0.08  # share of a new place that is taken where nothing moves
_MOVING = 1.0  # more of it with each unit a frame: 1 unit is a hundredth of the distance of the outer corners of the eyes
_TREMBLING = 0.5  # units a frame below which nothing moves
_SMOOTH = np.float32(0.3)  # share of a new step in the mean velocity
_NEAR = 60.0  # units from one frame to the next within which a face is the same
_HELD = 2  # frames for which a face that is not found stays where it was


@dataclass
class _Track:
    landmarks: Floats
    velocity: Floats  # of each landmark, pixels a frame
    missed: int = 0


class SteadyFaces:
    """Landmarks of each face, steadied by a low-pass filter that opens with speed.

    Source: the 1 euro filter (Casiez, Roussel, Vogel; CHI 2012), with frames as the unit of time and one speed a face.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []

    def __call__(self, found: Sequence[Floats], new_scene: bool) -> list[Floats]:
        """Landmarks ``(468, 2)`` of the faces in a frame -> steadied ones. Call it with every frame, in order."""
        known = [] if new_scene else self._tracks
        self._tracks = []
        for landmarks in found:
            near = min(known, key=lambda track: _distance(track.landmarks, landmarks), default=None)
            if near is None or _distance(near.landmarks, landmarks) > _NEAR:
                self._tracks.append(_Track(landmarks, np.zeros_like(landmarks)))
                continue
            known = [track for track in known if track is not near]
            self._tracks.append(_followed(near, landmarks))
        for track in known:
            if track.missed < _HELD:
                self._tracks.append(_Track(track.landmarks, track.velocity, track.missed + 1))
        return [track.landmarks for track in self._tracks]


def _distance(one: Floats, other: Floats) -> float:
    """Between the middles of two faces, in units of the first."""
    return float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))) / scale_of(one)


def _followed(track: _Track, landmarks: Floats) -> _Track:
    step = landmarks - track.landmarks
    # Trembling goes to and fro: what is left of it in a mean over time is small.
    velocity = track.velocity + _SMOOTH * (step - track.velocity)
    speed = float(np.median(np.linalg.norm(velocity, axis=1))) / scale_of(track.landmarks)
    cutoff = _STILL + _MOVING * max(0.0, speed - _TREMBLING)
    share = np.float32(1.0 - math.exp(-cutoff))
    return _Track(track.landmarks + share * step, velocity)


class FaceClip:
    """The engine of one clip: a frame, and whether it starts a scene -> the frame with its faces changed.

    ``changed`` counts the faces changed so far.
    """

    def __init__(self, paste: Paste, task: Task) -> None:
        """``paste`` changes one face (`afterlens.conversion.restore.faces`); ``task`` is named in the clip's note."""
        self._paste = paste
        self._steady = SteadyFaces()
        self._agent = f"afterlens {task.name}"
        self.changed = 0

    def __call__(self, frame: Image, new_scene: bool) -> Image:
        """``(H, W, 3)`` float32 RGB [0, 1] in and out."""
        found = [face.landmarks for face in find_faces(to_levels(frame))]
        for landmarks in self._steady(found, new_scene):
            frame = self._paste(frame, landmarks)
            self.changed += 1
        return frame

    def complete(self, path: Path, source: Path, out: Path) -> None:
        """Sign the finished clip at ``path``, which will be ``out``, where its format can hold a note.

        Raises UserError where there was no face to change.
        """
        if self.changed == 0:
            raise UserError(f"{source}: no face found in any frame; {WANTED_FACE}")
        if can_be_signed(out):
            sign(path, source, self._agent, str(mimetypes.guess_type(out.name)[0]))
