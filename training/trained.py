"""From a checkpoint back to the network that it holds: what every verb but `train` starts with.

network, metadata = load_network(task, Path("best.safetensors"))
restored, layer = task.restorer(network)(photo)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afterlens.training.blocks import fold_weight_norm
from afterlens.training.checkpoint import compare_shapes, load_checkpoint, load_weights
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import build, read_table
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
    if path == task.pretrained and not path.exists():
        raise UserError(
            f"{task.name} has no bundled weights yet: train some (afterlens train {task.name} -h) and give them with -c"
        )
    tensors, metadata = load_checkpoint(path)
    if metadata.get("task") != task.name:
        raise UserError(f"{path}: is a checkpoint of task {metadata.get('task')!r}, expected {task.name!r}")
    recipe = metadata.get("recipe")
    if not isinstance(recipe, dict) or "network" not in recipe:
        raise UserError(f"{path}: its metadata describes no network; take a checkpoint of `afterlens train`")
    _refuse_absurd(recipe["network"], tensors, path)
    table = {**read_table(task.recipe_path), "network": recipe["network"]}
    built = build(task.recipe_type, table, f"{path}: recipe")
    with torch.device("meta"):  # without memory: a file may ask for a network of any size
        compare_shapes(task.build_network(built), tensors, path)
    network = task.build_network(built)
    load_weights(network, tensors, path)
    return network, metadata


def _refuse_absurd(value: Any, tensors: Mapping[str, Tensor], path: Path) -> None:
    """UserError for a recipe of more layers or channels than the file could hold: to build it might take for ever."""
    most = max(len(tensors), *(side for tensor in tensors.values() for side in tensor.shape), 1)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_absurd(part, tensors, path)
    if isinstance(value, int) and value > most:
        raise UserError(
            f"{path}: its recipe asks for a network of {value} layers or channels, its weights are of at most {most}; "
            "take another checkpoint"
        )
