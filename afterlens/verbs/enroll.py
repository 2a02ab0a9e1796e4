"""Enroll a person for the identity swap, with their consent."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson, Checkpoint
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import UserError


def enroll(
    photo: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTO", help="The person, looking at the camera: no glasses, no hair over the face."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="WEIGHTS", help="New .safetensors file: weights that show this person."
        ),
    ] = None,
    consent: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The form, signed by the person shown.")
    ] = None,
    form: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the form to sign, and do nothing else.")
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens enroll --form consent.txt

    Enroll a person for the identity swap, with their consent.

    `afterlens enroll me.jpg --consent consent.txt -o me.safetensors` writes weights that show this person; every other verb
    takes them with -c: `afterlens restore swap friend.jpg -c me.safetensors -o swapped.png`. The photo lies in the weights.
    Without the signed consent of the person shown nothing is written.
    """
    from afterlens.training.media.images import atomic_path
    from afterlens.training.swap.consent import consent_form, read_consent
    from afterlens.training.swap.enroll import enroll_photo
    from afterlens.training.tasks import find_task

    if form is not None:
        if photo is not None or out is not None or consent is not None:
            raise UserError("--form writes the form and does nothing else; leave the rest out")
        with atomic_path(form) as temporary:
            temporary.write_text(consent_form(), encoding="utf-8")
        show({"form": str(form)}, as_json, lambda: table(("form to sign",), [(str(form),)]))
        return
    if photo is None or out is None:
        raise UserError("expected a PHOTO and -o WEIGHTS, or --form FILE")
    if consent is None:
        raise UserError(
            f"{photo}: nobody is enrolled without consent: have the form signed (--form), and give --consent"
        )
    with library_output_on_stderr():
        result = enroll_photo(
            find_task("swap"), photo, out, consent=read_consent(consent), checkpoint=checkpoint
        )
    show(result, as_json, lambda: table(("weights", "show"), [(str(out), result["origin"])]))
