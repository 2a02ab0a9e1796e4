"""What a loss term is worth: the same weights trained on with and without it, each for the same computing time.

    python -m afterlens.benchmarks.ablations.loss_terms reflection PHOTOS TEST_PHOTOS -o runs/terms --seconds 480
    python -m afterlens.benchmarks.ablations.loss_terms udc PHOTOS TEST_PHOTOS -o runs/terms --seconds 240

PHOTOS are clean photos to train on, TEST_PHOTOS those that are degraded and restored; the optional dependency
afterlens[features] has to be installed. All forms start from the bundled weights. A term that makes a step dearer gets
fewer steps: a step's computing time is measured first. A stopped call goes on where it was. OUT/terms.png shows every
form's result for one test photo of each kind. The last line on stdout is one JSON document: means over all kinds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from afterlens.benchmarks.ablations.claims import trained
from afterlens.benchmarks.evaluation.grid import Cell, write_result
from afterlens.benchmarks.evaluation.quality import Sample, restored, synthetic_set
from afterlens.training.command import answer
from afterlens.training.data import split_records
from afterlens.training.features import features_file, load_features
from afterlens.training.loop import placed
from afterlens.training.media.images import atomic_path, find_photos
from afterlens.training.metrics import psnr, ssim
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Task
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network

TERMS = {
    "reflection": {
        "the recipe": (),
        "and features": ("loss.feature=0.05",),
        "and SSIM": ("loss.ssim=0.05",),
        "and a discriminator": ("loss.adversarial=0.01",),
        "and all three": ("loss.feature=0.05", "loss.ssim=0.05", "loss.adversarial=0.01"),
    },
    "udc": {
        "the recipe": (),
        "and SSIM": ("loss.ssim=0.1",),
        "and contextual bilateral": ("loss.contextual_bilateral=0.02",),
        "and contextual bilateral of features": ("loss.feature=0.02",),
        "SSIM and contextual bilateral alone": (
            "loss.pixel=0.0",
            "loss.squared=0.0",
            "loss.ssim=0.5",
            "loss.contextual_bilateral=0.1",
        ),
    },
}
KINDS = {
    "reflection": ("pane", "cast_shadow", "stain", "occlusion"),
    "udc": ("held_out_panel",),
}
_TIMED = 12  # steps; the first ones, which set things up, do not count
_SIDE = 192  # of the details on the sheet


def ablate(
    task: Task, data: Sequence[Path], tests: Path, out: Path, seconds: float, changes: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """A row for each of the task's `TERMS`, and one for the weights that all start from.

    Each has "terms", "steps", "psnr_gain" and its "worst" in dB, "ssim", and "feature_distance" (`feature_distance`).

    Raises UserError as training and evaluation do.
    """
    features = load_features(features_file(""))
    rows, columns = [], []
    for name, steps, weights in _forms(task, data, out, seconds, changes):
        network, _ = load_network(task, weights)
        scores, details = _measured(task, network, tests, features)
        rows.append({"terms": name, "steps": steps, **scores})
        columns.append((name, details))
    write_result(out / "terms.json", {"task": task.name, "rows": rows}, _sheet(columns))
    return rows


def _forms(
    task: Task, data: Sequence[Path], out: Path, seconds: float, changes: Sequence[str]
) -> Iterator[tuple[str, int, Path]]:
    yield "as they were", 0, task.pretrained
    terms = TERMS[task.name]
    steps = _steps(task, data, out, seconds, changes)
    for number, name in enumerate(terms):
        # A call for each, since each has its own number of steps.
        run = trained(
            task, data, out / str(number), steps[name], {name: terms[name]}, changes, task.pretrained
        )
        for _, weights in run:
            yield name, steps[name], weights


def _steps(
    task: Task, data: Sequence[Path], out: Path, seconds: float, changes: Sequence[str]
) -> dict[str, int]:
    """Steps of each form within ``seconds`` of computing time; kept in ``out``, since a stopped run goes on with the same."""
    kept = out / "steps.json"
    if kept.is_file():
        found: dict[str, int] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    steps = {
        name: max(1, round(seconds / _step_seconds(task, data, [*changes, *terms])))
        for name, terms in TERMS[task.name].items()
    }
    with atomic_path(kept) as temporary:
        temporary.write_text(json.dumps(steps, indent=2) + "\n", encoding="utf-8")
    return steps


def _step_seconds(task: Task, data: Sequence[Path], overrides: Sequence[str]) -> float:
    """Median computing time of one step, samples included, as the training loop takes it in one process."""
    recipe: Any = read_recipe(task.recipe_type, task.recipe_path, overrides)
    records, _ = split_records(
        task.index(recipe, find_photos(data)),
        recipe.training.validation_photos,
        recipe.training.validation_pairs,
    )
    samples = task.training_set(recipe, records)
    network = placed(task.build_network(recipe), torch.device("cpu"))
    objective = task.objective(recipe, torch.device("cpu"))
    times = []
    for step in range(_TIMED):
        start = time.process_time()
        batch = default_collate(
            [samples[step * recipe.training.batch + i] for i in range(recipe.training.batch)]
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.training.precision == "bf16"):
            outputs, terms = objective.losses(network, batch, 0.5)
        torch.stack(list(terms.values())).sum().backward()
        outputs = {name: output.detach() for name, output in outputs.items()}
        for judge in objective.discriminators.values():
            judge.loss(judge.module, outputs, batch).backward()
        times.append(time.process_time() - start)
    return statistics.median(times[_TIMED // 3 :])


def _measured(
    task: Task, network: nn.Module, tests: Path, features: nn.Module
) -> tuple[dict[str, float], list[tuple[str, Sample, Tensor]]]:
    """Means over the test photos of every kind, and the first photo of each: kind, sample and result."""
    restorer = task.restorer(network).eval()
    gains, ssims, distances, firsts = [], [], [], []
    for kind in KINDS[task.name]:
        samples = synthetic_set(task, tests, kind, seed=0)
        for index in range(samples.count):
            sample = samples.load(index)
            result = restored(restorer, sample.inputs)
            gains.append(psnr(result, sample.ground_truth) - psnr(sample.input, sample.ground_truth))
            ssims.append(ssim(result, sample.ground_truth))
            distances.append(feature_distance(features, result, sample.ground_truth))
            if index == 0:
                firsts.append((kind, sample, result))
    scores = {
        "psnr_gain": statistics.fmean(gains),
        "worst": min(gains),
        "ssim": statistics.fmean(ssims),
        "feature_distance": statistics.fmean(distances),
    }
    return scores, firsts


@torch.inference_mode()
def feature_distance(features: nn.Module, image: Tensor, ground_truth: Tensor) -> float:
    """How far apart two pictures ``(1, 3, H, W)`` are to a network that knows objects; 0 = equal.

    Squared distance of features of unit length, mean over places and levels: LPIPS (Zhang et al., CVPR 2018) without
    its learned weights.
    """
    levels = zip(features(image), features(ground_truth), strict=True)
    distances = [
        (F.normalize(one, dim=1) - F.normalize(other, dim=1)).square().sum(dim=1).mean()
        for one, other in levels
    ]
    return float(torch.stack(distances).mean())


def _sheet(columns: Sequence[tuple[str, list[tuple[str, Sample, Tensor]]]]) -> list[list[Cell]]:
    """A row for each kind: input, every form's result, ground truth; the middle of the photo."""
    rows = []
    for place, (kind, sample, _) in enumerate(columns[0][1]):
        cells = [Cell(_middle(sample.input), f"{kind}: {sample.name}")]
        cells += [Cell(_middle(details[place][2]), name) for name, details in columns]
        rows.append([*cells, Cell(_middle(sample.ground_truth), "ground truth")])
    return rows


def _middle(image: Tensor) -> Tensor:
    top, left = ((side - min(side, _SIDE)) // 2 for side in image.shape[2:])
    return image[:, :, top : top + _SIDE, left : left + _SIDE]


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=tuple(TERMS))
    parser.add_argument("data", type=Path, help="folder of clean photos to train on")
    parser.add_argument("tests", type=Path, help="folder of clean photos to measure on")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="folder for the runs, terms.json and terms.png"
    )
    parser.add_argument("--seconds", type=float, default=480.0, help="computing time of each training")
    parser.add_argument("-s", "--set", action="append", default=[], help="change the recipe of all runs")
    chosen = parser.parse_args()
    task = find_task(chosen.task)
    return answer(lambda: ablate(task, [chosen.data], chosen.tests, chosen.out, chosen.seconds, chosen.set))


if __name__ == "__main__":
    raise SystemExit(main())
