"""Which layer of a Core ML package gets which weights: the plan of the variant `mixed`.

plan = plan_mixed(original, pictures, ground_truths, budget=0.3)    # weight name -> representation
compress(original, "mixed", out, plan)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.coreml.compress import REPRESENTATIONS, Weight, compressed, weights_of
from afterlens.conversion.examples import flat_inputs
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import read_package

Array = NDArray[Any]
Picture = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]

ASSUMED_QUALITY = 30.0
"""PSNR in dB against the ground truth that is assumed where there is none.

On real damage a network reaches less, and then the same error costs less than planned.
"""

MEASURED_PICTURES = 4  # for the sensitivity of each weight; the whole plan is measured on all pictures


FLAT_EXAMPLES = 4  # whose inputs that are no pictures go with pictures of one colour

MOST_LEVELS = gate("coreml", "mixed").max_flat_levels * 2 / 3
"""Levels of 255 that a picture of one colour may be off: two thirds of what `verify` allows, whose reference is PyTorch."""


def plan_mixed(
    package: Path,
    pictures: Sequence[Mapping[str, Picture]],
    ground_truths: Sequence[Picture] | None = None,
    budget: float = 0.3,
) -> dict[str, str]:
    """The representation of each weight with which the pictures lose at most `budget` dB and the file is small.

    Nor may black, grey and white be off by more than `MOST_LEVELS`, in any output picture.

    The cost of a weight's smallest form is measured: the program runs in float32 with only this weight compressed, and
    only what depends on it is computed again. The costs of its larger forms follow from their squared errors. One price
    of squared error then decides for all weights which form is worth its bytes (Shoham and Gersho 1988). The price is
    lowered as far as the budget allows, measured with all weights compressed at once, since errors of many layers do
    not simply add up.

    Args:
        package: float16, of `convert_coreml`.
        pictures: (H, W, 3), RGB, [0, 1], by input name, of the package's size: a few real ones of the intended kind.
        ground_truths: (H, W, 3) for the first output, one for each picture; the loss is then measured against them.
            Other outputs, and the first without ground ground_truths, are assumed to be `ASSUMED_QUALITY` dB from theirs.
        budget: dB, more than 0, for the mean over the pictures; the output that loses most counts (see `lost`).

    Returns: one of `REPRESENTATIONS` by weight name. Other pictures may lose more.

    Raises UserError for a package that cannot be read or has no weights to compress.
    """
    if budget <= 0 or not pictures or (ground_truths is not None and len(ground_truths) != len(pictures)):
        known = None if ground_truths is None else len(ground_truths)
        raise ValueError(f"budget {budget}, {len(pictures)} pictures, {known} ground truths")
    program = MilProgram.load(package)
    weights = weights_of(read_package(package))
    forms = {
        name: {kind: compressed(weight, kind) for kind in REPRESENTATIONS[:-1]}
        for name, weight in weights.items()
    }
    expanded = {name: {kind: form.expanded() for kind, form in own.items()} for name, own in forms.items()}
    sizes = {
        name: {
            **{kind: form.size() for kind, form in own.items()},
            "float16": 64 + 2 * weights[name].values.size,
        }
        for name, own in forms.items()
    }
    levels = [_levels(program, picture) for picture in pictures]
    exact = [_run(program, picture) for picture in levels]
    images = {feature.name: (0.0, 1.0) for feature in program.inputs if feature.is_image}
    flat = [_levels(program, picture) for picture in flat_inputs(pictures[:FLAT_EXAMPLES], images)]
    exact_flat = [_run(program, picture) for picture in flat]
    step = -(-len(levels) // MEASURED_PICTURES)
    costs = _costs(program, levels[::step], exact[::step], weights, expanded)

    def plan_at(price: float) -> dict[str, str]:
        """The best form of every weight if a unit of squared error costs `price` bytes."""
        return {
            name: min(REPRESENTATIONS, key=lambda kind: sizes[name][kind] + price * costs[name][kind])
            for name in weights
        }

    def loss(plan: Mapping[str, str]) -> float:
        changed = {name: expanded[name][kind] for name, kind in plan.items() if kind != "float16"}
        decibels = lost([_run(program, picture, changed) for picture in levels], exact, ground_truths)
        if decibels > budget:
            return decibels
        off = max(
            _levels_off(program, _run(program, picture, changed), reference)
            for picture, reference in zip(flat, exact_flat, strict=True)
        )
        return decibels if off <= MOST_LEVELS else float("inf")

    return cheapest(plan_at, loss, budget)


def cheapest(
    plan_at: Callable[[float], dict[str, str]], loss: Callable[[Mapping[str, str]], float], budget: float
) -> dict[str, str]:
    """The plan of the lowest price whose loss is within the budget, by bisection; that of the highest if none is.

    The loss falls as the price rises but for small bumps, so that a slightly lower price might do as well.
    """
    # Exponents of ten of the price; at the ends all weights are as small as possible, and all exact.
    low, high = 0.0, 20.0
    worst, best = plan_at(10**low), plan_at(10**high)
    if loss(worst) <= budget:
        return worst
    while high - low > 0.02:
        middle = (low + high) / 2
        plan = plan_at(10**middle)
        if plan == best or (plan != worst and loss(plan) <= budget):
            high, best = middle, plan
        else:
            low, worst = middle, plan
    return best


def lost(
    outputs: Sequence[Mapping[str, Picture]],
    exact: Sequence[Mapping[str, Picture]],
    ground_truths: Sequence[Picture] | None,
) -> float:
    """dB lost by compression: the mean over the pictures, for the output that loses most.

    Compression errors may happen to cancel errors of the network. That does not count as a gain: a picture loses at
    least what it would lose if both errors were independent.
    """
    drops = []
    for place, name in enumerate(exact[0]):
        rows = []
        for index, (got, reference) in enumerate(zip(outputs, exact, strict=True)):
            changed = _error(got[name], reference[name])
            if ground_truths is not None and place == 0:
                left = _error(reference[name], ground_truths[index])
                wrong = max(_error(got[name], ground_truths[index]), left + changed)
            else:
                left = 10 ** (-ASSUMED_QUALITY / 10)
                wrong = left + changed
            rows.append(10 * np.log10(wrong / max(left, 1e-10)))
        drops.append(float(np.mean(rows)))
    return max(drops)


def _costs(
    program: MilProgram,
    levels: Sequence[Mapping[str, Array]],
    exact: Sequence[Mapping[str, Picture]],
    weights: Mapping[str, Weight],
    expanded: Mapping[str, Mapping[str, NDArray[np.float32]]],
) -> dict[str, dict[str, float]]:
    """Squared error of the outputs, mean over the pictures, by weight and form."""
    smallest = REPRESENTATIONS[0]
    measured = dict.fromkeys(weights, 0.0)
    for picture, reference in zip(levels, exact, strict=True):
        known = _all_values(program, picture)
        for name in weights:
            got = _run(program, picture, {name: expanded[name][smallest]}, known)
            measured[name] += float(np.mean([_error(got[port], reference[port]) for port in reference]))
    costs = {}
    for name, weight in weights.items():
        errors = {
            kind: float(np.square(values - weight.values).sum()) for kind, values in expanded[name].items()
        }
        each = measured[name] / len(levels) / max(errors[smallest], 1e-30)
        costs[name] = {**{kind: each * error for kind, error in errors.items()}, "float16": 0.0}
    return costs


def _all_values(program: MilProgram, picture: Mapping[str, Array]) -> dict[str, Array]:
    values: dict[str, Array] = {}
    program.run(picture, round_storage=False, on_value=lambda name, _, value: values.update({name: value}))
    return values


def _run(
    program: MilProgram,
    picture: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    known: Mapping[str, Array] | None = None,
) -> dict[str, Picture]:
    """The outputs by name, images (H, W, 3) in [0, 1]."""
    outputs = program.run(picture, round_storage=False, eight_bit=False, constants=constants, known=known)
    return {
        feature.name: np.divide(outputs[feature.name], np.float32(255), dtype=np.float32)
        if feature.is_image
        else np.asarray(outputs[feature.name], np.float32)
        for feature in program.outputs
    }


def _levels(program: MilProgram, picture: Mapping[str, Picture]) -> dict[str, Array]:
    """Inputs as the program takes them: images with 8 bits, everything else with its batch dimension."""
    return {
        feature.name: to_levels(picture[feature.name])
        if feature.is_image
        else np.asarray(picture[feature.name], np.float32)[None]
        for feature in program.inputs
    }


def _levels_off(program: MilProgram, got: Mapping[str, Picture], wanted: Mapping[str, Picture]) -> float:
    """The largest difference of any output picture, in levels of 255."""
    images = [feature.name for feature in program.outputs if feature.is_image]
    return max((255.0 * float(np.abs(got[name] - wanted[name]).max()) for name in images), default=0.0)


def _error(got: Picture, wanted: Picture) -> float:
    return float(np.square(got.astype(np.float64) - wanted).mean())
