"""What the ablations of a task's claims share: one network each, with one claim left out, after equal training."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from afterlens.training.loop import train
from afterlens.training.task import Task


def trained(
    task: Task,
    data: Sequence[Path],
    out: Path,
    steps: int,
    claims: Mapping[str, Sequence[str]],
    changes: Sequence[str] = (),
    initial: Path | None = None,
) -> Iterator[tuple[str, Path]]:
    """The name and the last weights of a training for each of ``claims``, in a folder of its own below ``out``.

    Args:
        claims: what each changes in the recipe, by name.
        changes: of all of them.
        initial: weights that all of them start from; None: new ones.

    A stopped call goes on where it was. Raises UserError as training does.
    """
    for number, (name, left_out) in enumerate(claims.items()):
        run = out / str(number)
        overrides = [f"training.steps={steps}", f"training.validate_every={steps}", *changes, *left_out]
        resume = (run / "checkpoints").is_dir()
        yield (
            name,
            train(task, data, run, overrides=overrides, resume=resume, initial=initial, weights="last"),
        )


def arguments(description: str | None, data: str, tests: str) -> argparse.ArgumentParser:
    """The options that these commands share; ``data`` and ``tests`` say what their folders hold."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help=data)
    parser.add_argument("tests", type=Path, help=tests)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("-s", "--set", action="append", default=[], help="change the recipe of all runs")
    return parser
