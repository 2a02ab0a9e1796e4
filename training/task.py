"""What a task gives to the training loop, the converters and the tools: one small object of plain functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import Dataset

from afterlens.training.deployable import Deployable

Sample = dict[str, Tensor]

INPUTS = ("input", "previous")
"""Of a sample, what a network takes, in order; the second only where it wants the frame before."""


@dataclass(frozen=True)
class Objective:
    """What is minimised. ``discriminator`` is None unless the recipe gives an adversarial term a weight.

    ``losses(network, batch)`` returns the result to be judged, ``(N, 3, H, W)``, and the weighted terms by name.
    ``discriminator_losses(discriminator, result, batch)`` is what the discriminator minimises; ``result`` is detached
    and the discriminator wrapped for training in several processes.
    """

    losses: Callable[[nn.Module, Sample], tuple[Tensor, dict[str, Tensor]]]
    discriminator: nn.Module | None = None
    discriminator_losses: Callable[[nn.Module, Tensor, Sample], Tensor] | None = None


@dataclass(frozen=True)
class Task:
    """One published system.

    The recipe is the task's own dataclass with ``training: TrainingRecipe`` and ``synthesis: SynthesisRecipe``. A
    sample is a dict with at least "input" and "target", ``(3, H, W)`` RGB [0, 1], and "kind", its place among
    ``synthesis.kinds``; "sharp", ``(1, H, W)``, is 1 where the input needs no restoration, if that is known. Sample
    ``index`` depends on the seed and the index alone: that is what makes a resumed run equal to an uninterrupted one.
    """

    name: str
    title: str
    recipe_type: type
    recipe_path: Path
    pretrained: Path
    default_sizes: tuple[tuple[int, int], ...]  # (height, width) of the artifacts
    build_network: Callable[[Any], nn.Module]
    training_set: Callable[[Any, Sequence[Path]], Dataset[Sample]]
    validation_set: Callable[[Any, Sequence[Path]], Dataset[Sample]]
    objective: Callable[[Any, torch.device], Objective]
    restorer: Callable[[nn.Module], nn.Module]  # (1, 3, H, W) of any size for each input -> (restored, ...)
    deployable: Callable[[nn.Module, int, int], Deployable]  # network, height, width
    kinds: tuple[str, ...]  # degradations that ``degrade`` knows
    degrade: Callable[[Tensor, Tensor, str, Generator], Sample]  # photo, other photo, kind, generator
    # Of a task for clips, whose network wants the frame before: (frame, state or None) -> (restored, state)
    stream: Callable[[nn.Module], nn.Module] | None = None
