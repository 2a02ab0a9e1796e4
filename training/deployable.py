"""What training hands to conversion: a module with its pre- and post-processing inside, and its ports by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

Kind = Literal["image", "vector", "class"]


@dataclass(frozen=True)
class Port:
    """One input or output of a deployable graph.

    Attributes:
        name: the tensor's name in every artifact; apps bind by it, never by position.
        shape: in torch's order, batch 1, and fixed: dynamic shapes lose the phones' accelerators. Images are
            ``(1, 3, H, W)``; other kinds have any rank.
        range: the smallest and largest value, before any 8-bit image coding. Of images ``(0.0, 1.0)``.
        colour_space: how an app reads an image; ``"sRGB"`` for display-encoded RGB. Of other kinds it is ignored.
        meaning: one phrase for the person who writes the app.
        kind: ``"image"``: RGB. ``"vector"``: numbers of any meaning, such as landmarks or an embedding. ``"class"``: a
            score for each class.
    """

    name: str
    shape: tuple[int, ...]
    range: tuple[float, float]
    colour_space: str = "sRGB"
    meaning: str = ""
    kind: Kind = "image"


@dataclass(frozen=True)
class Deployable:
    """A graph of fixed size, ready to convert.

    Attributes:
        module: in eval mode; ``forward(*inputs)`` returns a tuple of tensors, in the order of ``outputs``.
        task: the name used in file names, e.g. ``"reflection"``.
        title: for people, e.g. ``"Reflection removal"``.
        version: of the checkpoint, e.g. ``"1"``.
        inputs, outputs: the ports, in the order of ``forward``.
        camera_frame: (height, width) of the camera's frames that the network was trained for, where what it removes has a
            fixed number of pixels: an app then feeds the middle of such a frame, unscaled and as the sensor delivers it.
            None where it may get any frame, scaled and turned.
    """

    module: nn.Module
    task: str
    title: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    camera_frame: tuple[int, int] | None = field(default=None, kw_only=True)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the first image input, by which files of the same network are told apart.

        Raises ValueError where no input is an image.
        """
        for port in self.inputs:
            if port.kind == "image":
                return port.shape[2], port.shape[3]
        raise ValueError(f"{self.task}: expected at least one image among the inputs")
