"""The training loop of every task, on Hugging Face accelerate: one CPU process up to many nodes.

    afterlens train reflection PHOTOS... -o runs/reflection
    accelerate launch --multi_gpu --num_processes 2 -m afterlens train reflection PHOTOS... -o runs/reflection

A run folder holds ``checkpoints/`` (the whole state, the last few), ``best.safetensors`` and ``last.safetensors``
(averaged weights: those with the best validation score, and those of the last checkpoint), ``metrics.csv`` and
``tensorboard/``. A step depends on the state before it, its number and the seed, on nothing else: so a resumed run
gives the same weights, bit for bit, as one that was never stopped.
"""

from __future__ import annotations

import copy
import hashlib
import math
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from afterlens.training.checkpoint import load_checkpoint, load_weights, remove_partial_files, save_checkpoint
from afterlens.training.data import SMALLEST, find_faults, fingerprint, seeded, split_records
from afterlens.training.frames import photos_of
from afterlens.training.lock import locked
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos
from afterlens.training.recipe import TrainingRecipe, read_recipe
from afterlens.training.runlog import RunLog, tracked
from afterlens.training.state import NETWORK, TrainingState
from afterlens.training.task import Discriminator, Objective, Record, Sample, Task

Weights = Literal["best", "last"]

_NAMED = 50  # skipped files that are named one by one


class StepSampler(Sampler[list[int]]):
    """Batches of sample indices for one process: a function of the step only, so that resuming is exact.

    Each is a run of consecutive indices that starts at a multiple of the batch size (see `data.Strata`).
    """

    def __init__(self, recipe: TrainingRecipe, first_step: int, process: int, processes: int) -> None:
        self.recipe, self.first_step, self.process, self.processes = recipe, first_step, process, processes

    def __iter__(self) -> Iterator[list[int]]:
        batch = self.recipe.batch
        for micro in range(
            self.first_step * self.recipe.accumulate, self.recipe.steps * self.recipe.accumulate
        ):
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


def train(
    task: Task,
    data: Sequence[Path],
    out: Path,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    initial: Path | None = None,
    data_licence: str = "not stated",
    weights: Weights = "best",
) -> Path:
    """Trains ``task`` on the photos under ``data`` and returns the path of the trained weights.

    Args:
        data: photos, folders of them, and clips, whose frames are kept in the run folder.
        out: the run folder. But for those, nothing is written before everything has been checked.
        overrides: recipe changes, "table.key=value".
        resume: continue the run in ``out`` from its last checkpoint.
        initial: weights to start from (fine-tuning); those of a part of the network will do.
        data_licence: goes into the weights' metadata.
        weights: which to return: those with the best validation score, or the last ones. Both are written.

    Raises:
        UserError: no usable photo, unknown recipe key, a run folder in use, a checkpoint of another run, a full disk.
    """
    recipe: Any = read_recipe(task.recipe_type, task.recipe_path, overrides)
    settings: TrainingRecipe = recipe.training
    last_checkpoint = _last_checkpoint(out, resume)
    accelerator = _accelerator(settings)
    console = Console(stderr=True, quiet=not accelerator.is_main_process)
    with accelerator.main_process_first():
        data = photos_of(data, out / "frames")
    records = task.index(recipe, _photos(accelerator, console, data))
    training, held_out = split_records(records, settings.validation_photos, settings.validation_pairs)

    torch.manual_seed(_seed(settings.seed))
    network = placed(task.build_network(recipe), accelerator.device)
    if initial is not None:
        taken, all_weights = _load_initial(task, network, initial)
        if taken < all_weights:
            console.print(
                f"{initial}: has {taken} of the network's {all_weights} weights; the others start anew"
            )
    objective = task.objective(recipe, accelerator.device)
    if objective.discriminators and settings.precision == "fp16":
        raise UserError(
            "training.precision is fp16, which has one loss scale and so no discriminator; use bf16 or no"
        )
    description = {
        "task": task.name,
        "recipe": recipe.model_dump(mode="json"),
        "data": _data_description(training, held_out, data_licence),
        "helpers": {name: _digest(path) for name, path in objective.helpers.items()},
        "initial": initial.name if initial is not None else None,
        "processes": accelerator.num_processes,
    }
    state = TrainingState(accelerator, network, objective, settings)
    if last_checkpoint is not None:
        state.restore(last_checkpoint, description)
    loader = DataLoader(
        task.training_set(recipe, training),
        batch_sampler=StepSampler(settings, state.step, accelerator.process_index, accelerator.num_processes),
        num_workers=settings.workers,
        prefetch_factor=4 if settings.workers else None,
        pin_memory=accelerator.device.type == "cuda",
        worker_init_fn=_start_loader_process,
        # A plain fork copies locks that other threads (TensorFlow's, LiteRT's, OpenMP's) hold, and hangs now and then.
        multiprocessing_context="forkserver" if settings.workers else None,
    )
    validation = DataLoader(task.validation_set(recipe, held_out), batch_size=settings.batch)

    batches = iter(loader)
    log: RunLog | None = None
    with ExitStack() as held:
        if accelerator.is_main_process:
            held.enter_context(locked(out))
            if _last_checkpoint(out, resume) != last_checkpoint:
                raise UserError(f"{out}: another run has written here meanwhile; continue it with --resume")
            for folder in (out, out / "checkpoints"):
                remove_partial_files(folder)
            log = held.enter_context(RunLog(out, f"train {task.name}", settings.steps, state.step, console))
        while state.step < settings.steps:
            values = _step(accelerator, state, objective, settings, batches)
            final = state.step == settings.steps
            validation_due = final or state.step % settings.validate_every == 0
            checkpoint_due = final or state.step % settings.checkpoint_every == 0
            if log is not None:
                log.step(state.step, values)
                about: dict[str, Any] = description | {"step": state.step}
                if validation_due or checkpoint_due:
                    result = _finished(task, state.averaged_network())
                if validation_due:
                    held_out_batches = (_moved(batch, accelerator.device) for batch in validation)
                    found = task.validate(recipe, result, held_out_batches)
                    log.validation(state.step, found.metrics, values, found.pictures, found.unit)
                    known = {name: value for name, value in found.metrics.items() if value is not None}
                    about |= {"metrics": known}
                    if state.best is None or found.score >= state.best:
                        state.best = found.score
                        save_checkpoint(_weights_file(out, "best"), result.state_dict(), about)
                if checkpoint_due:
                    save_checkpoint(_weights_file(out, "last"), result.state_dict(), about)
                    state.save(out / "checkpoints" / f"step_{state.step:08d}.safetensors", description)
                    for old in _checkpoints(out)[: -settings.keep]:
                        old.unlink()
            if validation_due or checkpoint_due:
                accelerator.wait_for_everyone()
    accelerator.end_training()
    return _weights_file(out, weights)


