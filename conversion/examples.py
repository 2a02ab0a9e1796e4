"""Real examples for a network of one size, with the ground truth where it is known: to calibrate and to evaluate on.

    examples = task_examples(task, recipe, photos, deployable, count=6, seed=1)
    refuse_unreal(examples)

Calibration and evaluation must never share a photo: a quantized file is as good as its ranges on pictures that they
were not taken from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.conversion.bundle.layout import made_up
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import fit, read_photo
from afterlens.training.pairs import find_scenes
from afterlens.training.task import Task

Picture = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]; of an input that is no picture, whatever shape it has

LEAST_CORRELATION = 0.5
"""Of neighbouring pixels. Photos have 0.9 and more, noise 0; what is below this is no picture."""


@dataclass(frozen=True)
class Example:
    """Inputs by port name, and what the first output should be; None: unknown."""

    name: str
    inputs: dict[str, Picture]
    ground_truth: Picture | None


def task_examples(
    task: Task, recipe: Any, photos: Sequence[Path], deployable: Deployable, *, count: int, seed: int
) -> list[Example]:
    """``count`` examples that the task makes of photos, at the network's size.

    Pictures are rounded to 8 bits, as a camera's would be.
    """
    height, width = deployable.size
    examples = []
    for name, sample in task.examples(recipe, photos, height, width, count, seed):
        inputs = {
            port.name: _array(_rounded(sample[key]))
            for port, key in zip(deployable.inputs, task.inputs, strict=True)
        }
        ground_truth = _array(sample["target"]) if "target" in sample else None
        examples.append(Example(name, inputs, ground_truth))
    return examples


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mul(255.0).round().div(255.0) if tensor.ndim == 3 else tensor


def _array(tensor: torch.Tensor) -> Picture:
    """``(3, H, W)`` -> (H, W, 3); anything else as it is."""
    return (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).contiguous().numpy()


def plain_examples(photos: Sequence[Path], deployable: Deployable) -> list[Example]:
    """Photos as they are, without ground truth. Two inputs never get the same picture.

    Inputs that are not images get made-up values (`afterlens.conversion.bundle.layout.made_up`).
    """
    height, width = deployable.size
    pictures = [fit(read_photo(path).rgb, height, width) for path in photos]
    return [
        Example(
            path.name,
            {
                port.name: pictures[(index + i) % len(pictures)]
                if port.kind == "image"
                else made_up(port, index)
                for i, port in enumerate(deployable.inputs)
            },
            None,
        )
        for index, path in enumerate(photos)
    ]


def flat_inputs(
    examples: Sequence[Mapping[str, Picture]], images: Mapping[str, tuple[float, float]]
) -> list[dict[str, Picture]]:
    """Black, grey and white for the image inputs, whose ranges are given by name, with the other inputs of each example."""
    different = examples if set(examples[0]) - set(images) else examples[:1]
    return [
        {
            name: np.full_like(value, images[name][0] + share * (images[name][1] - images[name][0]))
            if name in images
            else value
            for name, value in example.items()
        }
        for example in different
        for share in (0.0, 128 / 255, 1.0)
    ]


def refuse_unreal(examples: Sequence[Example]) -> None:
    """Raises UserError where there is nothing to calibrate on, or a picture is noise or of one colour only.

    Ranges taken from random data fit no photo: the file would convert, and fail in the user's hands.
    """
    if not examples:
        raise UserError("no pictures to calibrate on: give real photos, at least one")
    for example in examples:
        # What is restored may be noisy by its nature; then the ground truth is the photo.
        pictures = (
            example.inputs if example.ground_truth is None else {"its ground truth": example.ground_truth}
        )
        for name, picture in pictures.items():
            if picture.ndim != 3 or picture.shape[2] != 3:  # not an image
                continue
            correlation = _correlation(picture)
            if correlation is None:
                raise UserError(f"{example.name}: {name} is of one colour only; calibrate on real photos")
            if correlation < LEAST_CORRELATION:
                raise UserError(
                    f"{example.name}: {name} looks like noise (neighbouring pixels correlate by {correlation:.2f}, in "
                    f"photos by 0.9); calibrate on real photos"
                )


def _correlation(picture: Picture) -> float | None:
    """Of horizontally and vertically neighbouring pixels' brightness, the mean; None without any contrast."""
    grey = picture.astype(np.float64).mean(axis=2)
    pairs = ((grey[:, :-1], grey[:, 1:]), (grey[:-1], grey[1:]))
    found = []
    for one, other in pairs:
        if one.size == 0 or min(one.std(), other.std()) < 1e-6:
            continue
        found.append(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))
    return sum(found) / len(found) if found else None


def pair_examples(folder: Path, deployable: Deployable, count: int | None = None) -> list[Example]:
    """Real pairs, as `afterlens.training.pairs.find_scenes` finds them, cropped and scaled to the network's size.

    Args:
        count: so many of them, evenly spread; None for all.

    Raises UserError for a folder without pairs, an input without its counterpart, and a scene whose pictures differ in
    size.
    """
    height, width = deployable.size
    found = find_scenes(folder, [port.name for port in deployable.inputs])
    scenes = found if count is None else found[:: max(1, len(found) // count)][:count]
    examples = []
    for scene in scenes:
        pictures = {port: read_photo(file).rgb for port, file in scene.inputs.items()}
        target = read_photo(scene.target).rgb
        shapes = {picture.shape for picture in (*pictures.values(), target)}
        if len(shapes) > 1:
            sizes = " and ".join(sorted(f"{columns}x{rows}" for rows, columns, _ in shapes))
            raise UserError(f"{scene.target}: is {sizes} pixels in its folders, expected one size")
        # As a camera's, the inputs have 8 bits.
        inputs = {
            port: np.rint(fit(picture, height, width) * 255.0).astype(np.float32) / np.float32(255)
            for port, picture in pictures.items()
        }
        examples.append(Example(scene.name, inputs, fit(target, height, width)))
    return examples
