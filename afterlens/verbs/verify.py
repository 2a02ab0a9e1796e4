"""Prove a bundle."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afterlens.options import AsJson, BundlePath, Checkpoint, Pairs, Reference
from afterlens.output import library_output_on_stderr, show, table
from afterlens.pictures import evaluation_pictures, recipe_budgets, takes_clips
from afterlens.samples import CALIBRATION, FRAMES
from afterlens.training.media.errors import GateFailed, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType


def verify(
    bundle: BundlePath,
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PHOTO", help="Real photos to compare on; default: bundled ones."),
    ] = None,
    checkpoint: Checkpoint = None,
    reference: Reference = None,
    ground_truth: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTO",
            help="Clean photos and folders, degraded as in training, to evaluate by; never those calibrated on. Default: "
            "bundled ones.",
        ),
    ] = None,
    pairs: Pairs = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT=DB", help="PSNR that a variant may lose; default: the recipe's [budgets]."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256 && afterlens verify build/reflection

    Prove that every artifact computes what PyTorch computes, and that its pictures are as good.

    Writes BUNDLE/proof.json and BUNDLE/heatmaps. Exit code 1, and a line that names artifact, photo and worst place, if
    one is wrong or loses more PSNR against the ground truth than its budget.
    """
    from afterlens.conversion.bundle.contract import read_bundle
    from afterlens.conversion.bundle.proof import PROOF_FILE
    from afterlens.conversion.bundle.variants import refuse_unknown_budget
    from afterlens.conversion.network import references
    from afterlens.conversion.verify.verify import verify as run
    from afterlens.training.media.images import find_photos

    with library_output_on_stderr():
        contract = read_bundle(bundle).contract
        graphs, weights = references(contract, checkpoint, reference)
        budgets = recipe_budgets(contract.task) | _budgets(budget or ())
        refuse_unknown_budget(budgets)
        evaluation = evaluation_pictures(contract, graphs, ground_truth, pairs)
        failure: GateFailed | None = None
        try:
            run(
                bundle,
                graphs,
                find_photos(photos or (FRAMES if takes_clips(contract.task) else CALIBRATION)),
                checkpoint=weights,
                examples=evaluation,
                budgets=budgets,
            )
        except GateFailed as error:
            failure = error
        proof = json.loads((bundle / PROOF_FILE).read_text("utf-8"))
    show(proof, as_json, lambda: proof_table(proof))
    if failure:
        raise failure


def _budgets(changes: Sequence[str]) -> dict[str, float]:
    budgets = {}
    for change in changes:
        variant, _, value = change.partition("=")
        try:
            budgets[variant] = float(value)
        except ValueError:
            raise UserError(f"budget {change!r}: expected VARIANT=DB, for example mixed=0.2") from None
    return budgets


def proof_table(proof: dict[str, Any]) -> "RenderableType":
    """The proof for people, one row an artifact."""
    rows = []
    for artifact in proof["artifacts"]:
        measured, quality = artifact["psnr"] is not None, artifact["quality"]
        figures = (f"{artifact['max_error']:.1e}", f"{artifact['psnr']:.1f}") if measured else ("-", "-")
        scores = ("-", "-", "-")
        if quality is not None:
            budget = "-" if quality["budget"] is None else f"{quality['budget']:g}"
            scores = (f"{quality['psnr']:.2f}", f"{quality['drop']:+.3f}", budget)
        rows.append((artifact["file"], "passed" if artifact["passed"] else "FAILED", *figures, *scores))
    columns = (
        *("artifact", f"against PyTorch on {len(proof['images'])} images", "max error", "worst PSNR"),
        *("PSNR to the ground truth", "lost dB", "budget"),
    )
    return table(columns, rows)
