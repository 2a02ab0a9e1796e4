"""What people wear in a user's own photos, as folders or CelebA's attributes say."""

from __future__ import annotations

from pathlib import Path

import pytest

from afterlens.training.faces.beards import CLASSES
from afterlens.training.faces.labelled import ATTRIBUTES, beard_classes
from afterlens.training.media.errors import UserError

COLUMNS = ("5_o_Clock_Shadow", "Bald", "Goatee", "Mustache", "No_Beard", "Sideburns")


def _attributes(folder: Path, rows: dict[str, set[str]], count: int | None = None) -> Path:
    lines = [f"{name} {' '.join('1' if c in own else '-1' for c in COLUMNS)}" for name, own in rows.items()]
    path = folder / ATTRIBUTES
    path.write_text("\n".join([str(len(rows) if count is None else count), " ".join(COLUMNS), *lines]) + "\n")
    return path


def test_folders_name_the_class(tmp_path: Path) -> None:
    photos = [tmp_path / name / "1.jpg" for name in (*CLASSES, "others")]
    assert beard_classes(photos) == {photo: label for label, photo in enumerate(photos[:-1])}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"No_Beard"}, "none"),
        ({"No_Beard", "Bald", "Sideburns"}, "none"),
        ({"No_Beard", "Goatee"}, None),
        ({"No_Beard", "Mustache"}, None),
        ({"No_Beard", "5_o_Clock_Shadow"}, None),
        ({"Goatee", "Mustache"}, "goatee"),
        ({"Goatee", "Sideburns"}, "full"),
        ({"Sideburns"}, "full"),
        ({"Mustache", "5_o_Clock_Shadow"}, "moustache"),
        ({"5_o_Clock_Shadow"}, "stubble"),
        (set(), None),
    ],
)
def test_attributes_make_a_class_or_none(tmp_path: Path, own: set[str], expected: str | None) -> None:
    (tmp_path / "photos").mkdir()
    _attributes(tmp_path, {"000001.jpg": own, "000002.jpg": {"No_Beard"}})
    photo = tmp_path / "photos" / "000001.jpg"
    assert beard_classes([photo, tmp_path / "unknown.jpg"]) == (
        {} if expected is None else {photo: CLASSES.index(expected)}
    )
    assert beard_classes([tmp_path / "000002.jpg"]) == {tmp_path / "000002.jpg": 0}  # beside the list


@pytest.mark.parametrize("content", ["", "1\nGoatee\n1.jpg 1\n", "two\nno\n", "\x00\n\x00"])
def test_a_damaged_list_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / ATTRIBUTES).write_text(content)
    with pytest.raises(UserError, match="not CelebA's list of attributes"):
        beard_classes([tmp_path / "1.jpg"])


def test_a_list_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    _attributes(tmp_path, {"1.jpg": {"Goatee"}}, count=2)
    with pytest.raises(UserError, match="1 lines, expected 2"):
        beard_classes([tmp_path / "1.jpg"])
