"""From a checkpoint back to the network that it holds: what every verb but `train` starts with.

network, metadata = load_network(task, Path("best.safetensors"))
restored, artefact = task.restorer(network)(photo)
"""

from pathlib import Path
from typing import Any

from torch import nn

from training.checkpoint import load_checkpoint, load_weights
from training.errors import UserError
from training.recipe import build
from training.task import Task


def load_network(task: Task, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that the checkpoint's own recipe describes, with its weights, in eval mode; and the metadata.

    The recipe comes from the checkpoint and not from the task's file, which may have moved on since.

    Raises UserError where the file is no checkpoint, belongs to another task, or does not fit its recipe.
    """
    tensors, metadata = load_checkpoint(path)
    if metadata.get("task") != task.name:
        raise UserError(f"{path}: is a checkpoint of task {metadata.get('task')!r}, expected {task.name!r}")
    recipe = metadata.get("recipe")
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: its metadata names no recipe; take a checkpoint of `afterlens train`")
    network = task.build_network(build(task.recipe_type, recipe, f"{path}: recipe"))
    load_weights(network, tensors, path)
    return network.eval(), metadata
