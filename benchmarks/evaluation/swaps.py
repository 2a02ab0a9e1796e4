"""How good an identity swap is: whom it shows, what it keeps, and what it leaves alone.

    result = evaluate_swaps(task, checkpoint, Path("triplets_test"), judge=dlib_judge(Path("...dat")))

Each triplet is of people that nothing was trained on. The source is laid on the first's face by landmarks found in the
pictures, as users' photos are handled, and the result is compared with the first and with the target. Who is shown is said
by a recogniser of its own: dlib's, trained by others on real people, never used in training (`afterlens[judge]`). Without it
our own encoder says so, which training used, and which is therefore no proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from afterlens.benchmarks.evaluation.grid import Cell, write_result
from afterlens.benchmarks.evaluation.quality import sha256_of
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.training.data import as_picture
from afterlens.training.faces.align import SIDE
from afterlens.training.faces.detect import Floats, landmarks_in
from afterlens.training.faces.mark import FaceMark
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.portraits import read_labels
from afterlens.training.faces.regions import carrier
from afterlens.training.gains import masked_psnr
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.media.progress import progress_bar
from afterlens.training.swap.identity import load_encoder
from afterlens.training.swap.synthesis import index_triplets, where_changed
from afterlens.training.task import Record, Task
from afterlens.training.trained import load_network

Judge = Callable[[Floats], Floats]
"""An aligned face ``(256, 256, 3)`` RGB [0, 1] -> the vector by whose distance people are told apart."""

PSNR_CAP = 60.0
"""dB; equal pictures have no PSNR of their own."""

_CHIP = (slice(36, 224), slice(34, 222))
"""What dlib's recogniser wants to see of the aligned square, scaled to 150 pixels."""

_ROWS = 8  # of the sheet of pictures


@dataclass(frozen=True)
class Swap:
    """What was measured on one triplet.

    Attributes:
        to_source, target_to_source, first_to_source: the judge's distance of result, target and first to the source.
        nearest, target_nearest: whether of all sources that of result and of target is nearest to the right person.
        pixels: mean distance of the result's landmarks to the target's, both found by the detector, in pixels of 256.
        floor: the same of the first, which shows another person in the same pose: what detection and shape make of it.
        difference: mean absolute difference to the target where first and target differ, in levels of 255.
        laid: the same of the laid source, before the network.
        around: PSNR to the first of all else, dB.
    """

    photo: str
    to_source: float
    target_to_source: float
    first_to_source: float
    nearest: bool
    target_nearest: bool
    pixels: float
    floor: float
    difference: float
    laid: float
    around: float


def dlib_judge(weights: Path) -> Judge:
    """dlib's recogniser (a ResNet of 29 layers, CC0) from its file ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises UserError where dlib is not installed or the file is missing.
    """
    try:
        import dlib
    except ImportError as error:
        raise UserError("the judge is dlib: pip install 'afterlens[judge]'") from error
    if not weights.is_file():
        raise UserError(f"{weights}: no file, expected dlib_face_recognition_resnet_model_v1.dat")
    network = dlib.face_recognition_model_v1(str(weights))

    def judge(face: Floats) -> Floats:
        chip = cv2.resize(to_levels(face)[_CHIP], (150, 150), interpolation=cv2.INTER_AREA)
        return np.array(network.compute_face_descriptor(np.ascontiguousarray(chip)))

    return judge


def own_judge() -> Judge:
    """Our identity encoder: it took part in training, and so proves nothing to others."""
    encoder = load_encoder()

    def judge(face: Floats) -> Floats:
        with torch.no_grad():
            vector: Floats = encoder(as_picture(face)[None])[0].numpy()
        return vector

    return judge


