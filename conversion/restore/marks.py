"""Looks for the mark of changed faces in photos.

for face in marks_in(Path("portrait.jpg")):
    face["marked"], face["deviations"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.training.faces.align import SIDE, alignment, cut
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.mark import FOUND, mark_deviations
from afterlens.training.media.images import read_photo


def marks_in(path: Path) -> list[dict[str, Any]]:
    """``{"photo", "face", "deviations", "marked"}`` of each face, largest first; none for a photo without faces.

    Raises UserError for a file that is no photo.
    """
    rgb = read_photo(path).rgb
    found = []
    for number, face in enumerate(find_faces(to_levels(rgb))):
        square = cut(rgb, alignment(face.landmarks, SIDE), SIDE).clip(0.0, 1.0)
        deviations = mark_deviations(square)
        found.append(
            {"photo": str(path), "face": number, "deviations": deviations, "marked": deviations >= FOUND}
        )
    return found
