"""Train a network."""

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson, TaskName
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import UserError


class Weights(StrEnum):
    """Which of a run's weights."""

    BEST = "best"
    LAST = "last"


def train(
    task: TaskName,
    data: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="Clean photos, folders of them, and clips.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="RUN", help="Folder of the run.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "-s", "--set", metavar="KEY=VALUE", help="Change the recipe; may be given several times."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in RUN exactly.")] = False,
    initial: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Weights to start from (fine-tuning); of another task the parts that fit.",
        ),
    ] = None,
    licence: Annotated[
        str,
        typer.Option(
            "--data-licence", metavar="TEXT", help="Licence of the photos, stored with the weights."
        ),
    ] = "not stated",
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only write a PNG contact sheet of degraded photos, to check them before training.",
        ),
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="Which averaged weights to report: best on held-out photos, or last.")
    ] = Weights.BEST,
    as_json: AsJson = False,
) -> None:
    """
    afterlens train reflection afterlens/samples/calibration -o build/run -s training.steps=2 -s training.validation_photos=1

    Train on clean photos, which are degraded as the task's recipe says. A clip gives the sharpest frame of each second.

    RUN holds checkpoints, TensorBoard logs, best.safetensors and last.safetensors: the other verbs take either with -c.
    The recipe is training/TASK/recipe.toml. Several processes or machines: `accelerate launch -m afterlens train ...`.
    """
    from afterlens.training.checkpoint import load_checkpoint
    from afterlens.training.frames import photos_of
    from afterlens.training.loop import train as run
    from afterlens.training.preview import contact_sheet
    from afterlens.training.tasks import find_task

    if preview is not None:
        with library_output_on_stderr(), tempfile.TemporaryDirectory(prefix="afterlens-") as scratch:
            contact_sheet(find_task(task), photos_of(data, Path(scratch)), preview, overrides=changes or ())
        show({"preview": str(preview)}, as_json, lambda: table(("preview",), [(str(preview),)]))
        return
    if out is None:
        raise UserError("no folder for the run: add -o RUN (or --preview FILE, to look at the samples first)")
    with library_output_on_stderr():
        written = run(
            find_task(task),
            data,
            out,
            overrides=changes or (),
            resume=resume,
            initial=initial,
            data_licence=licence,
            weights=weights.value,
        )
        metadata = load_checkpoint(written)[1]
    if os.environ.get("RANK", "0") != "0":  # only the first of several processes prints
        return
    scores = [(name, f"{value:.2f}") for name, value in metadata["metrics"].items()]
    rows = [("weights", str(written)), ("step", str(metadata["step"])), *scores]
    show({"weights": str(written), **metadata}, as_json, lambda: table(("trained", task), rows))