def evaluate_swaps(
    task: Task, checkpoint: Path, data: Path, *, judge: Judge | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Measure a checkpoint on a folder of triplets.

    Args:
        task: the identity swap.
        checkpoint: safetensors file; whom it shows does not matter, each source is enrolled in its turn.
        data: triplets of people that were not trained on.
        judge: None: our own encoder.
        out: folder for `swaps.json` and `swaps.png` (source, first, source laid on it, result, target).

    Returns: JSON-able: "all" as `summary` gives it, "judge", "dlib" or "own", and "swaps".

    Raises UserError for unusable data or checkpoint.
    """
    network, _ = load_network(task, checkpoint)
    encoder, mark = load_encoder(), FaceMark()
    recognise = own_judge() if judge is None else judge
    records = index_triplets(find_photos([data]))
    portraits = {record.files["source"]: _known(record.files["source"]) for record in records}
    names = np.array([person for _, person, _ in portraits.values()])
    swaps: list[Swap] = []
    rows: list[list[Cell]] = []
    with progress_bar() as progress, torch.inference_mode():
        bar = progress.add_task(f"evaluate {task.name}", total=len(records))
        gallery = np.stack([recognise(picture) for picture, _, _ in portraits.values()])
        known = dict(zip(portraits, gallery, strict=True))
        for number, record in enumerate(records):
            source, person, landmarks = portraits[record.files["source"]]
            first, target = (read_photo(path).rgb for path in (record.photo, record.files["target"]))
            points = _landmarks(first)
            laid, _ = lay(source, landmarks, first, points)
            vector = encoder(as_picture(source)[None])
            made, mask = network(as_picture(first)[None], as_picture(laid)[None], vector)
            where = as_picture(carrier(points, SIDE)[..., None])  # outside of it the picture passes through
            result = where * mark(made, mask).clamp(0.0, 1.0) + (1.0 - where) * as_picture(first)
            right = names == person
            own = known[record.files["source"]]
            swap = _measured(record, own, first, target, laid, result, points, recognise, gallery, right)
            swaps.append(swap)
            if number % max(1, len(records) // _ROWS) == 0 and len(rows) < _ROWS:
                shown = [as_picture(picture)[None] for picture in (source, first, laid)]
                rows.append(_row(swap, [*shown, result, as_picture(target)[None]]))
            progress.advance(bar)
    result_json: dict[str, Any] = {
        "task": task.name,
        "checkpoint": {"file": checkpoint.name, "sha256": sha256_of(checkpoint)},
        "data": str(data),
        "judge": "own" if judge is None else "dlib",
        "people": len(set(names.tolist())),
        "all": summary(swaps),
        "swaps": [vars(swap) for swap in swaps],
    }
    if out is not None:
        write_result(out / "swaps.json", result_json, rows)
    return result_json


def summary(swaps: Sequence[Swap]) -> dict[str, Any]:
    """Means of what was measured; of some also the 95th percentile and the worst."""

    def spread(values: Sequence[float]) -> dict[str, float]:
        return {
            "mean": sum(values) / len(values),
            "high": float(np.percentile(values, 95)),
            "worst": max(values),
        }

    def mean(name: str) -> float:
        return float(np.mean([getattr(swap, name) for swap in swaps]))

    return {
        "count": len(swaps),
        "to_source": spread([swap.to_source for swap in swaps]),
        "pixels": spread([swap.pixels for swap in swaps]),
        "difference": spread([swap.difference for swap in swaps]),
        **{
            name: mean(name)
            for name in (
                *("target_to_source", "first_to_source", "nearest", "target_nearest"),
                *("floor", "laid", "around"),
            )
        },
        "around_worst": min(swap.around for swap in swaps),
    }


def _known(source: Path) -> tuple[Floats, int, Floats]:
    """A source's picture, whom it shows, and its landmarks as the detector finds them."""
    labels, picture = read_labels(source), read_photo(source).rgb
    if labels is None or picture.shape[:2] != (SIDE, SIDE):
        raise UserError(f"{source}: no source of a triplet; render them with `afterlens heads --triplets`")
    return picture, labels.person, _landmarks(picture)


def _landmarks(face: Floats) -> Floats:
    """Of an aligned face, ``(468, 2)``."""
    return landmarks_in(to_levels(face), (SIDE / 2, SIDE / 2), float(SIDE))[1]


def _measured(
    record: Record,
    own: Floats,
    first: Floats,
    target: Floats,
    laid: Floats,
    result: Tensor,
    points_of_first: Floats,
    judge: Judge,
    gallery: Floats,
    right: Floats,
) -> Swap:
    made = result[0].permute(1, 2, 0).numpy()
    vectors = {
        name: judge(picture) for name, picture in (("made", made), ("target", target), ("first", first))
    }
    changed = where_changed(first, target)
    area = max(float(changed.sum()) * 3.0, 1e-3)
    points = {"made": _landmarks(made), "target": _landmarks(target), "first": points_of_first}

    def away(name: str) -> float:
        return float(np.linalg.norm(points[name] - points["target"], axis=1).mean())

    def nearest(name: str) -> bool:
        return bool(right[np.linalg.norm(gallery - vectors[name], axis=1).argmin()])

    return Swap(
        photo=record.photo.name,
        to_source=float(np.linalg.norm(vectors["made"] - own)),
        target_to_source=float(np.linalg.norm(vectors["target"] - own)),
        first_to_source=float(np.linalg.norm(vectors["first"] - own)),
        nearest=nearest("made"),
        target_nearest=nearest("target"),
        pixels=away("made"),
        floor=away("first"),
        difference=255.0 * float((abs(made - target) * changed).sum()) / area,
        laid=255.0 * float((abs(laid - target) * changed).sum()) / area,
        around=float(
            masked_psnr(
                result,
                as_picture(first)[None],
                1.0 - as_picture(changed)[None],
                PSNR_CAP,
            )
        ),
    )


def _row(swap: Swap, pictures: Sequence[Tensor]) -> list[Cell]:
    captions = ("source", "first", "laid", f"result ({swap.to_source:.2f})", "target")
    return [Cell(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