def _finished(task: Task, averaged: nn.Module) -> nn.Module:
    """A network as it is measured and written."""
    if task.finish is None:
        return averaged
    network = copy.deepcopy(averaged)
    task.finish(network)
    return network


def _step(
    accelerator: Accelerator,
    state: TrainingState,
    objective: Objective,
    settings: TrainingRecipe,
    batches: Iterator[Sample],
) -> dict[str, float]:
    """One optimizer step over ``accumulate`` micro-batches.

    Returns this process's means of the weighted terms, of the discriminators' losses, and of what the task monitors.
    """
    # For dropout and the like; nothing in the loop draws from the global generator.
    torch.manual_seed(_seed(settings.seed, state.step, accelerator.process_index))
    state.set_learning_rate(learning_rate(settings, state.step))
    progress = state.step / settings.steps
    learning: dict[str, Discriminator] = {
        name: discriminator
        for name, discriminator in objective.discriminators.items()
        if progress >= discriminator.optimizer.start
    }
    trained = state.modules[NETWORK]
    trained.train()
    sums: dict[str, float] = {}
    for _ in range(settings.accumulate):
        batch = _moved(_next(batches), accelerator.device)
        with accelerator.accumulate(*state.modules.values()):
            outputs, terms = objective.losses(trained, batch, progress)
            total = torch.stack(list(terms.values())).sum()
            _descend(accelerator, state, NETWORK, total, settings.clip)
            outputs = {name: output.detach() for name, output in outputs.items()}
            for name, discriminator in learning.items():
                terms[name] = discriminator.loss(state.modules[name], outputs, batch)
                _descend(accelerator, state, name, terms[name], settings.clip)
        for name, value in (terms | objective.monitor(outputs, batch)).items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / settings.accumulate
    state.step += 1
    state.update_average()
    return sums


def _descend(accelerator: Accelerator, state: TrainingState, name: str, loss: Tensor, clip: float) -> None:
    """Backward; after the last micro-batch (accelerate knows which) also clipping and the optimizer's step."""
    accelerator.backward(loss)
    if accelerator.sync_gradients:
        norm = accelerator.clip_grad_norm_(state.modules[name].parameters(), clip)
        # With fp16 infinite gradients are normal: the loss scale comes down and the optimizer skips them.
        watched = loss.detach() if accelerator.scaler is not None else norm
        if not torch.isfinite(watched):
            raise UserError(
                f"training diverged (got {float(watched)}): lower training.learning_rate and resume"
            )
    state.optimizers[name].step()
    state.optimizers[name].zero_grad()


