"""The network that the command line names: a checkpoint of ours, an external function, or what a bundle was made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afterlens.training.media.errors import UserError

if TYPE_CHECKING:
    from afterlens.conversion.bundle.contract import Contract
    from afterlens.training.deployable import Deployable

Size = tuple[int, int]  # height, width


def trained(
    name: str, checkpoint: Path | None, sizes: Sequence[Size]
) -> tuple[list["Deployable"], dict[str, Any]]:
    """One graph a size (default: the task's sizes) from a checkpoint, and its provenance."""
    from afterlens.conversion.bundle.contract import digest
    from afterlens.training.tasks import find_task
    from afterlens.training.trained import load_network

    task = find_task(name)
    weights = checkpoint or task.pretrained
    network, metadata = load_network(task, weights)
    provenance = {
        "checkpoint_sha256": digest(weights)[0],
        "recipe": metadata["recipe"],
        "data_licence": metadata.get("data", {}).get("licence", "not stated"),
    }
    return [task.deployable(network, *size) for size in sizes or task.default_sizes], provenance


def external(
    name: str, checkpoint: Path | None, sizes: Sequence[Size]
) -> tuple[list["Deployable"], dict[str, Any]]:
    """The same from an external function, which brings its own weights."""
    from afterlens.conversion.external import load_external
    from afterlens.training.tasks import TASKS

    if checkpoint is not None:
        raise UserError(f"got checkpoint {checkpoint} for {name}, which brings its own weights; leave out -c")
    network = load_external(name)
    found = {deployable.inputs[0].shape[2:]: deployable for deployable in network.deployables}
    task = network.deployables[0].task
    if task in TASKS:
        raise UserError(f"{name}: calls its task {task!r}, which is one of ours; choose another name")
    for height, width in sizes:
        if (height, width) not in found:
            sides = ", ".join(f"{own_width}x{own_height}" for own_height, own_width in found)
            raise UserError(
                f"{name}: returns {sides}, not {width}x{height}; the function decides on the sizes"
            )
    return [found[size] for size in sizes or found], network.provenance()


def references(
    contract: "Contract", checkpoint: Path | None, reference: str | None
) -> tuple[dict[Size, "Deployable"], Path | None]:
    """What a bundle should compute, by (height, width), and the checkpoint that it was made from, if any."""
    from afterlens.conversion.external import references as of_function
    from afterlens.conversion.external import refuse_unnamed
    from afterlens.training.tasks import TASKS, find_task
    from afterlens.training.trained import load_network

    if reference is not None:
        if checkpoint is not None:
            raise UserError(f"got checkpoint {checkpoint} and reference {reference}, expected one of them")
        return of_function(contract, reference), None
    refuse_unnamed(contract, TASKS)
    task = find_task(contract.task)
    weights = checkpoint or task.pretrained
    network = load_network(task, weights)[0]
    sizes = {(artifact.height, artifact.width) for artifact in contract.artifacts}
    return {size: task.deployable(network, *size) for size in sizes}, weights
