"""Triplets for the identity swap out of photos of people who agreed."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson, Checkpoint
from afterlens.output import library_output_on_stderr, show, table


def triplets(
    people: Annotated[
        Path,
        typer.Argument(
            metavar="PEOPLE", help="A folder for each person: their photos, and consent.txt, signed by them."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder for the triplets.")],
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens triplets people/ -o triplets/

    Make triplets for the identity swap out of photos of people who agreed.

    The target is a photo of a person, the source another one of them, and the first is the target with somebody else's face,
    made by trained weights (-c, or the bundled ones). `afterlens train swap triplets/` learns from them, also mixed with
    rendered ones (`afterlens heads --triplets`). Each person signs the form of `afterlens enroll --form`; without it nothing
    is written. Triplets that are there already are kept, so that a stopped call can be repeated.
    """
    from afterlens.conversion.restore.credentials import sign
    from afterlens.training.swap.own_triplets import triplets_from_photos
    from afterlens.training.tasks import find_task

    with library_output_on_stderr():
        result = triplets_from_photos(
            find_task("swap"),
            people,
            out,
            checkpoint=checkpoint,
            noted=partial(sign, agent="afterlens triplets"),
        )
    rows = [("people", str(result["people"])), ("written", str(result["written"]))]
    rows += [(f"left out: {name}", why) for name, why in result["left_out"].items()]
    show(result, as_json, lambda: table(("triplets", str(out)), rows))
