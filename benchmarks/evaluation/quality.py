"""How good are the pictures: PSNR and SSIM against ground truth, beside those of the untouched input.

    result = evaluate(task, checkpoint, Path("test_reflection/synthetic_ceilnet50"))
    result = evaluate(task, checkpoint, Path("kodak24"), synthesize="shadow", out=Path("build/shadow"))
    require(result, fail_under_gain=3.0)

Photos are judged at their own size, whole, by the path that `restore` takes. Means are over images.
"""

import hashlib
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import TextColumn
from torch import Tensor, nn

from afterlens.benchmarks.evaluation.grid import Cell, write_result
from afterlens.training.data import seeded
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.media.progress import progress_bar
from afterlens.training.metrics import PSNR_CAP, SSIM_WINDOW, psnr, ssim
from afterlens.training.pairs import find_pairs
from afterlens.training.task import Task
from afterlens.training.trained import load_network

REACH = 8  # pixels


@dataclass(frozen=True)
class Sample:
    """One degraded photo, with what else the network takes, and its ground truth: each `(1, 3, H, W)`, RGB, [0, 1].

    `sharp`, `(1, 1, H, W)`: 1 where the input needs no restoration, None where that is not known.
    """

    name: str
    inputs: tuple[Tensor, ...]
    ground_truth: Tensor
    sharp: Tensor | None = None

    @property
    def input(self) -> Tensor:
        """The photo that is restored."""
        return self.inputs[0]


@dataclass(frozen=True)
class TestSet:
    """Samples by index, decoded (or degraded) only when asked for: a set may be larger than memory."""

    count: int
    load: Callable[[int], Sample]


