"""The one way to the network behind a bundle, a checkpoint or an external function.

graphs, provenance = trained("reflection", checkpoint=None, sizes=[(256, 256)])
graphs, weights = references(bundle.contract, checkpoint=None, reference=None)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afterlens.conversion.bundle.contract import Contract, digest
from afterlens.conversion.external import load_external
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import TASKS, find_task
from afterlens.training.trained import load_network

Size = tuple[int, int]  # height, width


def trained(
    name: str, checkpoint: Path | None, sizes: Sequence[Size]
) -> tuple[list[Deployable], dict[str, Any]]:
    """One graph a size (default: the task's sizes) from a checkpoint, and its provenance."""
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
) -> tuple[list[Deployable], dict[str, Any]]:
    """The same from an external function, which brings its own weights."""
    if checkpoint is not None:
        raise UserError(f"got checkpoint {checkpoint} for {name}, which brings its own weights; leave out -c")
    network = load_external(name)
    found = {deployable.size: deployable for deployable in network.deployables}
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
    contract: Contract, checkpoint: Path | None, reference: str | None
) -> tuple[dict[Size, Deployable], Path | None]:
    """What a bundle should compute, by (height, width), and the checkpoint that it was made from, if any."""
    if reference is not None:
        if checkpoint is not None:
            raise UserError(f"got checkpoint {checkpoint} and reference {reference}, expected one of them")
        return external_references(contract, reference), None
    weights = weights_file(contract, checkpoint)
    task = find_task(contract.task)
    network = load_network(task, weights)[0]
    sizes = {(artifact.height, artifact.width) for artifact in contract.artifacts}
    return {size: task.deployable(network, *size) for size in sizes}, weights


def external_references(contract: Contract, name: str) -> dict[Size, Deployable]:
    """What the function `name` returns, by (height, width): the reference of a bundle that was converted from it.

    Raises UserError as `load_external` does, and where it is another network or has other weights than the bundle's.
    """
    network = load_external(name)
    own, recorded = network.weights_sha256, contract.provenance["checkpoint_sha256"]
    if own != recorded:
        raise UserError(
            f"{name}: the sha256 of its weights begins with {own[:12]}, the bundle was converted from "
            f"{recorded[:12]}...; give the network and weights that it was converted from, or convert again"
        )
    found = {d.size: d for d in network.deployables}
    for artifact in contract.artifacts:
        if (artifact.height, artifact.width) not in found:
            sizes = ", ".join(f"{width}x{height}" for height, width in found)
            raise UserError(f"{name}: returned {sizes}, the bundle has {artifact.width}x{artifact.height}")
    return found


def weights_file(contract: Contract, checkpoint: Path | None) -> Path:
    """The checkpoint of a bundle of one of our tasks; None stands for the task's bundled one.

    Raises UserError for any other bundle: the command line has to name its network.
    """
    if contract.task not in TASKS:
        raise UserError(
            f"a bundle of task {contract.task!r}, which is none of ours ({', '.join(TASKS)}): name its network with "
            "--reference package.module:function (a bundle never decides what code is run)"
        )
    return checkpoint or TASKS[contract.task].pretrained
