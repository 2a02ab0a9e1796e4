"""From a checkpoint back to the network that it holds: what every verb but `train` starts with.

network, metadata = load_network(task, Path("best.safetensors"))
restored, layer = task.restorer(network)(photo)
"""

import tomllib
from pathlib import Path
from typing import Any

from torch import nn

from afterlens.training.blocks import fold_weight_norm
from afterlens.training.checkpoint import load_checkpoint, load_weights
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import build
from afterlens.training.task import Task


def load_network(task: Task, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a checkpoint describes, in eval mode with weight normalisation folded in; and its metadata.

    Raises UserError where the file is no checkpoint, belongs to another task, or does not fit its recipe.
    """
    network, metadata = load_trainable(task, path)
    return fold_weight_norm(network).eval(), metadata


def load_trainable(task: Task, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The same network as training left it, parameter names as in the checkpoint; and the checkpoint's metadata.

    The checkpoint's own `[network]` table shapes the network. The rest of the recipe is today's: a key that a later
    version adds to the losses or the synthesis must not make older weights unreadable.

    Raises UserError where the file is no checkpoint, belongs to another task, or does not fit its recipe.
    """
    tensors, metadata = load_checkpoint(path)
    if metadata.get("task") != task.name:
        raise UserError(f"{path}: is a checkpoint of task {metadata.get('task')!r}, expected {task.name!r}")
    recipe = metadata.get("recipe")
    if not isinstance(recipe, dict) or "network" not in recipe:
        raise UserError(f"{path}: its metadata describes no network; take a checkpoint of `afterlens train`")
    today = tomllib.loads(task.recipe_path.read_text(encoding="utf-8"))
    network = task.build_network(
        build(task.recipe_type, {**today, "network": recipe["network"]}, f"{path}: recipe")
    )
    load_weights(network, tensors, path)
    return network, metadata
