"""Arguments and options that several verbs share, and how their text is read."""

import re
from pathlib import Path
from typing import Annotated

import typer

from afterlens.training.media.errors import UserError

TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="The task: reflection, udc, deblur, beard or swap.")
]
BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A folder written by `afterlens convert`.")
]
Checkpoint = Annotated[
    Path | None,
    typer.Option("-c", "--checkpoint", metavar="FILE", help="Weights; default: the bundled ones."),
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION", help="An external network, in place of a checkpoint (docs/external.md)."
    ),
]
Pairs = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Captured pairs: DIR/input and DIR/target, or a folder named after each input of the network.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


LARGEST_SIDE = 16384
"""Pixels, as in contract.schema.json."""


def height_and_width(size: str) -> tuple[int, int]:
    """(720, 1280) for "1280x720". Raises UserError for anything else."""
    found = re.fullmatch("([0-9]{1,9})x([0-9]{1,9})", size)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise UserError(
            f"size {size!r}: expected WIDTHxHEIGHT, for example 1280x720, up to {LARGEST_SIDE} pixels a side"
        )
    return height, width
