"""The network behind a bundle or a checkpoint, and what it computes in PyTorch.

graphs, provenance = trained("reflection", checkpoint=None, sizes=[(256, 256)])
graphs, weights = references(bundle.contract, checkpoint=None, reference=None)
outputs = compute(graphs[256, 256], {"image": photo})
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from afterlens.conversion.bundle.contract import Contract, digest
from afterlens.conversion.bundle.layout import Value, from_torch, to_torch
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

Size = tuple[int, int]  # height, width


def trained(
    name: str, checkpoint: Path | None, sizes: Sequence[Size]
) -> tuple[list[Deployable], dict[str, Any]]:
    """One graph a size (default: the task's sizes) from a checkpoint, and its provenance."""
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
) -> tuple[list[Deployable], dict[str, Any]]:
    """The same from an external function, which brings its own weights."""
    from afterlens.conversion.external import load_external
    from afterlens.training.tasks import TASKS

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


def compute(deployable: Deployable, inputs: Mapping[str, Value]) -> dict[str, Value]:
    """What PyTorch computes in float32: values by input name -> values by output name (see `layout`)."""
    tensors = [to_torch(port, inputs[port.name]) for port in deployable.inputs]
    with torch.inference_mode():
        results = deployable.module(*tensors)
    return {
        port.name: from_torch(port, result) for port, result in zip(deployable.outputs, results, strict=True)
    }


def with_float16_weights(deployable: Deployable) -> Deployable:
    """A copy that computes in float32 too, but with the weights rounded to float16, as a float16 file stores them."""
    module = copy.deepcopy(deployable.module)
    with torch.no_grad():
        for weight in (*module.parameters(), *module.buffers()):
            if weight.is_floating_point():
                weight.copy_(weight.half())
    return replace(deployable, module=module)
