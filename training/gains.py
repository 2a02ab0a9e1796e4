"""How networks that restore pictures are validated: what they gain in PSNR, by kind of degradation.

validate = by_gain(inputs=("input",))                    # Task.validate
found = validate(recipe, network, batches)               # found.score, found.metrics, found.pictures
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from afterlens.training.metrics import psnr_each
from afterlens.training.samples import CAPTURED_KIND
from afterlens.training.task import Outputs, Sample, Validation

CLEAN_PSNR = 45.0
"""Decibels above which no error can be seen: more do not count."""

_PICTURES = 8  # rows of the validation grid


def by_gain(inputs: Sequence[str]) -> Callable[[Any, nn.Module, Iterable[Sample]], Validation]:
    """``Task.validate`` of a network whose first output is the restored picture; ``inputs`` are ``Task.inputs``."""

    def validate(recipe: Any, network: nn.Module, batches: Iterable[Sample]) -> Validation:
        return mean_gain(network, batches, inputs, list(recipe.synthesis.kinds))

    return validate


def no_measure(made: Any, batch: Sample) -> dict[str, Tensor]:
    """Nothing further."""
    return {}


def mean_gain(
    network: nn.Module,
    batches: Iterable[Sample],
    inputs: Sequence[str],
    kinds: Sequence[str],
    measure: Callable[[Any, Sample], dict[str, Tensor]] = no_measure,
) -> Validation:
    """The network on held-out samples whose "kind" is a place in ``kinds`` or ``CAPTURED_KIND``.

    ``measure`` takes what the network made of a batch, and the batch; its numbers, each the mean of a batch, become
    columns as well.

    The gain of a kind is the mean of PSNR minus the input's PSNR over its samples, each PSNR at most ``CLEAN_PSNR``. An
    untouched clean sample has 0, a damaged one less; that of any other kind rises with what was restored.

    The score is the gain on captured pairs where there are any: they are what counts in the end. Otherwise it is the
    mean over the kinds that there are samples of, and every kind counts the same, however many samples it has. A mean
    over samples would be led by the clean ones: most of what is restored costs them a little, and at 45 dB a little is
    a lot of decibels.
    """
    scores: list[Tensor] = []
    sources: list[Tensor] = []
    of_kind: list[Tensor] = []
    rows: list[Tensor] = []
    measured: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for batch in batches:
            made = network(*(batch[name] for name in inputs))
            result = (made if isinstance(made, Tensor) else made[0]).float().clamp(0.0, 1.0)
            # An untouched clean sample has no error at all: without a cap there would be no number for it.
            scores.append(psnr_each(result, batch["target"]).clamp_max(CLEAN_PSNR))
            sources.append(psnr_each(batch["input"], batch["target"]).clamp_max(CLEAN_PSNR))
            of_kind.append(batch["kind"])
            for name, value in measure(made, batch).items():
                measured.setdefault(name, []).append(
                    value.expand(len(batch["kind"]))
                )  # a mean counts by its samples
            rows.append(torch.cat([batch["input"][0], result[0], batch["target"][0]], dim=2).cpu())
    after, before, kind = torch.cat(scores), torch.cat(sources), torch.cat(of_kind)

    def gain(number: int) -> float | None:
        own = (after - before)[kind == number]
        return float(own.mean()) if len(own) else None

    gains = {f"validation_gain_{name}": gain(number) for number, name in enumerate(kinds)}
    present = [value for value in gains.values() if value is not None]
    captured = gain(CAPTURED_KIND)
    score = captured if captured is not None else sum(present) / len(present)
    own = {"validation_gain": score} | ({} if captured is None else {"validation_gain_captured": captured})
    means = {"validation_psnr": float(after.mean()), "input_psnr": float(before.mean())}
    means |= {name: float(torch.cat(values).mean()) for name, values in measured.items()}
    return Validation(
        score=score,
        metrics={**own, **gains, **means},
        pictures=torch.cat(rows[:_PICTURES], dim=1),
        unit="dB",
    )


def batch_psnr(outputs: Outputs, batch: Sample) -> dict[str, Tensor]:
    """``Objective.monitor``: the mean PSNR of "restored" in dB, at most 60."""
    error = (outputs["restored"].clamp(0.0, 1.0) - batch["target"]).square().mean(dim=(1, 2, 3))
    return {"psnr": -10.0 * error.clamp_min(1e-6).log10().mean()}


def masked_psnr(result: Tensor, target: Tensor, mask: Tensor, cap: float = CLEAN_PSNR) -> Tensor:
    """PSNR of each picture over a soft mask, ``(N,)`` in dB, at most ``cap``.

    ``(N, 3, H, W)`` twice, and the mask ``(N, 1, H, W)`` in [0, 1].
    """
    error = ((result - target).square() * mask).sum(dim=(1, 2, 3))
    area = 3.0 * mask.sum(dim=(1, 2, 3)).clamp_min(1e-3)
    return (-10.0 * torch.log10((error / area).clamp_min(1e-12))).clamp_max(cap)
