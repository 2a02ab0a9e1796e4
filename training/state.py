"""What a training run is made of, as one set of tensors: saved and restored, the run goes on as if never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from afterlens.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import TrainingRecipe


class TrainingState:
    """Network, its averaged weights, discriminator, optimizers, loss scale, step and best score.

    Args:
        network, discriminator: on the accelerator's device; the latter is None where nothing is adversarial.

    Attributes:
        trained, critic: the modules to be called in training. Accelerate's wrappers around ``network`` and
            ``discriminator`` keep the gradients of all processes equal.
        average: the averaged weights, by name.
        step: optimizer steps done.
        best: the highest validation score so far (``Validation.gain`` of training/loop.py), None before the first.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        discriminator: nn.Module | None,
        recipe: TrainingRecipe,
    ) -> None:
        self.network, self.discriminator = network, discriminator
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.trained, self.optimizer = accelerator.prepare(
            network,
            torch.optim.AdamW(
                network.parameters(),
                recipe.learning_rate,
                betas=(0.9, 0.99),
                weight_decay=recipe.weight_decay,
            ),
        )
        self.critic: nn.Module | None = None
        if discriminator is not None:
            self.critic, self.critic_optimizer = accelerator.prepare(
                discriminator,
                torch.optim.AdamW(
                    discriminator.parameters(), recipe.learning_rate, betas=(0.5, 0.99), weight_decay=0.0
                ),
            )
        self.scaler = accelerator.scaler  # of fp16 gradients; None for the other precisions
        self.step = 0
        self.best: float | None = None

    def modules(self) -> list[nn.Module]:
        """What is trained: the network, and the discriminator where there is one."""
        return [self.trained] if self.critic is None else [self.trained, self.critic]

    def set_learning_rate(self, rate: float) -> None:
        """For all that is trained."""
        for optimizer in [self.optimizer] if self.critic is None else [self.optimizer, self.critic_optimizer]:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def update_average(self, decay: float) -> None:
        """Exponential moving average of the weights; short at the start so that it forgets the start weights."""
        decay = min(decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1.0 - decay)
                else:
                    self.average[name].copy_(value)  # counters

    def save(self, path: Path, description: dict[str, Any]) -> None:
        """Writes everything to ``path``, whole or not at all; ``description`` joins the metadata."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= _optimizer_tensors("optimizer", self.optimizer)
        if self.discriminator is not None:
            tensors |= {f"critic.{name}": value for name, value in self.discriminator.state_dict().items()}
            tensors |= _optimizer_tensors("critic_optimizer", self.critic_optimizer)
        scale = self.scaler.state_dict() if self.scaler is not None else None
        save_checkpoint(
            path, tensors, description | {"step": self.step, "best_gain": self.best, "loss_scale": scale}
        )

    def restore(self, path: Path, description: dict[str, Any]) -> None:
        """The inverse of ``save``.

        Raises:
            UserError: where the file is not readable, no state of a run, or of a run that ``description`` does not fit.
        """
        tensors, metadata = load_checkpoint(path)
        # Until "best_gain" there was "best", a PSNR: a run from then goes on with its best still to be found.
        if not {"best_gain", "best"} & metadata.keys():
            raise UserError(
                f"{path}: not the state of a training run, expected a file written to checkpoints/ by one"
            )
        for key, value in description.items():
            if metadata.get(key) != value:
                raise UserError(
                    f"{path}: was written by another run: {_difference(metadata.get(key), value, key)}; resume with "
                    "the same command and photos, or start a new run from the old one's best.safetensors with --from"
                )
        load_weights(self.network, _part(tensors, "network."), path)
        for name, value in _part(tensors, "average.").items():
            self.average[name].copy_(value)
        _restore_optimizer(self.optimizer, _part(tensors, "optimizer."))
        if self.discriminator is not None:
            load_weights(self.discriminator, _part(tensors, "critic."), path)
            _restore_optimizer(self.critic_optimizer, _part(tensors, "critic_optimizer."))
        if self.scaler is not None:
            self.scaler.load_state_dict(metadata["loss_scale"])
        self.step, self.best = metadata["step"], metadata.get("best_gain")


def _difference(then: Any, now: Any, where: str) -> str:
    """The first key of two nested mappings whose values differ, and both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                return _difference(then.get(key), now.get(key), f"{where}.{key}")
    return f"{where} was {then!r}, now {now!r}"


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{prefix}.{index}.{key}": value
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
