"""Say whether faces of photos carry the mark of a network that changed them."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import GateFailed


def mark(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO", help="Photos and folders of photos.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """
    afterlens mark afterlens/samples/faces/calibration

    Say which faces in photos were changed by this software, by the mark that its face networks leave.

    Each face is compared with the mark and with 100 patterns that mark nothing: from 5 standard deviations on it is
    marked. The mark outlives JPEG, scaling and small crops, not somebody who wants to remove it: a photo without it
    may still be changed. Exit code 1 if a face is marked.
    """
    from afterlens.conversion.restore.marks import marks_in
    from afterlens.training.media.images import find_photos

    with library_output_on_stderr():
        faces = [face for path in find_photos(photos) for face in marks_in(path)]
    result = {"faces": faces, "marked": sum(face["marked"] for face in faces)}
    rows = [
        (face["photo"], str(face["face"]), f"{face['deviations']:.1f}", "marked" if face["marked"] else "no")
        for face in faces
    ]
    show(result, as_json, lambda: table(("photo", "face", "deviations", "mark"), rows))
    if result["marked"]:
        raise GateFailed(f"{result['marked']} of {len(faces)} faces carry the mark")
