"""How good a beard network is: what removing gains, what it leaves alone, and whether the wanted class is reached.

    result = evaluate_beards(task, checkpoint, Path("faces_test"), out=Path("build/beards"))

Each portrait is a bare face (`afterlens heads`, or a photo of a bare face), of a person that the network was not trained
on. A beard of each class in turn is drawn on it and removed, the bare face is left bare, and a beard of each class in turn
is put on. So what is right is known to the pixel when removing. A judge of its own (beard_judge.py) says which class a face
seems to wear. What the mark adds counts against the network, as users see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from afterlens.benchmarks.evaluation.beard_judge import load_judge, seen
from afterlens.benchmarks.evaluation.grid import Cell, write_result
from afterlens.benchmarks.evaluation.quality import sha256_of
from afterlens.training.beard.synthesis import beard_sample
from afterlens.training.data import as_picture, seeded
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.beards import AMOUNTS, CLASSES
from afterlens.training.faces.laid_beards import lay_beard
from afterlens.training.faces.portraits import aligned_square, hair_of, index_portraits, read_labels
from afterlens.training.gains import masked_psnr
from afterlens.training.media.images import find_photos
from afterlens.training.media.progress import progress_bar
from afterlens.training.task import Record, Task
from afterlens.training.trained import load_network

PSNR_CAP = 60.0
"""dB; equal pictures have no PSNR of their own."""

TONES = {"light": (1.0, 4.0), "medium": (4.0, 7.0), "dark": (7.0, 10.01)}
"""Skin tones on the Monk scale, from and below."""

_ROWS = 8  # of the sheet of pictures


@dataclass(frozen=True)
class Face:
    """What was measured on one face. PSNRs in dB; classes are names of `CLASSES`.

    Attributes:
        worn, gain: the beard that was drawn and removed, and what removing gained inside of it.
        inside: PSNR there after removing. A dark beard on dark skin starts nearer to it, so less can be gained.
        around: PSNR of what is not beard after removing.
        bare: PSNR of the bare face that was to stay bare, to itself.
        removed, grown: whether the judge sees none after removing, and the wanted class after adding.
        wanted: the class that was put on.
        sex, tone: of the rendered person; None for a photo.
    """

    photo: str
    worn: str
    gain: float
    inside: float
    around: float
    bare: float
    removed: bool
    wanted: str
    grown: bool
    sex: str | None
    tone: str | None


def evaluate_beards(task: Task, checkpoint: Path, data: Path, *, out: Path | None = None) -> dict[str, Any]:
    """Measure a checkpoint on a folder of bare faces.

    Args:
        task: the beard task.
        checkpoint: safetensors file of `afterlens train beard`.
        data: portraits of people that were not trained on.
        out: folder for `beards.json` and `beards.png` (bearded, removed, the face below, with a beard put on).

    Returns: JSON-able: "all", and each group of "by_class", "by_tone" and "by_sex", as `summary` gives them, and "faces".

    Raises UserError for unusable data or checkpoint.
    """
    network, _ = load_network(task, checkpoint)
    restorer, judge = task.restorer(network).eval(), load_judge()
    records = index_portraits(find_photos([data]))
    faces: list[Face] = []
    rows: list[list[Cell]] = []
    with progress_bar() as progress, torch.inference_mode():
        bar = progress.add_task(f"evaluate {task.name}", total=len(records))
        for number, record in enumerate(records):
            face, pictures = _measured(restorer, judge, record, number)
            faces.append(face)
            if number % max(1, len(records) // _ROWS) == 0 and len(rows) < _ROWS:
                rows.append(_row(face, pictures))
            progress.advance(bar)
    result: dict[str, Any] = {
        "task": task.name,
        "checkpoint": {
            "file": checkpoint.name,
            "sha256": sha256_of(checkpoint),
        },
        "data": str(data),
        "psnr_cap": PSNR_CAP,
        "all": summary(faces),
        "by_class": _grouped(faces, lambda face: face.worn, CLASSES[1:]),
        "by_tone": _grouped(faces, lambda face: face.tone, TONES),
        "by_sex": _grouped(faces, lambda face: face.sex, ("female", "male")),
        "faces": [vars(face) for face in faces],
    }
    if out is not None:
        write_result(out / "beards.json", result, rows)
    return result


def summary(faces: Sequence[Face]) -> dict[str, Any]:
    """Means, the 5th percentile and the worst of what was measured on some faces; shares of the classes reached."""

    def spread(values: Sequence[float]) -> dict[str, float]:
        low, worst = float(np.percentile(values, 5)), min(values)
        return {"mean": sum(values) / len(values), "low": low, "worst": worst}

    return {
        "count": len(faces),
        "gain": spread([face.gain for face in faces]),
        "inside": spread([face.inside for face in faces]),
        "around": spread([face.around for face in faces]),
        "bare": spread([face.bare for face in faces]),
        "removed": sum(face.removed for face in faces) / len(faces),
        "grown": sum(face.grown for face in faces) / len(faces),
    }


def _grouped(
    faces: Sequence[Face], key: Callable[[Face], str | None], names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    groups = {name: [face for face in faces if key(face) == name] for name in names}
    return {name: summary(members) for name, members in groups.items() if members}


def _measured(
    restorer: nn.Module, judge: nn.Module, record: Record, number: int
) -> tuple[Face, tuple[Tensor, ...]]:
    """One face, and its pictures: bearded, removed, bare, with a beard put on. Classes take turns by ``number``."""
    label = 1 + number % (len(CLASSES) - 1)
    wanted = 1 + (number // (len(CLASSES) - 1)) % (len(CLASSES) - 1)
    drawn = beard_sample(
        replace(record, label=label),
        "remove",
        SIDE,
        seeded(-2, number),
        hair_of(record.photo),
    )
    worn, bare, beard = drawn["image"][None], drawn["target"][None], drawn["beard"][None]
    kept = drawn["face"][None]

    def psnr(result: Tensor, target: Tensor, mask: Tensor) -> float:
        return float(masked_psnr(result, target, mask, PSNR_CAP))

    square, landmarks = aligned_square(record, SIDE)

    def made(picture: Tensor, kind: str) -> Tensor:
        laid = picture if kind == "none" else as_picture(lay_beard(square, landmarks, AMOUNTS[kind]))[None]
        result = restorer(picture, torch.tensor([AMOUNTS[kind]]), laid)[0]
        return picture + kept * (result - picture)  # outside of the face the picture passes through

    removed, left, grown = made(worn, "none"), made(bare, "none"), made(bare, CLASSES[wanted])
    inside = psnr(removed, bare, beard)
    verdicts = judge(seen(torch.cat([removed, grown]))).argmax(1).tolist()
    labels = read_labels(record.photo)
    face = Face(
        photo=record.photo.name,
        worn=CLASSES[label],
        gain=inside - psnr(worn, bare, beard),
        inside=inside,
        around=psnr(removed, bare, 1.0 - beard),
        bare=psnr(left, bare, torch.ones_like(beard)),
        removed=verdicts[0] == 0,
        wanted=CLASSES[wanted],
        grown=verdicts[1] == wanted,
        sex=None if labels is None else labels.sex,
        tone=None if labels is None or labels.tone is None else _tone(labels.tone),
    )
    return face, (worn, removed, bare, grown)


def _tone(monk: float) -> str:
    return next(name for name, (low, high) in TONES.items() if low <= monk < high)


def _row(face: Face, pictures: tuple[Tensor, ...]) -> list[Cell]:
    captions = (face.worn, f"removed ({face.gain:+.1f} dB)", "the face below", f"{face.wanted} put on")
    return [Cell(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
