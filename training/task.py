"""What a task gives to the training loop, the converters and the tools: one small object of plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import Dataset

from afterlens.training.deployable import Deployable

Sample = dict[str, Tensor]
"""One training example by name, or a batch of them."""

Outputs = dict[str, Tensor]
"""All that a network makes of a batch, by name."""


@dataclass(frozen=True)
class Record:
    """One unit of training data, as `Task.index` found it.

    Attributes:
        photo: the picture itself; of a captured pair, the degraded one.
        group: what training and validation must not share, such as a person or a scene.
        files: further pictures that belong to it, by sample key: the "target" of a captured pair, the "source" of a
            face to be swapped in.
        captured: whether it is a captured pair, of which so many of its own are held out.
        label: class, counted from 0; None where there are none.
        landmarks: (x, y) in pixels of ``photo``.
    """

    photo: Path
    group: str
    files: Mapping[str, Path] = field(default_factory=dict)
    captured: bool = False
    label: int | None = None
    landmarks: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW for one network, and its schedule.

    Attributes:
        rate: multiplies the learning rate of the recipe, warm-up and cosine included.
        betas: decay of the running means of gradient and squared gradient.
        weight_decay: None takes the recipe's.
        start: share of the run that is over when this network starts to learn.
    """

    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float | None = None
    start: float = 0.0


@dataclass(frozen=True)
class Discriminator:
    """A network that learns beside the trained one, from what that makes.

    ``loss(module, outputs, batch)`` is what it minimises. ``outputs`` are all that the trained network made, detached,
    and ``module`` is wrapped for training in several processes: call it once.
    """

    module: nn.Module
    loss: Callable[[nn.Module, Outputs, Sample], Tensor]
    optimizer: OptimizerSettings = OptimizerSettings(betas=(0.5, 0.99), weight_decay=0.0)


def no_monitor(outputs: Outputs, batch: Sample) -> dict[str, Tensor]:
    """Measures nothing."""
    return {}


@dataclass(frozen=True)
class Objective:
    """What is minimised, and by which networks.

    Attributes:
        losses: ``(network, batch, progress)`` -> all outputs by name, and the weighted terms by name. ``progress``
            runs from 0 to 1 with the steps.
        optimizer: of the trained network itself.
        discriminators: further networks, by name; empty where the recipe gives no adversarial term a weight.
        helpers: files of the frozen networks that the losses use, by name. A resumed run needs the same ones.
        monitor: ``(outputs, batch)`` -> what to show beside the losses after each step, such as the batch's PSNR.
    """

    losses: Callable[[nn.Module, Sample, float], tuple[Outputs, dict[str, Tensor]]]
    optimizer: OptimizerSettings = OptimizerSettings()
    discriminators: Mapping[str, Discriminator] = field(default_factory=dict)
    helpers: Mapping[str, Path] = field(default_factory=dict)
    monitor: Callable[[Outputs, Sample], dict[str, Tensor]] = no_monitor


@dataclass(frozen=True)
class Validation:
    """How an averaged network does on the held-out samples.

    Attributes:
        score: the best weights are those with the highest.
        metrics: numbers by column of metrics.csv, the score first; None where there was nothing to measure.
        pictures: a grid to look at, ``(3, H, W)`` RGB [0, 1].
        unit: of the metrics, for people; "" where they have none, or several.
    """

    score: float
    metrics: dict[str, float | None]
    pictures: Tensor
    unit: str = ""


@dataclass(frozen=True)
class Task:
    """One published system.

    The recipe is the task's own model with a table ``training: TrainingRecipe`` at least. Samples are dicts of tensors
    of the task's own choice. Sample ``index`` depends on the seed and the index alone: that is what makes a resumed run
    equal to an uninterrupted one. Batches are consecutive indices, so that a task with classes can fix their ratios in
    every batch (`afterlens.training.data.Strata`).
    """

    name: str
    title: str
    recipe_type: type[Any]
    recipe_path: Path
    pretrained: Path
    default_sizes: tuple[tuple[int, int], ...]  # (height, width) of the artifacts
    inputs: tuple[str, ...]  # sample keys passed to the network, in order
    ports: tuple[str, ...]  # names of the same inputs in the deployable graph
    build_network: Callable[[Any], nn.Module]
    index: Callable[[Any, Sequence[Path]], list[Record]]  # recipe, usable photos
    training_set: Callable[[Any, Sequence[Record]], Dataset[Sample]]  # as long as any run could be
    validation_set: Callable[[Any, Sequence[Record]], Dataset[Sample]]  # the same samples whatever the seed
    objective: Callable[[Any, torch.device], Objective]
    validate: Callable[
        [Any, nn.Module, Iterable[Sample]], Validation
    ]  # recipe, network in eval mode, batches
    restorer: Callable[[nn.Module], nn.Module]  # (1, 3, H, W) of any size for each input -> (restored, ...)
    deployable: Callable[[nn.Module, int, int], Deployable]  # network, height, width
    # Samples of the size (height, width) to calibrate and evaluate converted files with, each with a name; "target"
    # where the ground truth is known: recipe, photos, height, width, count, seed
    examples: Callable[[Any, Sequence[Path], int, int, int, int], Iterator[tuple[str, Sample]]]
    # Of a task that learns from clean photos: the kinds of degradation, and (photo, other photo, kind, generator) ->
    # sample with "input" and "target"; "sharp", (1, H, W), is 1 where the input needs no restoration, if known
    kinds: tuple[str, ...] = ()
    degrade: Callable[[Tensor, Tensor, str, Generator], Sample] | None = None
    # Where the recipe changes the degradation (a panel of its own): recipe -> `degrade` as it trains; None: as it is
    degrade_by: Callable[[Any], Callable[[Tensor, Tensor, str, Generator], Sample]] | None = None
    faces: Literal["beard", "identity"] | None = None  # what a task changes on the faces of its photos
    # Of a task whose networks can be more or less careful: (network, strength in [0, 1]); at 0 nothing changes
    set_strength: Callable[[nn.Module, float], None] | None = None
    # What is done to trained weights before they are measured and written, in place; not to those that training goes on with
    finish: Callable[[nn.Module], None] | None = None
    # Of a task for clips, whose network also takes the previous frame: (frame, state or None) -> (restored, state)
    stream: Callable[[nn.Module], nn.Module] | None = None
