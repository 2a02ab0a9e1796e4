"""The state of a training run as one set of tensors: restored, the run goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from afterlens.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import TrainingRecipe
from afterlens.training.task import Objective, OptimizerSettings

NETWORK = "network"
"""The name of the task's own network; the others are the objective's discriminators."""


class TrainingState:
    """Every network with its optimizer, the averaged weights, the loss scale, the step and the best score.

    Args:
        network, objective: whose modules are on the accelerator's device.

    Attributes:
        modules: what to call in training, by name. Accelerate's wrappers keep the gradients of all processes equal.
        optimizers: by the same names.
        step: optimizer steps done.
        best: the highest validation score so far, None before the first.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        objective: Objective,
        recipe: TrainingRecipe,
    ) -> None:
        discriminators = objective.discriminators
        self.plain = {NETWORK: network} | {name: found.module for name, found in discriminators.items()}
        self.settings = {NETWORK: objective.optimizer}
        self.settings |= {name: found.optimizer for name, found in discriminators.items()}
        self._average = _averaged(network, recipe.ema)
        self.modules: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, module in self.plain.items():
            made = _optimizer(module, self.settings[name], recipe)
            self.modules[name], self.optimizers[name] = accelerator.prepare(module, made)
        self.scaler = accelerator.scaler  # of fp16 gradients; None for the other precisions
        self.step = 0
        self.best: float | None = None

    def set_learning_rate(self, rate: float) -> None:
        """``rate`` is the recipe's at this step; each network has its own multiple of it."""
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * self.settings[name].rate

    def update_average(self) -> None:
        """Takes the weights of the step just done into the average."""
        self._average.update_parameters(self.plain[NETWORK])

    def averaged_network(self) -> nn.Module:
        """The network with the averaged weights, in eval mode."""
        return self._average.module.eval()

    def averaged_weights(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        weights: dict[str, Tensor] = self._average.module.state_dict()
        return weights

    def save(self, path: Path, description: dict[str, Any]) -> None:
        """Writes everything to ``path``, whole or not at all; ``description`` joins the metadata."""
        tensors = {f"average.{name}": value for name, value in self.averaged_weights().items()}
        for network, module in self.plain.items():
            tensors |= {f"{network}.{name}": value for name, value in module.state_dict().items()}
            tensors |= _optimizer_tensors(network, self.optimizers[network])
        scale = self.scaler.state_dict() if self.scaler is not None else None
        save_checkpoint(
            path, tensors, description | {"step": self.step, "best_score": self.best, "loss_scale": scale}
        )

    def restore(self, path: Path, description: dict[str, Any]) -> None:
        """The inverse of ``save``.

        Raises:
            UserError: where the file is not readable, no state of a run, or of a run that ``description`` does not fit.
        """
        tensors, metadata = load_checkpoint(path)
        if "best_score" not in metadata:
            raise UserError(
                f"{path}: not the state of a training run, expected a file written to checkpoints/ by one"
            )
        for key, value in description.items():
            if metadata.get(key) != value:
                raise UserError(
                    f"{path}: was written by another run: {_difference(metadata.get(key), value, key)}; resume with "
                    "the same command and photos, or start a new run from the old one's best.safetensors with --from"
                )
        for network, module in self.plain.items():
            load_weights(module, _part(tensors, f"{network}."), path)
            _restore_optimizer(self.optimizers[network], _part(tensors, f"optimizer.{network}."))
        load_weights(self._average.module, _part(tensors, "average."), path)
        if self.scaler is not None:
            self.scaler.load_state_dict(metadata["loss_scale"])
        self.step, self.best = metadata["step"], metadata["best_score"]
        self._average.n_averaged.fill_(self.step + 1)


def _averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of the weights; short at the start so that it forgets the start weights."""

    @torch.no_grad()
    def average(own: Any, current: Any, count: Tensor | int) -> None:
        # The start weights count as the first of the averaged: after the first step, ``count`` is 1.
        short = min(decay, (1.0 + int(count)) / (10.0 + int(count)))
        for mean, value in zip(own, current, strict=True):
            if value.is_floating_point():
                mean.lerp_(value, 1.0 - short)
            else:
                mean.copy_(value)  # counters

    averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
    averaged.n_averaged.fill_(1)
    return averaged.requires_grad_(False)


def _optimizer(
    module: nn.Module, settings: OptimizerSettings, recipe: TrainingRecipe
) -> torch.optim.Optimizer:
    decay = recipe.weight_decay if settings.weight_decay is None else settings.weight_decay
    return torch.optim.AdamW(
        module.parameters(), recipe.learning_rate * settings.rate, betas=settings.betas, weight_decay=decay
    )


def _difference(then: Any, now: Any, where: str) -> str:
    """The first key of two nested mappings whose values differ, and both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                return _difference(then.get(key), now.get(key), f"{where}.{key}")
    return f"{where} was {then!r}, now {now!r}"


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer_tensors(network: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer.{network}.{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        # In the parameter's own memory layout (channels last), as in a run that was never stopped.
        own = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()
        state.setdefault(int(index), {})[key] = own
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
