"""Every variant that a network can be converted to: what it stores, what it is for, and what it must hold.

    variant = find("tflite", "mixed")
    variant.label, variant.budget, variant.gate.min_psnr      # "int8, mixed", 0.3, 20.0

This table is the only place that knows them. A new variant is a new row here, and the code in `conversion/tflite` or
`conversion/coreml` that writes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from afterlens.training.media.errors import UserError

FORMATS = {"tflite": "TFLite", "coreml": "Core ML"}
"""File formats, and what people call them."""

SUFFIXES = {"tflite": ".tflite", "coreml": ".mlpackage"}


RANGE_SLACK = 1e-6
"""How far a value may leave its declared range, as a share of it."""


@dataclass(frozen=True)
class Gate:
    """How far one output may be from PyTorch on one picture.

    Errors are shares of the output's declared range, which is also the peak of the PSNR.

    Attributes:
        min_psnr: dB. For the smaller variants it only catches the collapse of a single picture, which a mean over all
            pictures would hide; their quality is gated by the budget.
        max_error: the largest difference of any value.
        max_stored_error: the largest difference from PyTorch with its weights rounded as the file's are, both in
            float32 arithmetic. It finds faults that cost less than float16 rounding (docs/proof.md).
        max_levels: the largest difference after both are rounded to 8 bits, in levels of 255.
        max_flat_levels: the same on pictures of one colour, such as black and white. Integers saturate where their
            range ends, rounded weights shift a whole area, and such a picture has no detail that could excuse either.
        range_slack: how far a value may leave the declared range.
    """

    min_psnr: float | None = None
    max_error: float | None = None
    max_stored_error: float | None = None
    max_levels: int = 255
    max_flat_levels: int = 255
    range_slack: float = RANGE_SLACK


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        format: a key of `FORMATS`.
        name: in file names, recipes and `model.json`.
        label: a short name for people.
        stored: how weights and activations are stored.
        purpose: when to choose it.
        gate: see `Gate`.
        budget: dB of mean PSNR against ground truth that it may lose to PyTorch; a task's recipe may override it. None:
            no budget, the gate is stricter than any.
        calibrated: whether its ranges come from real pictures, so that it cannot be made without any.
        is_default: whether `afterlens convert` writes it unless told otherwise.
    """

    format: str
    name: str
    label: str
    stored: str
    purpose: str
    gate: Gate
    budget: float | None
    calibrated: bool = False
    is_default: bool = False

    @property
    def file_ending(self) -> str:
        """How its files end, for example ``"float16.tflite"``; also its name on the command line."""
        return f"{self.name}{SUFFIXES[self.format]}"

    @property
    def is_float(self) -> bool:
        """Whether all weights are floating-point numbers: no pictures are needed, neither to make nor to prove it."""
        return self.name in ("float32", "float16")


