"""Which beard people wear in photos of a user's own, as their folders or CelebA's attributes say.

    classes = beard_classes(photos)              # {Path("mine/goatee/17.jpg"): 3, ...}: places in CLASSES

A folder a class, called none, stubble, moustache, goatee or full, or CelebA's `list_attr_celeba.txt` beside the photos or
their folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from afterlens.training.faces.beards import CLASSES
from afterlens.training.media.errors import UserError

ATTRIBUTES = "list_attr_celeba.txt"

_NEEDED = ("5_o_Clock_Shadow", "Goatee", "Mustache", "No_Beard", "Sideburns")


def beard_classes(photos: Sequence[Path]) -> dict[Path, int]:
    """The class of each photo of which something is said. Raises UserError for a damaged list of attributes."""
    found = {}
    for photo in photos:
        if photo.parent.name in CLASSES:
            found[photo] = CLASSES.index(photo.parent.name)
            continue
        for folder in (photo.parent, photo.parent.parent):
            known = _celeba(folder / ATTRIBUTES) if (folder / ATTRIBUTES).is_file() else {}
            if photo.name in known:
                found[photo] = known[photo.name]
                break
    return found


@lru_cache(maxsize=8)
def _celeba(path: Path) -> dict[str, int]:
    """Classes by file name, of the photos whose attributes make one of ours."""
    try:
        count, names, *lines = path.read_text("utf-8").splitlines()
        columns = [names.split().index(name) for name in _NEEDED]
        rows = [line.split() for line in lines if line.strip()]
        if len(rows) != int(count):
            raise ValueError(f"{len(rows)} lines, expected {count}")
        worn = {row[0]: _class(*(int(row[1 + column]) > 0 for column in columns)) for row in rows}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not CelebA's list of attributes ({error})") from error
    return {name: label for name, label in worn.items() if label is not None}


def _class(shadow: bool, goatee: bool, moustache: bool, bare: bool, sideburns: bool) -> int | None:
    """None where the attributes contradict each other or name no class of ours."""
    if bare:
        return None if goatee or moustache or shadow else CLASSES.index("none")
    if goatee:
        return CLASSES.index("full" if sideburns else "goatee")
    if sideburns:
        return CLASSES.index("full")
    if moustache:
        return CLASSES.index("moustache")
    return CLASSES.index("stubble") if shadow else None
