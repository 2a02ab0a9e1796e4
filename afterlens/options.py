"""Arguments and options that several verbs share, and how their text is read."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.training.media.errors import UserError

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The task, for example: reflection.")]
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


def height_and_width(size: str) -> tuple[int, int]:
    """(720, 1280) for "1280x720". Raises UserError for anything else."""
    width, separator, height = size.partition("x")
    if not (separator and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"size {size!r}: expected WIDTHxHEIGHT, for example 1280x720")
    return int(height), int(width)
