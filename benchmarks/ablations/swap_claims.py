"""Ablation of the identity swap's claims: each left out in turn, with equal training otherwise.

    python -m afterlens.benchmarks.ablations.swap_claims TRIPLETS TEST_TRIPLETS -o runs/swap_claims --steps 1500

Without triplets there is no target: half of the frames are to be made of another portrait of the very person in them, and
for the other half the source's identity is all that is asked. A discriminator that sees the output alone knows neither source
nor first. Without similarity nothing asks for the identity of target and source. A stopped call goes on where it was. The
last line on stdout is one JSON document.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afterlens.benchmarks.ablations.claims import arguments, trained
from afterlens.benchmarks.evaluation.swaps import dlib_judge, evaluate_swaps
from afterlens.training.command import answer
from afterlens.training.tasks import find_task

WITHOUT = {
    "as claimed": (),
    "no triplets": ("loss.triplets=false", "loss.target_identity=0.0"),
    "a discriminator that sees the output alone": ("loss.sees_all=false",),
    "contextual bilateral loss of features as well": ("loss.feature=0.1",),
    "no similarity": ("loss.target_identity=0.0", "loss.source_identity=0.0"),
}


def ablate(
    triplets: Path, tests: Path, out: Path, steps: int, changes: Sequence[str] = (), judge: Path | None = None
) -> list[dict[str, Any]]:
    """A row for each of `WITHOUT`: "without", and all that `evaluate_swaps` says in "all".

    Args:
        judge: file of dlib's recogniser; None: our own encoder, which took part in training.

    Raises UserError as training and evaluation do.
    """
    task, rows = find_task("swap"), []
    recogniser = None if judge is None else dlib_judge(judge)
    for name, weights in trained(task, [triplets], out, steps, WITHOUT, changes):
        rows.append({"without": name, "all": evaluate_swaps(task, weights, tests, judge=recogniser)["all"]})
    return rows


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = arguments(__doc__, "folder of triplets to train on", "folder of those to measure on")
    parser.add_argument("--judge", type=Path, help="dlib_face_recognition_resnet_model_v1.dat")
    chosen = parser.parse_args()
    return answer(
        lambda: ablate(chosen.data, chosen.tests, chosen.out, chosen.steps, chosen.set, chosen.judge)
    )


if __name__ == "__main__":
    raise SystemExit(main())
