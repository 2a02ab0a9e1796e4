"""Align captured pairs."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import UserError


def align(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUTS [TARGETS]", help="Two folders with the same file names, or one of pairs."
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="New folder for the aligned pairs.")
    ],
    threshold: Annotated[
        float,
        typer.Option(
            metavar="PX", help="Above this deviation, keypoints align a pair instead of mutual information."
        ),
    ] = 16.0,
    max_residual: Annotated[
        float, typer.Option(metavar="PX", help="A pair with a larger remaining deviation is left out.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """
    afterlens align afterlens/samples/captured -o build/aligned

    Align captured targets to their inputs, and crop both to what they share.

    OUT holds input/ and target/ (PNG, same names), pairs.csv (deviation, branch and residual of each pair) and
    preview.png (red: input, cyan: target). A pair that cannot be read or aligned is named and left out; the exit code
    is 2 only if no pair is left.
    """
    from afterlens.training.pairs import find_pairs, match_folders
    from afterlens.training.udc.alignment import align_pairs

    if len(folders) > 2:
        raise UserError(f"{len(folders)} folders: expected inputs and targets, or one folder of pairs")
    with library_output_on_stderr():
        pairs = match_folders(*folders) if len(folders) == 2 else find_pairs(folders[0])
        files = [(pair.name, pair.input, pair.target) for pair in pairs]
        result = align_pairs(files, out, threshold=threshold, max_residual=max_residual)
    rows = [
        (
            pair["pair"],
            *(_figure(pair[key]) for key in ("deviation", "branch", "residual")),
            pair["reason"] or "",
        )
        for pair in result["pairs"]
    ]
    columns = ("pair", "deviation px", "branch", "residual px", "left out because")
    show(result, as_json, lambda: table(columns, rows))
    if not result["aligned"]:
        raise UserError(f"none of {len(rows)} pairs could be aligned; {out / 'pairs.csv'} says why")


def _figure(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.2f}"
