"""Credits for the photos that weights were trained on, from the CREDITS.csv beside them, to ship with the weights.

    python -m afterlens.training.credits DATA/train_clean/cc_photos DATA/train_clean/coco_cc -o training/pretrained/CREDITS.md

A CREDITS.csv has a row a photo: ``file`` and ``licence``, then either ``repo`` (owner/name), ``commit`` and ``source_path``
of a public repository, or ``flickr_url``, the photo on the photographer's page.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

_HEAD = """# Credits

`make retrain-reflection` trains on these photos, scaled, cropped and degraded. Thanks to everyone who shares their work
under a free licence. The table lists each photo, its licence as its source states it, and where it comes from.

Also used: frames of six DAVIS 2016 sequences (Perazzi et al., CVPR 2016; BSD licence) and of Intel's sample videos of sign
language (intel-iot-devkit/sample-videos, CC BY 4.0).

| photo | licence | source |
|---|---|---|
"""


def credit_rows(folders: Iterable[Path]) -> list[tuple[str, str, str]]:
    """(photo, licence, source) of every row of the folders' CREDITS.csv, in order.

    Raises UserError for a folder without that file or a file without the columns named above.
    """
    rows = []
    for folder in folders:
        path = folder / "CREDITS.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                found = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); expected a CREDITS.csv in each folder"
            ) from error
        for number, row in enumerate(found, start=2):
            source = _source(row)
            if not row.get("file") or not row.get("licence") or not source:
                raise UserError(
                    f"{path}, row {number}: expected file, licence, and repo, commit, source_path or flickr_url"
                )
            rows.append((Path(row["file"]).name, row["licence"], source))
    return rows


def _source(row: dict[str, str]) -> str:
    if row.get("repo") and row.get("source_path"):
        return f"{row['repo']} at {row.get('commit', '')[:10]}: {row['source_path']}"
    return row.get("flickr_url", "")


def credits_page(rows: Iterable[tuple[str, str, str]]) -> str:
    """The rows as a Markdown page."""
    lines = ("| " + " | ".join(_cell(value) for value in row) + " |\n" for row in rows)
    return _HEAD + "".join(lines)


def _cell(text: str) -> str:
    """``text`` on one line, without what Markdown would take for markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "").replace(">", "")


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description="Credits of the photos that weights were trained on.")
    parser.add_argument("folders", nargs="+", type=Path, help="folders with a CREDITS.csv")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the Markdown file")
    options = parser.parse_args(arguments)
    with atomic_path(options.out) as temporary:
        temporary.write_text(credits_page(credit_rows(options.folders)), encoding="utf-8")


if __name__ == "__main__":
    main()
