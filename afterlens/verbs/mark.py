"""Say whether faces of photos carry the mark of a network that changed them."""

from pathlib import Path
from typing import Annotated, Any

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

    Say which photos hold faces that were changed by this software.

    Its face networks leave two things. A mark in the face itself: each face is compared with the mark and with 100
    patterns that mark nothing, and is marked from 5 standard deviations on; the mark outlives JPEG, scaling and small
    crops. And a note in the file (Content Credentials, C2PA), which says what wrote it and whether it was changed since;
    most programs and websites drop it. Somebody who wants to can remove both. Exit code 1 if a photo carries either.
    """
    from afterlens.conversion.restore.marks import marks_in
    from afterlens.training.media.images import find_photos

    with library_output_on_stderr():
        photos_found = [marks_in(path) for path in find_photos(photos)]
    marked = [photo for photo in photos_found if photo["marked"]]
    rows = [
        (photo["photo"], number, deviations, "marked" if is_marked else "no", _note(photo["credentials"]))
        for photo in photos_found
        for number, deviations, is_marked in _faces(photo["faces"])
    ]
    columns = ("photo", "face", "deviations", "mark", "Content Credentials")
    show({"photos": photos_found, "marked": len(marked)}, as_json, lambda: table(columns, rows))
    if marked:
        raise GateFailed(f"{len(marked)} of {len(photos_found)} photos carry the mark or the note")


def _faces(faces: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """Number, deviations and whether it is marked, of each face; a row for a photo without faces."""
    rows = [(str(n), f"{face['deviations']:.1f}", face["marked"]) for n, face in enumerate(faces)]
    return rows or [("none", "", False)]


def _note(credentials: dict[str, Any] | None) -> str:
    if credentials is None:
        return "none"
    return f"{', '.join(credentials['agents']) or 'some'}{'' if credentials['intact'] else ' (file changed since)'}"
