"""Looks for what this software leaves in photos with changed faces: the mark in each face, and the file's own note.

found = marks_in(Path("portrait.jpg"))
found["marked"], found["credentials"], [face["deviations"] for face in found["faces"]]
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.restore.credentials import credentials_of
from afterlens.training.faces.align import SIDE, alignment, cut
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.mark import FOUND, mark_deviations
from afterlens.training.media.images import read_photo


def marks_in(path: Path) -> dict[str, Any]:
    """What a photo carries.

    Returns: ``{"photo", "faces": [{"deviations", "marked"}], "credentials", "marked"}``: the faces with the largest first;
        "credentials", ``{"agents", "intact"}`` or None, what its Content Credentials say; "marked", whether a face is
        marked or the credentials name this software.

    Raises UserError for a file that is no photo.
    """
    rgb = read_photo(path).rgb
    faces = []
    for face in find_faces(to_levels(rgb)):
        square = cut(rgb, alignment(face.landmarks, SIDE), SIDE).clip(0.0, 1.0)
        deviations = mark_deviations(square)
        faces.append({"deviations": deviations, "marked": deviations >= FOUND})
    note = credentials_of(path)
    named = note is not None and any(agent.startswith("afterlens") for agent in note.agents)
    return {
        "photo": str(path),
        "faces": faces,
        "credentials": None if note is None else asdict(note),
        "marked": named or any(face["marked"] for face in faces),
    }
