"""The training loop of every task, on Hugging Face accelerate: one CPU process up to many nodes.

    afterlens train reflection PHOTOS... -o runs/reflection
    accelerate launch --num_processes 2 --cpu -m afterlens train reflection PHOTOS... -o runs/reflection

A run folder holds ``checkpoints/`` (full state, the last few), ``best.safetensors`` (averaged weights, best on the held-out
photos), ``metrics.csv`` and ``tensorboard/``. Samples depend on seed and index alone and nothing else is random, so a resumed
run gives the same weights, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from training.data import split_photos, usable_photos
from training.errors import UserError
from training.images import find_photos
from training.metrics import psnr
from training.recipe import TrainingRecipe, read_recipe
from training.task import Objective, Sample, Task

log = logging.getLogger(__name__)


class StepSampler(Sampler[list[int]]):
    """Batches of sample indices for one process: a function of the step only, so that resuming is exact."""

    def __init__(self, recipe: TrainingRecipe, first_step: int, process: int, processes: int) -> None:
        self.recipe, self.first_step, self.process, self.processes = recipe, first_step, process, processes

    def __iter__(self) -> Iterator[list[int]]:
        batch = self.recipe.batch
        for micro in range(self.first_step * self.recipe.accumulate, self.recipe.steps * self.recipe.accumulate):
            start = (micro * self.processes + self.process) * batch
            yield list(range(start, start + batch))

    def __len__(self) -> int:
        return (self.recipe.steps - self.first_step) * self.recipe.accumulate


def learning_rate(recipe: TrainingRecipe, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero; ``step`` counts from 0."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


class State:
    """Everything that a resumed run needs: network, averaged network, optimizers, the step and the best score."""

    def __init__(self, network: nn.Module, objective: Objective, recipe: TrainingRecipe) -> None:
        self.network = network
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
        self.critic = objective.discriminator
        self.critic_optimizer = (
            torch.optim.AdamW(self.critic.parameters(), lr=recipe.learning_rate, betas=(0.5, 0.99)) if self.critic else None
        )
        self.step, self.best = 0, -math.inf

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        out = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        out |= {f"average.{k}": v for k, v in self.average.items()}
        out |= _optimizer_tensors("optimizer", self.optimizer)
        if self.critic is not None and self.critic_optimizer is not None:
            out |= {f"critic.{k}": v for k, v in self.critic.state_dict().items()}
            out |= _optimizer_tensors("critic_optimizer", self.critic_optimizer)
        return out

    def restore(self, path: Path, tensors: dict[str, Tensor], step: int, best: float) -> None:
        """The inverse of ``tensors``."""
        load_weights(self.network, _part(tensors, "network."), path)
        average = _part(tensors, "average.")
        for name, value in self.average.items():
            value.copy_(average[name])
        _restore_optimizer(self.optimizer, _part(tensors, "optimizer."))
        if self.critic is not None and self.critic_optimizer is not None:
            load_weights(self.critic, _part(tensors, "critic."), path)
            _restore_optimizer(self.critic_optimizer, _part(tensors, "critic_optimizer."))
        self.step, self.best = step, best

    def update_average(self, decay: float) -> None:
        """Exponential moving average of the weights; short at the start so that it forgets the start weights."""
        decay = min(decay, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value.to(self.average[name].device), 1.0 - decay)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{prefix}.{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def train(
    task: Task,
    data: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    initial: Path | None = None,
    data_licence: str = "not stated",
) -> Path:
    """Trains ``task`` on the photos under ``data`` and returns the path of the best weights.

    Args:
        overrides: recipe changes, "table.key=value".
        resume: continue the run in ``out`` from its last checkpoint.
        initial: weights to start from (fine-tuning).
        data_licence: goes into the weights' metadata.

    Raises:
        UserError: no usable photo, unknown recipe key, a run folder in use, a checkpoint of another recipe, a full disk.
    """
    recipe = read_recipe(task.recipe_type, task.recipe_path, overrides)
    settings: TrainingRecipe = recipe.training
    torch.manual_seed(settings.seed)
    accelerator = Accelerator(mixed_precision=settings.precision, gradient_accumulation_steps=settings.accumulate)
    console = Console(stderr=True, quiet=not accelerator.is_main_process)

    checkpoints = out / "checkpoints"
    last = _last_checkpoint(checkpoints)
    if last is not None and not resume:
        raise UserError(f"{out}: holds a run already ({last.name}); add --resume to go on with it, or give another folder")
    if resume and last is None:
        raise UserError(f"{out}: --resume was given but there is no checkpoint in {checkpoints}")

    photos, skipped = usable_photos(find_photos(data), min(settings.crop, 64))
    for line in skipped:
        console.print(f"[yellow]skipped[/] {line}", highlight=False)
    if skipped:
        console.print(f"[yellow]skipped {len(skipped)} of {len(photos) + len(skipped)} files[/]")
    training_photos, validation_photos = split_photos(photos, settings.validation_photos)

    network = task.build_network(recipe).to(accelerator.device, memory_format=torch.channels_last)
    if initial is not None:
        load_weights(network, load_checkpoint(initial)[0], initial)
    objective = task.objective(recipe, accelerator.device)
    state = State(network, objective, settings)
    description = {
        "task": task.name,
        "recipe": dataclasses.asdict(recipe),
        "data": {"photos": len(training_photos), "held_out": len(validation_photos), "licence": data_licence},
    }
    if last is not None:
        tensors, metadata = load_checkpoint(last)
        if metadata.get("recipe") != json.loads(json.dumps(description["recipe"])):
            raise UserError(f"{last}: was written with another recipe; resume with the same recipe and overrides")
        state.restore(last, tensors, metadata["step"], metadata["best"])
    wrapped, optimizer = accelerator.prepare(network, state.optimizer)
    state.optimizer = optimizer
    loader = DataLoader(
        task.training_set(recipe, training_photos),
        batch_sampler=StepSampler(settings, state.step, accelerator.process_index, accelerator.num_processes),
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=4 if settings.workers else None,
    )
    validation = DataLoader(task.validation_set(recipe, validation_photos), batch_size=settings.batch)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=state.step) if accelerator.is_main_process else None

    batches = iter(loader)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"train {task.name}", total=settings.steps, completed=state.step, note="")
        while state.step < settings.steps:
            values = _step(accelerator, wrapped, state, objective, settings, batches)
            state.step += 1
            progress.update(bar, advance=1, note=" ".join(f"{k} {v:.4f}" for k, v in values.items()))
            if writer is not None and state.step % 50 == 0:
                for name, value in values.items():
                    writer.add_scalar(f"loss/{name}", value, state.step)
            final = state.step == settings.steps
            if accelerator.is_main_process and (final or state.step % settings.validate_every == 0):
                score, source, pictures = validate(task, recipe, state.average, objective, validation, accelerator.device)
                console.print(f"step {state.step}: held-out PSNR {score:.2f} dB (input {source:.2f} dB)", highlight=False)
                _log_validation(out, writer, state.step, score, source, values, pictures)
                if score > state.best:
                    state.best = score
                    metrics = {"validation_psnr": score, "validation_input_psnr": source}
                    save_checkpoint(out / "best.safetensors", state.average, description | {"step": state.step, "metrics": metrics})
            if accelerator.is_main_process and (final or state.step % settings.checkpoint_every == 0):
                metadata = description | {"step": state.step, "best": state.best}
                save_checkpoint(checkpoints / f"step_{state.step:08d}.safetensors", state.tensors(), metadata)
                for old in sorted(checkpoints.glob("step_*.safetensors"))[: -settings.keep]:
                    old.unlink()
    if writer is not None:
        writer.close()
    accelerator.wait_for_everyone()
    return out / "best.safetensors"


def _last_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob("step_*.safetensors"), default=None)


def _step(
    accelerator: Accelerator,
    network: nn.Module,
    state: State,
    objective: Objective,
    settings: TrainingRecipe,
    batches: Iterator[Sample],
) -> dict[str, float]:
    """One optimizer step over ``accumulate`` micro-batches; returns the mean of each weighted term."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(settings, state.step)
    network.train()
    values: dict[str, float] = {}
    for _ in range(settings.accumulate):
        batch = {
            name: tensor.to(accelerator.device, memory_format=torch.channels_last) for name, tensor in next(batches).items()
        }
        with accelerator.accumulate(network):
            result, terms = objective.losses(network, batch)
            total = torch.stack(list(terms.values())).sum()
            if not torch.isfinite(total):
                raise UserError(f"the loss is {float(total)} at step {state.step}; lower training.learning_rate")
            accelerator.backward(total)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), settings.clip)
            state.optimizer.step()
            state.optimizer.zero_grad()
        if state.critic_optimizer is not None and objective.discriminator_losses is not None:
            state.critic_optimizer.zero_grad()
            critic_total = objective.discriminator_losses(result.detach(), batch)
            critic_total.backward()
            state.critic_optimizer.step()
            terms["critic"] = critic_total
        for name, term in terms.items():
            values[name] = values.get(name, 0.0) + float(term) / settings.accumulate
    state.update_average(settings.ema)
    return values


