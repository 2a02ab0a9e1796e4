"""The pictures that a verb calibrates on, evaluates by and shows: those that the user names, else bundled ones."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afterlens.samples import CALIBRATION, DEGRADED, EVALUATION, FACES, FRAMES, HELD_OUT_FACES
from afterlens.training.media.errors import UserError

if TYPE_CHECKING:
    from afterlens.conversion.bundle.contract import Contract
    from afterlens.conversion.examples import Example
    from afterlens.training.deployable import Deployable
    from afterlens.training.task import Task


def takes_clips(task: str) -> bool:
    """Whether the task's network also takes the previous frame; False for an external network."""
    from afterlens.training.tasks import TASKS

    return task in TASKS and TASKS[task].stream is not None


def shown(task: str) -> list[Path]:
    """The bundled input that shows what one of our tasks does: the last one, after those for its further inputs."""
    if takes_clips(task):
        return FRAMES[:2]
    laid = DEGRADED / f"{task}_laid.jpg"  # of a task whose network also takes a face that was laid on
    return [laid, DEGRADED / f"{task}.jpg"] if laid.is_file() else [DEGRADED / f"{task}.jpg"]


def calibration_pictures(
    task: str, pairs: Path | None, photos: Sequence[Path] | None
) -> "Callable[[Deployable, int], list[Example]] | None":
    """Gives so many real pictures for a graph; None for an external network where none were named."""
    from afterlens.conversion.examples import pair_examples, plain_examples
    from afterlens.conversion.external import is_external
    from afterlens.training.media.images import find_photos
    from afterlens.training.tasks import find_task

    if pairs is not None:
        if photos:
            raise UserError("got --pairs and --calibration, expected one of them")
        folder = pairs
        return lambda graph, count: pair_examples(folder, graph, count)
    if is_external(task):
        found = find_photos(photos) if photos else []
        return (lambda graph, count: plain_examples(found, graph)) if found else None
    own = find_task(task)
    clean = find_photos(photos or (FACES if own.faces else CALIBRATION))
    return lambda graph, count: _degraded(own, clean, graph, count, seed=1)


def evaluation_pictures(
    contract: "Contract",
    graphs: Mapping[tuple[int, int], "Deployable"],
    ground_truth: Sequence[Path] | None,
    pairs: Path | None,
) -> dict[tuple[int, int], "list[Example]"]:
    """Pictures with ground truth, by (height, width), to evaluate a bundle by."""
    from afterlens.conversion.examples import pair_examples
    from afterlens.training.media.images import find_photos
    from afterlens.training.tasks import TASKS

    if pairs is not None and ground_truth:
        raise UserError("got --pairs and --ground-truth, expected one of them")
    sizes = sorted({(artifact.height, artifact.width) for artifact in contract.artifacts})
    # The smallest size is evaluated on all of them; two show that the same network still works at the larger ones.
    if pairs is not None:
        return {size: pair_examples(pairs, graphs[size], None if size == sizes[0] else 2) for size in sizes}
    if contract.task in TASKS:
        task = TASKS[contract.task]
        clean = find_photos(ground_truth or (HELD_OUT_FACES if task.faces else EVALUATION))
        counts = {size: 6 if size == sizes[0] else 2 for size in sizes}
        return {size: _degraded(task, clean, graphs[size], counts[size], seed=2) for size in sizes}
    if ground_truth:
        raise UserError(
            "--ground-truth degrades clean photos as one of our tasks does; give real pairs instead: --pairs DIR"
        )
    for artifact in contract.artifacts:
        if not artifact.variant.startswith("float"):
            raise UserError(
                f"{artifact.file}: {artifact.variant} is evaluated on pictures with ground truth: add --pairs DIR"
            )
    return {}


def recipe_budgets(task: str) -> dict[str, float]:
    """The dB that each variant may lose; an external network has no recipe, and the default budgets."""
    from afterlens.conversion.bundle.variants import BUDGETS
    from afterlens.training.tasks import TASKS

    return {**BUDGETS, **(_recipe(TASKS[task]).budgets if task in TASKS else {})}


def _degraded(task: "Task", photos: Sequence[Path], graph: Any, count: int, seed: int) -> "list[Example]":
    """What the task makes of photos to show its network, by its own recipe."""
    from afterlens.conversion.examples import task_examples

    return task_examples(task, _recipe(task), photos, graph, count=count, seed=seed)


def _recipe(task: "Task") -> Any:
    from afterlens.training.recipe import read_recipe

    return read_recipe(task.recipe_type, task.recipe_path)