def evaluate(
    task: Task,
    checkpoint: Path,
    data: Path,
    *,
    synthesize: str | None = None,
    seed: int = 0,
    fit_colours: bool = False,
    fit_shift: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Restore every photo of `data` and compare it with its ground truth.

    Args:
        task: whose checkpoint it is.
        checkpoint: safetensors file of `afterlens train`.
        data: a folder of pairs (pairs.py); with `synthesize`, clean photos (file or folder).
        synthesize: degrade clean photos by this kind of `task.kinds`. "clean" degrades nothing: the photo
            must stay itself.
        seed: of the synthesis; image number and seed alone decide each degradation.
        fit_colours: before they are scored, input and result each get the gain and offset per channel that bring
            them nearest to the ground truth: for ground truths from another camera, whose tone differs.
        fit_shift: likewise the shift by half and whole pixels, up to ``REACH``: a shaken camera has no one place, and
            so neither has the ground truth. Borders of that width do not count then.
        out: folder for `quality.json` and `quality.png` (best, median and worst: input, restored, ground truth).

    Returns: a JSON-able dict: `mean`, `median` and `worst` of psnr, ssim and psnr_gain, and `images` with the
        same for each. A gain is null where the input already equals the ground truth.

    Raises UserError for unusable data or checkpoint.
    """
    samples = pair_set(task, data) if synthesize is None else synthetic_set(task, data, synthesize, seed)
    network, _ = load_network(task, checkpoint)
    restorer = task.restorer(network).eval()
    images = measure(restorer, samples, f"evaluate {task.name}", fit_colours, fit_shift)
    result: dict[str, Any] = {
        "task": task.name,
        "checkpoint": {"file": checkpoint.name, "sha256": sha256_of(checkpoint)},
        "data": str(data),
        "synthesize": synthesize,
        "seed": seed if synthesize is not None else None,
        "fit_colours": fit_colours,
        "fit_shift": fit_shift,
        "psnr_cap": PSNR_CAP,
        "count": len(images),
        **_summary(images),
        "images": images,
    }
    if out is not None:
        write_result(out / "quality.json", result, _best_median_worst(restorer, samples, images))
    return result


def require(
    result: dict[str, Any], *, fail_under: float | None = None, fail_under_gain: float | None = None
) -> None:
    """Gates on the means of `evaluate`'s result, in dB. Raises GateFailed where one is missed."""
    mean = result["mean"]
    if fail_under is not None and not mean["psnr"] >= fail_under:
        raise GateFailed(f"mean PSNR is {mean['psnr']:.2f} dB, the gate asks for {fail_under:.2f} dB")
    if fail_under_gain is not None:
        if mean["psnr_gain"] is None:
            raise UserError("no gain to gate: every input equals its ground truth; use --fail-under")
        if not mean["psnr_gain"] >= fail_under_gain:
            raise GateFailed(
                f"mean PSNR gain is {mean['psnr_gain']:+.2f} dB, the gate asks for {fail_under_gain:+.2f} dB"
            )


def measure(
    restorer: nn.Module, samples: TestSet, title: str, fit_colours: bool = False, fit_shift: bool = False
) -> list[dict[str, Any]]:
    """Scores of every sample, in order: name, size, psnr, ssim, input_psnr, input_ssim, psnr_gain, sharp_psnr.

    `restorer` maps the inputs, `(1, 3, H, W)` each, to a tuple whose first tensor is the result, of the same shape.
    sharp_psnr is that of the result to the input where the input needed no restoration; null where that is unknown.
    """
    images = []
    with progress_bar(TextColumn("{task.fields[note]}", markup=False)) as progress:
        bar = progress.add_task(title, total=samples.count, note="")
        for index in range(samples.count):
            sample = samples.load(index)
            image = _score(sample, restored(restorer, sample.inputs), fit_colours, fit_shift)
            images.append(image)
            gain = "" if image["psnr_gain"] is None else f" ({image['psnr_gain']:+.2f})"
            progress.update(bar, advance=1, note=f"{image['name']}: {image['psnr']:.2f} dB{gain}")
    return images


def pair_set(task: Task, folder: Path) -> TestSet:
    """The pairs of a folder (pairs.py). Raises UserError where there are none, or the task takes more than a photo."""
    if len(task.inputs) > 1 and task.stream is None:
        raise UserError(
            f"{task.name} takes {', '.join(task.inputs)}: pairs of one input and its ground truth are not enough"
        )
    pairs = find_pairs(folder)

    def load(index: int) -> Sample:
        pair = pairs[index]
        degraded, ground_truth = _tensor(pair.input), _tensor(pair.target)
        if degraded.shape != ground_truth.shape:
            sizes = " and ".join(f"{image.shape[3]}x{image.shape[2]}" for image in (degraded, ground_truth))
            raise UserError(
                f"{pair.input} and {pair.target.name} differ in size: {sizes}; expected a pair of one size"
            )
        # A lone frame has none before it: to the network, nothing moved since.
        return Sample(pair.name, (degraded,) * len(task.inputs), ground_truth)

    return TestSet(len(pairs), load)


def synthetic_set(task: Task, data: Path, kind: str, seed: int) -> TestSet:
    """Clean photos degraded by one of the task's kinds. Raises UserError where the task has no such kind."""
    degrade = task.degrade
    if degrade is None:
        raise UserError(f"{task.name} has no synthesis: give pairs of input and ground truth")
    if kind not in task.kinds:
        raise UserError(
            f"cannot synthesize {kind!r} for {task.name}, expected one of {', '.join(task.kinds)}"
        )
    photos = find_photos([data])

    def load(index: int) -> Sample:
        photo = _tensor(photos[index])
        # The second scene of a reflection: the next photo, mirrored as panes do, so that a lone photo serves too.
        other = _cover(_tensor(photos[(index + 1) % len(photos)]).flip(-1), photo.shape[2], photo.shape[3])
        made = degrade(photo[0], other[0], kind, seeded(seed, index))
        # Rounded to 8 bits, as the file would be that a person hands us.
        inputs = [(made[key][None].clamp(0, 1) * 255).round() / 255 for key in task.inputs]
        sharp = made["sharp"][None] if "sharp" in made else None
        return Sample(photos[index].stem, tuple(inputs), made["target"][None], sharp)

    return TestSet(len(photos), load)


def _tensor(path: Path) -> Tensor:
    return torch.from_numpy(read_photo(path).rgb).permute(2, 0, 1)[None].contiguous()


def _cover(image: Tensor, height: int, width: int) -> Tensor:
    """Scale `(1, 3, h, w)` until it covers height x width, and cut out the middle."""
    scale = max(height / image.shape[2], width / image.shape[3])
    size = (max(height, round(image.shape[2] * scale)), max(width, round(image.shape[3] * scale)))
    scaled = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[:, :, top : top + height, left : left + width]


@torch.inference_mode()
def restored(restorer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """What a task's restorer makes of its inputs, ``(1, 3, H, W)`` each, in [0, 1]."""
    result: Tensor = restorer(*inputs)[0]
    return result.clamp(0.0, 1.0)


def fitted(image: Tensor, ground_truth: Tensor) -> Tensor:
    """`image` with the gain and offset per channel that bring it nearest to `ground_truth` (least squares), in [0, 1]."""
    mean, target = (x.mean(dim=(2, 3), keepdim=True) for x in (image, ground_truth))
    spread = (image - mean).square().mean(dim=(2, 3), keepdim=True).clamp_min(1e-12)
    gain = ((image - mean) * (ground_truth - target)).mean(dim=(2, 3), keepdim=True) / spread
    return (target + gain * (image - mean)).clamp(0.0, 1.0)


def shifted(image: Tensor, ground_truth: Tensor) -> Tensor:
    """`image` moved by half pixels to where it fits `ground_truth` best, without borders of ``REACH``."""

    def moved(y: int, x: int) -> Tensor:
        # In half pixels: the mean of the neighbours on both sides, as bilinear interpolation has it.
        height, width = (side - 2 * REACH for side in image.shape[2:])
        top, left = REACH + y // 2, REACH + x // 2
        parts = [
            image[:, :, top + down : top + down + height, left + right : left + right + width]
            for down in range(1 + y % 2)
            for right in range(1 + x % 2)
        ]
        return torch.stack(parts).mean(dim=0)

    inner = ground_truth[:, :, REACH:-REACH, REACH:-REACH]

    def error(place: tuple[int, int]) -> float:
        return float((moved(*place) - inner).square().mean())

    whole = range(-2 * REACH + 2, 2 * REACH - 1, 2)
    y, x = min(((y, x) for y in whole for x in whole), key=error)
    best = min(((y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)), key=error)
    return moved(*best)


def _score(sample: Sample, restored: Tensor, fit_colours: bool, fit_shift: bool) -> dict[str, Any]:
    height, width = sample.ground_truth.shape[2:]
    source, ground_truth = sample.input, sample.ground_truth
    sharp = None if sample.sharp is None else _psnr_where(sample.sharp, restored, source)
    if fit_colours:
        source, restored = fitted(source, ground_truth), fitted(restored, ground_truth)
    if fit_shift:
        if min(height, width) < 4 * REACH:
            raise UserError(
                f"{sample.name}: {width}x{height} pixels, too small to fit a shift of {REACH} pixels"
            )
        source, restored = shifted(source, ground_truth), shifted(restored, ground_truth)
        ground_truth = ground_truth[:, :, REACH:-REACH, REACH:-REACH]
    measurable = min(ground_truth.shape[2:]) >= SSIM_WINDOW
    before, after = psnr(source, ground_truth), psnr(restored, ground_truth)
    return {
        "name": sample.name,
        "width": width,
        "height": height,
        "psnr": after,
        "ssim": ssim(restored, ground_truth) if measurable else None,
        "input_psnr": before,
        "input_ssim": ssim(source, ground_truth) if measurable else None,
        "psnr_gain": after - before if before < PSNR_CAP else None,
        "sharp_psnr": sharp,
    }


def _psnr_where(mask: Tensor, image: Tensor, other: Tensor) -> float | None:
    """PSNR within a mask; None where that is less than a hundredth of the picture."""
    if float(mask.mean()) < 0.01:
        return None
    error = ((image - other).square() * mask).sum() / (3.0 * mask.sum())
    return min(PSNR_CAP, -10.0 * math.log10(max(float(error), 1e-12)))


def _summary(images: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean, median and worst over the images, each number by itself; null where no image has it."""
    summary: dict[str, dict[str, float | None]] = {}
    for name, function in (("mean", statistics.fmean), ("median", statistics.median), ("worst", min)):
        summary[name] = {}
        for key in ("psnr", "ssim", "input_psnr", "input_ssim", "psnr_gain", "sharp_psnr"):
            values = [image[key] for image in images if image[key] is not None]
            summary[name][key] = float(function(values)) if values else None
    return summary


def _best_median_worst(
    restorer: nn.Module, samples: TestSet, images: list[dict[str, Any]]
) -> list[list[Cell]]:
    """Grid rows of the images with the highest, middle and lowest gain (PSNR where there is no gain)."""
    ranked = sorted(
        range(len(images)),
        key=lambda i: images[i]["psnr" if images[i]["psnr_gain"] is None else "psnr_gain"],
        reverse=True,
    )
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    rows = []
    for label, index in chosen.items():
        sample, scores = samples.load(index), images[index]
        ssims = ["" if scores[key] is None else f", SSIM {scores[key]:.4f}" for key in ("input_ssim", "ssim")]
        rows.append(
            [
                Cell(sample.input, f"{label}: {sample.name}, input {scores['input_psnr']:.2f} dB{ssims[0]}"),
                Cell(restored(restorer, sample.inputs), f"restored {scores['psnr']:.2f} dB{ssims[1]}"),
                Cell(sample.ground_truth, "ground truth"),
            ]
        )
    return rows


def sha256_of(path: Path) -> str:
    """Hex digest of a file, also behind a link. OSError where it cannot be read."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