# Of each format the most precise first, which is the order in which `restore` and `lint` prefer them. Core ML's mixed
# package comes last because some of its layers may be stored like those of palettized4.
VARIANTS = (
    Variant(
        "tflite",
        "float32",
        label="float32",
        stored="float32",
        purpose="the reference on a CPU: what PyTorch computes, to the last digits",
        gate=Gate(max_error=1e-4, max_levels=1),
        budget=None,
        is_default=True,
    ),
    Variant(
        "tflite",
        "float16",
        label="float16",
        stored="float16 weights",
        purpose="GPUs, which compute in float16 anyway; half the size",
        gate=Gate(min_psnr=60.0, max_stored_error=1e-4, max_levels=1),
        budget=0.05,
        is_default=True,
    ),
    Variant(
        "tflite",
        "integer_quant_with_int16_act",
        label="int8 × int16",
        stored="int8 weights, int16 activations",
        purpose="NPUs that take int16; slow on CPUs, refused by GPUs",
        # The end of a range may lie between two steps of int16.
        gate=Gate(min_psnr=30.0, max_flat_levels=16, range_slack=1e-4),
        budget=0.3,
        calibrated=True,
    ),
    Variant(
        "tflite",
        "dynamic_range_quant",
        label="int8 weights",
        stored="int8 weights, float32 activations",
        purpose="small files on CPUs, without any calibration",
        gate=Gate(min_psnr=30.0, max_flat_levels=16),
        budget=0.1,
    ),
    Variant(
        "tflite",
        "mixed",
        label="int8, mixed",
        stored="int8 weights and activations, sensitive layers in float",
        purpose="CPUs: about as fast and small as full_integer_quant, and nearer to the network",
        gate=Gate(min_psnr=20.0, max_flat_levels=18),
        budget=0.3,
        calibrated=True,
        is_default=True,
    ),
    Variant(
        "tflite",
        "full_integer_quant",
        label="int8",
        stored="int8 weights and activations",
        purpose="NPUs and DSPs that take int8 only",
        gate=Gate(min_psnr=20.0, max_flat_levels=18),
        budget=0.3,
        calibrated=True,
    ),
    Variant(
        "coreml",
        "float16",
        label="float16",
        stored="float16 weights and activations",
        purpose="the Neural Engine and GPUs: the reference on Apple devices",
        gate=Gate(min_psnr=60.0, max_stored_error=1e-4, max_levels=1),
        budget=0.05,
        is_default=True,
    ),
    Variant(
        "coreml",
        "int8",
        label="int8 weights",
        stored="int8 weights, float16 activations",
        purpose="half the size of float16, at almost no loss",
        gate=Gate(min_psnr=30.0, max_flat_levels=16),
        budget=0.3,
        is_default=True,
    ),
    Variant(
        "coreml",
        "palettized6",
        label="6-bit palette",
        stored="weights from 64 values, float16 activations",
        purpose="a good third of the size of float16",
        gate=Gate(min_psnr=25.0, max_flat_levels=18),
        budget=0.3,
        is_default=True,
    ),
    Variant(
        "coreml",
        "palettized4",
        label="4-bit palette",
        stored="weights from 16 values, float16 activations",
        purpose="a quarter of the size of float16, where a visible loss is acceptable",
        gate=Gate(min_psnr=15.0, max_flat_levels=24),
        budget=1.0,
    ),
    Variant(
        "coreml",
        "mixed",
        label="mixed weights",
        stored="weights as small as each layer bears, float16 activations",
        purpose="the smallest package within a given loss",
        gate=Gate(min_psnr=20.0, max_flat_levels=18),
        budget=0.3,
    ),
)

NAMES = tuple(dict.fromkeys(variant.name for variant in VARIANTS))
"""Of all variants; two formats may share one."""

BUDGETS: Mapping[str, float] = {
    variant.name: variant.budget for variant in VARIANTS if variant.budget is not None
}
"""By variant name; formats that share a name share its budget."""


def find(format_: str, name: str) -> Variant | None:
    """The row of a variant; None where there is none."""
    return next((v for v in VARIANTS if (v.format, v.name) == (format_, name)), None)


def gate(format_: str, name: str) -> Gate:
    """The gate of a variant; UserError where there is no such variant."""
    found = find(format_, name)
    if found is None:
        raise UserError(f"unknown variant {name!r} of format {format_!r}, expected one of {', '.join(NAMES)}")
    return found.gate


def refuse_unknown_budget(budgets: Mapping[str, float]) -> None:
    """Raise UserError for a budget of a variant that does not exist, or that is not a number of dB."""
    for name, budget in budgets.items():
        if name not in NAMES or not 0.0 <= budget < math.inf:
            raise UserError(
                f"budget {name}={budget}: expected a number of dB, zero or more, for one of {', '.join(NAMES)}"
            )


def label(format_: str, name: str) -> str:
    """The short name of a variant for people; an unknown one keeps its own name."""
    found = find(format_, name)
    return name if found is None else found.label


def stored(format_: str, name: str) -> str:
    """How a variant stores weights and activations; an unknown one keeps its own name."""
    found = find(format_, name)
    return name if found is None else found.stored


def precision_rank(format_: str, name: str) -> int:
    """A sort key: of several variants of one format, the most precise comes first."""
    found = find(format_, name)
    return len(VARIANTS) if found is None else VARIANTS.index(found)
