"""Checkpoints: safetensors files whose metadata is one JSON document under the key ``afterlens``.

Nothing is ever unpickled. Files are written under a temporary name and renamed, so that a crash leaves the old one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path

M = TypeVar("M", bound=nn.Module)

METADATA_KEY = "afterlens"


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes ``tensors`` and ``metadata`` (JSON-able) to ``path``, whole or not at all.

    Raises:
        UserError: if the disk is full or the folder can't be written.
    """
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # In memory and through Python's own writing, because save_file gives files that only their owner may read.
    data = save(owned, metadata={METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises UserError if it is absent, truncated or of another format."""
    return _read(path)[0]


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that ``save_checkpoint`` wrote.

    Raises:
        UserError: if the file is absent, damaged, or not one of ours.
    """
    tensors, text = _read(path)
    if text is None:
        raise UserError(
            f"{path}: got a safetensors file without afterlens metadata, expected a checkpoint of `afterlens train`"
        )
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata is not JSON ({error}); take another checkpoint") from error
    if not isinstance(metadata, dict):
        raise UserError(f"{path}: its metadata is not a JSON object; take another checkpoint")
    return tensors, metadata


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    if not path.is_file():
        raise UserError(f"{path}: no such file, expected a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, text  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); expected a checkpoint of `afterlens train`"
        ) from error


def load_frozen(module: M, path: Path) -> M:
    """``module`` with the weights of a safetensors file, in eval mode, never trained: a helper of the losses.

    Raises:
        UserError: if the file is absent, damaged, or does not fit.
    """
    load_weights(module, load_tensors(path), path)
    return module.requires_grad_(False).eval()


def remove_partial_files(folder: Path) -> None:
    """Removes what a killed process was writing when it died: the temporary files of ``atomic_path``."""
    for stale in folder.glob(".*.partial*"):
        stale.unlink(missing_ok=True)


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copies ``tensors`` into ``network``; UserError (naming ``path``) unless names and shapes all agree."""
    if any(name.startswith("network.") for name in tensors):
        raise UserError(
            f"{path}: the whole state of a training run, expected weights such as its best.safetensors"
        )
    compare_shapes(network, tensors, path)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"{path}: weight {name} holds NaN or infinity: the training diverged; take an earlier checkpoint"
            )
    network.load_state_dict(dict(tensors))


def compare_shapes(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """UserError (naming ``path``) unless names and shapes all agree; the network may be on the meta device."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in [*wanted, *got]:
        if wanted.get(name) != got.get(name):
            raise UserError(
                f"{path}: weight {name} is {got.get(name, 'absent')}, this network expects {wanted.get(name, 'none')}; "
                "the checkpoint belongs to another task or recipe"
            )