def _accelerator(settings: TrainingRecipe) -> Accelerator:
    try:
        accelerator = Accelerator(
            # Said aloud, since accelerate joins processes on the CPU only when told that it is the CPU.
            cpu=not torch.accelerator.is_available(),
            mixed_precision=settings.precision,
            gradient_accumulation_steps=settings.accumulate,
            # The others wait while the main process validates.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
        )
    except ValueError as error:
        raise UserError(f"training.precision {settings.precision!r} can't be had here: {error}") from error
    # Told that it is the CPU, accelerate would quietly train in float32.
    if settings.precision == "fp16" and accelerator.device.type == "cpu":
        raise UserError('training.precision "fp16" needs a GPU; on the CPU use "no" or "bf16"')
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise UserError(
            f"launched as {launched} processes that do not see each other; set ACCELERATE_USE_CPU=true"
        )
    return accelerator


def _photos(accelerator: Accelerator, console: Console, data: Sequence[Path]) -> list[Path]:
    """The usable photos; each process looks at a share of them."""
    paths = find_photos(data)
    with accelerator.split_between_processes(paths) as share:
        found = find_faults(share, SMALLEST)
        faults: list[str] = gather_object(list(tracked(found, len(share), "looking at the photos", console)))
    photos = [path for path, fault in zip(paths, faults, strict=True) if not fault]
    skipped = [fault for fault in faults if fault]
    for fault in skipped[:_NAMED]:
        console.print(f"skipped {fault}", highlight=False, markup=False, soft_wrap=True)
    if skipped:
        console.print(
            f"warning: skipped {len(skipped)} of {len(paths)} files", highlight=False, soft_wrap=True
        )
    if not photos:
        raise UserError(f"no usable photo among {len(paths)} files (the first: {skipped[0]})")
    return photos


def _data_description(training: Sequence[Record], held_out: Sequence[Record], licence: str) -> dict[str, Any]:
    """What a checkpoint says of the data that it was trained on."""
    sides = {"photos": training, "held_out": held_out}
    counts = {name: sum(not record.captured for record in side) for name, side in sides.items()}
    if any(record.captured for record in training):
        counts |= {
            name: sum(record.captured for record in side)
            for name, side in {"pairs": training, "held_out_pairs": held_out}.items()
        }
    return {**counts, "sha256": fingerprint([*training, *held_out]), "licence": licence}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _weights_file(out: Path, which: Weights) -> Path:
    return out / f"{which}.safetensors"


def _checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("step_*.safetensors"))


def _last_checkpoint(out: Path, resume: bool) -> Path | None:
    last = _checkpoints(out)[-1:]
    if last and not resume:
        raise UserError(
            f"{out}: holds a run already ({last[0].name}); add --resume to go on with it, or give another folder"
        )
    if resume and not last:
        raise UserError(f"{out}: nothing to resume, expected a checkpoint in {out / 'checkpoints'}")
    return last[0] if last else None


def _load_initial(task: Task, network: nn.Module, path: Path) -> tuple[int, int]:
    """Weights from a checkpoint, which may be one of a part of the network -> how many it has, and of how many.

    Of another task's checkpoint it takes the parts of the network (its encoder, its context) that have the same shape.
    """
    tensors, metadata = load_checkpoint(path)
    own = network.state_dict()
    if metadata.get("task") != task.name:
        tensors = _parts_that_fit(tensors, own)
        if not tensors:
            raise UserError(
                f"{path}: is a checkpoint of task {metadata.get('task')!r}, of which no part has the shape of one of "
                f"{task.name!r}; give a checkpoint of {task.name!r}, or fit [network] to that one"
            )
    part = set(tensors) < set(own)
    load_weights(network, {**own, **tensors} if part else tensors, path)
    return len(tensors), len(own)


def _parts_that_fit(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of those parts, the first words of the names, that are the same in both."""

    def shapes(weights: dict[str, Tensor], part: str) -> dict[str, torch.Size]:
        return {name: weight.shape for name, weight in weights.items() if name.partition(".")[0] == part}

    parts = {name.partition(".")[0] for name in tensors}
    fitting = {part for part in parts if shapes(tensors, part) == shapes(own, part)}
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] in fitting}


def _next(batches: Iterator[Sample]) -> Sample:
    try:
        return next(batches)
    except UserError as error:
        # From a loader process it comes with that process's traceback, whose last line is the message.
        raise UserError(
            str(error).strip().splitlines()[-1].removeprefix("afterlens.training.media.errors.UserError: ")
        ) from error


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on ``device``, in channels-last order (faster convolutions)."""
    moved: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _moved(batch: Sample, device: torch.device) -> Sample:
    """The batch on ``device``, pictures in channels-last order."""
    return {
        name: tensor.to(
            device, memory_format=torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        )
        for name, tensor in batch.items()
    }


def _seed(*parts: int) -> int:
    return seeded(*parts).initial_seed()


def _start_loader_process(worker: int) -> None:
    cv2.setNumThreads(1)  # PyTorch limits its own threads in loader processes, OpenCV does not know
    # A run that is killed can't stop its loaders, and PyTorch's own watch looks at the fork server, which lives as long
    # as they do.
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)
