"""Credits of the training photos: every row of the tables, and none that names no source."""

from pathlib import Path

import pytest

from afterlens.training.credits import credit_rows, credits_page, main
from afterlens.training.media.errors import UserError

REPOSITORY = (
    "file,licence,repo,commit,source_path\na/bee.jpg,CC BY 4.0,me/wallpapers,0123456789abcdef,x/Bee.jpg\n"
)
PAGE = "file,licence,flickr_url\n1.jpg,Attribution License,http://example.org/1.jpg\n2.jpg,a|b <c>,http://e.org/2\n"


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "CREDITS.csv").write_text(text, encoding="utf-8")
    return path


def test_every_photo_gets_a_row_with_its_licence_and_source(tmp_path: Path) -> None:
    folders = [folder(tmp_path / "a", REPOSITORY), folder(tmp_path / "b", PAGE)]
    main([*map(str, folders), "-o", str(tmp_path / "CREDITS.md")])
    text = (tmp_path / "CREDITS.md").read_text("utf-8")
    assert text == credits_page(credit_rows(folders))
    assert text.splitlines()[-3:] == [
        "| bee.jpg | CC BY 4.0 | me/wallpapers at 0123456789: x/Bee.jpg |",
        "| 1.jpg | Attribution License | http://example.org/1.jpg |",
        "| 2.jpg | a\\|b c | http://e.org/2 |",
    ]


@pytest.mark.parametrize(
    "text", ["file,licence\n1.jpg,CC0\n", "file,licence,flickr_url\n1.jpg,,http://e.org\n"]
)
def test_photo_without_licence_or_source_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="row 2: expected file, licence, and repo"):
        credit_rows([folder(tmp_path / "a", text)])


def test_folder_without_credits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"CREDITS.csv: cannot be read .*; expected a CREDITS.csv in each folder"
    ):
        credit_rows([tmp_path])
