"""Ablation of the beard task's three ratios: each left out in turn, with equal training otherwise.

    python -m afterlens.benchmarks.ablations.beard_claims FACES TEST_FACES -o runs/beard_claims --steps 1000

FACES are bare portraits to train on, TEST_FACES those of other people. Without a preset class ratio the set is as people
are met: most wear no beard, few a moustache alone. Without a preset sampling ratio batches are drawn as the set is. Without
the area in the loss it is the plain mean over the face. A stopped call goes on where it was. The last line on stdout is one
JSON document: what removing gains by class, and what bare faces keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afterlens.benchmarks.ablations.claims import arguments, trained
from afterlens.benchmarks.evaluation.beards import evaluate_beards
from afterlens.training.command import answer
from afterlens.training.tasks import find_task

AS_MET = "[0.62, 0.16, 0.03, 0.04, 0.15]"
"""Shares of none, stubble, moustache, goatee and full where nobody chose them: an estimate, moustaches are rare."""

WITHOUT = {
    "as claimed": (),
    "no class ratio": (f"classes.set={AS_MET}",),
    "no sampling ratio": (f"classes.set={AS_MET}", f"classes.batches={AS_MET}"),
    "no area in the loss": ("loss.area_adjusted=false",),
    "none of the three": (
        f"classes.set={AS_MET}",
        f"classes.batches={AS_MET}",
        "loss.area_adjusted=false",
    ),
}


def ablate(
    faces: Sequence[Path], tests: Path, out: Path, steps: int, changes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A row for each of `WITHOUT`, trained in a folder of its own below ``out``: "without", and `summary` of the tests.

    Raises UserError as training and evaluation do.
    """
    task, rows = find_task("beard"), []
    for name, weights in trained(task, faces, out, steps, WITHOUT, changes):
        found = evaluate_beards(task, weights, tests)
        rows.append({"without": name, "all": found["all"], "by_class": found["by_class"]})
    return rows


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = arguments(__doc__, "folder of bare portraits to train on", "folder of those to measure on")
    chosen = parser.parse_args()
    return answer(lambda: ablate([chosen.data], chosen.tests, chosen.out, chosen.steps, chosen.set))


if __name__ == "__main__":
    raise SystemExit(main())
