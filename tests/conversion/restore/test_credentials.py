"""Content Credentials: what a changed photo's file says of itself, and that a changed byte is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afterlens.conversion.restore.credentials import EDITED, credentials_of, sign
from afterlens.conversion.restore.marks import marks_in
from afterlens.samples import CALIBRATION, FACES
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo, write_png


def _signed(path: Path, source: Path, agent: str = "afterlens beard") -> Path:
    photo = read_photo(source)
    write_png(path, photo.rgb, photo.exif, photo.icc, lambda file: sign(file, source, agent))
    return path


def test_the_note_names_the_software_and_leaves_the_pixels(tmp_path: Path) -> None:
    path = _signed(tmp_path / "out.png", FACES[0])
    found = credentials_of(path)
    assert found is not None and found.intact and found.agents == ("afterlens beard",)
    assert np.array_equal(
        np.asarray(Image.open(path)), np.rint(read_photo(FACES[0]).rgb * 255).astype(np.uint8)
    )
    assert EDITED.encode() in path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.png"]
    assert credentials_of(FACES[0]) is None


def test_a_photo_with_the_note_but_without_a_face_is_told(tmp_path: Path) -> None:
    found = marks_in(_signed(tmp_path / "out.png", CALIBRATION[0]))
    assert found["marked"] and not found["faces"]
    assert found["credentials"] == {"agents": ("afterlens beard",), "intact": True}
    others = marks_in(_signed(tmp_path / "other.png", CALIBRATION[0], "another editor"))
    assert others["credentials"]["agents"] == ("another editor",) and not others["marked"]


def test_the_photos_own_credentials_are_kept(tmp_path: Path) -> None:
    first = _signed(tmp_path / "first.png", CALIBRATION[0], "a camera")
    second = credentials_of(_signed(tmp_path / "second.png", first))
    assert second is not None and second.intact
    assert set(second.agents) == {"a camera", "afterlens beard"}


@pytest.mark.parametrize("kind", ["bmp", "tiff", "webp", "jpeg"])
def test_photos_of_any_format_can_be_the_source(tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"photo.{kind}"
    Image.open(CALIBRATION[0]).convert("RGB").crop((0, 0, 64, 64)).save(source)
    found = credentials_of(_signed(tmp_path / "out.png", source))
    assert found is not None and found.intact and found.agents == ("afterlens beard",)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_changed_byte_is_noticed(tmp_path: Path, place: float) -> None:
    path = _signed(tmp_path / "out.png", CALIBRATION[0])
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * place)] ^= 1
    path.write_bytes(raw)
    found = credentials_of(path)
    assert found is not None and not found.intact


def test_what_is_no_picture_has_no_credentials(tmp_path: Path) -> None:
    for name, content in {
        "text.png": b"no picture",
        "empty.jpg": b"",
        "cut.png": b"\x89PNG\r\n\x1a\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert credentials_of(tmp_path / name) is None
    signed = _signed(tmp_path / "out.png", CALIBRATION[0]).read_bytes()
    for size in range(0, min(len(signed), 4000), 97):
        (tmp_path / "part.png").write_bytes(signed[:size])
        credentials_of(tmp_path / "part.png")


def test_a_file_that_cannot_be_signed_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="Content Credentials cannot be written"):
        sign(tmp_path / "text.png", CALIBRATION[0], "afterlens beard")
    assert [file.name for file in tmp_path.iterdir()] == ["text.png"]
