"""The inputs and outputs of a Core ML model: arrays, or images in the order and range that an app exchanges.

An image is (H, W, 3) RGB or (H, W) grey outside, 0 to 255; in the program it is (1, 3 or 1, H, W), RGB or BGR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from afterlens.conversion.mil.ops.arrays import Array
from afterlens.conversion.mil.package import Package, TensorType
from afterlens.training.media.errors import UserError

_COLOURS = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}  # FeatureTypes.proto, ColorSpace


@dataclass(frozen=True)
class FeatureSpec:
    """An input or output of the model.

    `shape` is the tensor's in the program, (1, 3, H, W) for a colour image, None where it is flexible. `dtype` is what
    `run` exchanges: for an image `uint8` (H, W, 3) in RGB order, (H, W) in grey, whatever order `colour` says
    the program computes in. `ranges` holds, where the shape is flexible, each choice that the package declares: the
    smallest and largest size of every dimension, None for no limit.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    is_image: bool
    colour: str | None
    ranges: tuple[tuple[tuple[int, int | None], ...], ...] = ()

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether the package declares that it takes a tensor of this shape."""
        return not self.ranges or any(
            len(choice) == len(shape)
            and all(
                low <= size and (high is None or size <= high)
                for size, (low, high) in zip(shape, choice, strict=True)
            )
            for choice in self.ranges
        )


def accepted(spec: FeatureSpec) -> str:
    """What an input takes, in words: type and sizes."""
    choices = spec.ranges or (tuple((size or 1, size) for size in spec.shape),)
    if not spec.is_image:
        return spec.dtype + " or ".join(
            f"({', '.join(_span(*span) for span in choice)})" for choice in choices
        )
    sizes = " or ".join(f"{_span(*height)}x{_span(*width)}" for _, _, height, width in choices)
    return f"an image of {sizes} (height x width){', 3 channels' if spec.shape[1] == 3 else ''}"


def _span(low: int, high: int | None) -> str:
    return str(low) if low == high else f"{low}..{'' if high is None else high}"


def from_image(spec: FeatureSpec, pixels: Array) -> Array:
    """(H, W, 3) RGB or (H, W), 0 to 255 -> (1, 3 or 1, H, W) in the program's channel order; others as they are."""
    if spec.shape[1] == 3 and pixels.ndim == 3:
        planes = pixels.transpose(2, 0, 1)
        return (planes[::-1] if spec.colour == "BGR" else planes)[None]
    if spec.shape[1] == 1 and pixels.ndim == 2:
        return pixels[None, None]
    return pixels[None] if pixels.ndim == 4 else pixels  # of no accepted rank: refused by its shape


def to_image(spec: FeatureSpec, value: Array, eight_bit: bool) -> Array:
    """(1, 3 or 1, H, W) in the program's channel order -> (H, W, 3) RGB or (H, W)."""
    planes = value[0, ::-1] if spec.colour == "BGR" else value[0]
    image = planes[0] if planes.shape[0] == 1 else planes.transpose(1, 2, 0)
    if not eight_bit:
        return np.ascontiguousarray(image)
    if spec.dtype != "uint8":
        return image.astype(spec.dtype)
    # NaN has no defined conversion to an integer; black keeps the result the same on every machine.
    return np.clip(np.rint(np.nan_to_num(image, nan=0.0)), 0, 255).astype(np.uint8)


def read_feature(package: Package, feature: Any, types: Mapping[str, TensorType]) -> FeatureSpec:
    """Joins the description of a port with its type in the program, and refuses contradictions."""
    if feature.name not in types:
        raise package.fault(f"the description names {feature.name!r}, the program does not")
    declared = types[feature.name]
    kind = feature.type.WhichOneof("Type")
    if kind == "multiArrayType":
        shape = tuple(feature.type.multiArrayType.shape)
        if shape and declared.shape and None not in declared.shape and not declared.accepts(shape):
            raise package.fault(
                f"{feature.name!r} is described with shape {shape} and computed as {declared}"
            )
        ranges = _ranges(package, feature.type.multiArrayType, None)
        return FeatureSpec(feature.name, declared.shape, declared.dtype.name, False, None, ranges)
    if kind != "imageType":
        raise UserError(
            f"{package.path}: {feature.name!r} is a {kind}; this executor knows arrays and images"
        )
    image = feature.type.imageType
    colour = _COLOURS.get(image.colorSpace)
    channels = 3 if colour in ("RGB", "BGR") else 1
    flexible = image.WhichOneof("SizeFlexibility") is not None
    size = (None, None) if flexible else (image.height, image.width)
    if colour is None or not TensorType(declared.dtype, (1, channels, *size)).accepts(
        _known(declared.shape, size)
    ):
        raise package.fault(
            f"{feature.name!r} is described as a {colour} image of {size} and computed as {declared}"
        )
    dtype = "float16" if colour == "GRAYSCALE_FLOAT16" else "uint8"
    return FeatureSpec(
        feature.name, declared.shape, dtype, True, colour, _ranges(package, image, (1, channels))
    )


def _ranges(
    package: Package, declared: Any, lead: tuple[int, int] | None
) -> tuple[tuple[tuple[int, int | None], ...], ...]:
    """The shapes that the description allows for a flexible array, or for an image behind its batch and channels."""

    def span(entry: Any) -> tuple[int, int | None]:
        return int(entry.lowerBound), None if entry.upperBound < 0 else int(entry.upperBound)

    choices: list[tuple[tuple[int, int | None], ...]]
    kind = declared.WhichOneof("SizeFlexibility" if lead else "ShapeFlexibility")
    if kind is None:
        return ()
    if lead is None and kind == "enumeratedShapes":
        choices = [
            tuple((int(size), int(size)) for size in entry.shape)
            for entry in declared.enumeratedShapes.shapes
        ]
    elif lead is None:
        choices = [tuple(span(entry) for entry in declared.shapeRange.sizeRanges)]
    else:
        ends: tuple[tuple[int, int | None], ...] = tuple((size, size) for size in lead)
        if kind == "enumeratedSizes":
            sizes = declared.enumeratedSizes.sizes
            choices = [(*ends, (int(s.height), int(s.height)), (int(s.width), int(s.width))) for s in sizes]
        else:
            sides = declared.imageSizeRange
            choices = [(*ends, span(sides.heightRange), span(sides.widthRange))]
    if not choices:
        raise package.fault("a flexible shape without any choice")
    return tuple(choices)


def _known(shape: tuple[int | None, ...], size: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape whose open dimensions are taken from the image size (or 1), so that the rest can be compared."""
    fallback = (1, 1, *(side or 1 for side in size))
    return tuple(fallback[i] if s is None and i < 4 else int(s or 1) for i, s in enumerate(shape))