def validate(
    task: Task,
    recipe: Any,
    weights: dict[str, Tensor],
    objective: Objective,
    loader: DataLoader[Sample],
    device: torch.device,
) -> tuple[float, float, Tensor]:
    """Mean PSNR of the averaged weights and of the input over the held-out samples, and a picture grid."""
    network = task.build_network(recipe).to(device, memory_format=torch.channels_last)
    network.load_state_dict(weights)
    network.eval()
    scores: list[float] = []
    sources: list[float] = []
    rows: list[Tensor] = []
    with torch.no_grad():
        for batch in loader:
            moved = {name: tensor.to(device, memory_format=torch.channels_last) for name, tensor in batch.items()}
            result = objective.losses(network, moved)[0].clamp(0.0, 1.0)
            for i, picture in enumerate(result):
                # Capped at 60 dB: an untouched clean photo would otherwise outweigh all others.
                scores.append(min(60.0, psnr(picture[None], moved["target"][i : i + 1])))
                sources.append(min(60.0, psnr(moved["input"][i : i + 1], moved["target"][i : i + 1])))
            if len(rows) < 8:
                rows.append(torch.cat([moved["input"][0], result[0], moved["target"][0]], dim=2).cpu())
    return sum(scores) / len(scores), sum(sources) / len(sources), torch.cat(rows, dim=1)


def _log_validation(
    out: Path, writer: SummaryWriter | None, step: int, score: float, source: float, values: dict[str, float], pictures: Tensor
) -> None:
    if writer is not None:
        writer.add_scalar("validation/psnr", score, step)
        writer.add_image("validation/input_result_target", pictures, step)
        writer.flush()
    path = out / "metrics.csv"
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        if fresh:
            rows.writerow(["step", "validation_psnr", "input_psnr", *values])
        rows.writerow([step, f"{score:.4f}", f"{source:.4f}", *(f"{v:.6f}" for v in values.values())])
