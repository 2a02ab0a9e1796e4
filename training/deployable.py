"""What training hands to conversion: a module with its pre- and post-processing inside, and its ports by name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Port:
    """One input or output of a deployable graph.

    Attributes:
        name: the tensor's name in every artifact; apps bind by it, never by position.
        shape: ``(1, C, H, W)``, torch order and fixed: dynamic shapes lose the phones' accelerators.
        range: the smallest and largest value, before any 8-bit image coding.
        colour_space: how an app reads the values; ``"sRGB"`` for display-encoded RGB.
        meaning: one phrase for the person who writes the app.
    """

    name: str
    shape: tuple[int, int, int, int]
    range: tuple[float, float]
    colour_space: str = "sRGB"
    meaning: str = ""


@dataclass(frozen=True)
class Deployable:
    """A graph of fixed size, ready to convert.

    Attributes:
        module: in eval mode; ``forward(*inputs)`` returns a tuple of tensors, in the order of ``outputs``.
        task: the name used in file names, e.g. ``"reflection"``.
        title: for people, e.g. ``"Reflection removal"``.
        version: of the checkpoint, e.g. ``"1"``.
        inputs, outputs: the ports, in the order of ``forward``.
    """

    module: nn.Module
    task: str
    title: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
