"""How a beard network does on held-out faces: what removing gains on the beard, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from afterlens.training.faces.beards import AMOUNTS, CLASSES
from afterlens.training.gains import CLEAN_PSNR, masked_psnr
from afterlens.training.task import Sample, Validation

_PICTURES = 8  # rows of the validation grid


def validate(recipe: Any, network: nn.Module, batches: Iterable[Sample]) -> Validation:
    """Removes what the held-out faces wear.

    The score is the mean over the classes of beard of what removing gains inside of the beard, in dB; if there are bare
    faces, what they lose below 45 dB is subtracted. So nobody wins by changing everyone.

    Metrics: the score; "gain_CLASS"; "bare_psnr" of bare faces, and "around_psnr", of what is not beard, each at most 45 dB;
    "mask_overlap", the mask's intersection over union with the beard.

    Pictures, a row each: with beard, result, the face below, and the same face with a full beard put on.
    """
    gains: dict[int, list[float]] = {}
    bare: list[float] = []
    around_beard: list[float] = []
    overlaps: list[float] = []
    rows: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            image, target, beard = batch["image"], batch["target"], batch["beard"]
            made, mask = network(image, batch["wanted"], batch["laid"])
            made = made.float().clamp(0.0, 1.0)
            after, before = masked_psnr(made, target, beard), masked_psnr(image, target, beard)
            around, whole = (
                masked_psnr(made, image, 1.0 - beard),
                masked_psnr(made, image, torch.ones_like(beard)),
            )
            found, there = mask.float() > 0.5, beard > 0.5
            shared, either = ((found & there).sum((1, 2, 3)), (found | there).sum((1, 2, 3)))
            for number, label in enumerate(batch["label"].tolist()):
                if float(beard[number].sum()) < 1.0:
                    bare.append(float(whole[number]))
                    continue
                gains.setdefault(label, []).append(float(after[number] - before[number]))
                around_beard.append(float(around[number]))
                overlaps.append(float(shared[number] / either[number].clamp_min(1)))
            full = torch.tensor([AMOUNTS["full"]], device=image.device)
            grown = network(target[:1], full, batch["full"][:1])[0].float().clamp(0.0, 1.0)
            rows.append(torch.cat([image[0], made[0], target[0], grown[0]], dim=2).cpu())
    by_class = {label: _mean(values) for label, values in sorted(gains.items())}
    score = _mean(list(by_class.values()))
    if bare:
        score -= CLEAN_PSNR - _mean(bare)
    metrics: dict[str, float | None] = {"validation_score": score}
    metrics |= {f"gain_{name}": by_class.get(label) for label, name in enumerate(CLASSES) if label > 0}
    for name, values in (("bare_psnr", bare), ("around_psnr", around_beard), ("mask_overlap", overlaps)):
        metrics[name] = _mean(values) if values else None
    return Validation(score, metrics, torch.cat(rows[:_PICTURES], dim=1), unit="")


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)
