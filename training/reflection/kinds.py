"""All kinds of degradation of the reflection task, by name.

    sample = degrade(photo, other, "pane", generator)      # {"input", "target"}, (3, H, W), RGB, [0, 1]

The first six are the older, simpler ones (`synthesis`): the evaluation's test sets are made with them. The others work
in linear light and look more like real photos.
"""

from __future__ import annotations

from torch import Generator, Tensor

from afterlens.training.reflection import synthesis
from afterlens.training.reflection.droplets import droplets
from afterlens.training.reflection.occluders import occlude
from afterlens.training.reflection.panes import pane_reflection
from afterlens.training.reflection.shadows import cast_shadow
from afterlens.training.task import Sample

KINDS = (*synthesis.KINDS, "pane", "cast_shadow", "droplets", "object")


def degrade(photo: Tensor, other: Tensor, kind: str, generator: Generator) -> Sample:
    """One random degradation of ``kind``; ``other`` is a second photo of the same shape.

    The target is the photo, but for kinds that change the exposure: then it is the photo at the input's exposure.

    Raises ``ValueError`` for a kind that is not in ``KINDS``.
    """
    if kind == "pane":
        degraded, target = pane_reflection(photo, other, generator)
    elif kind == "cast_shadow":
        degraded, target = cast_shadow(photo, other, generator)
    elif kind == "droplets":
        degraded, target = droplets(photo, generator), photo
    elif kind == "object":
        degraded, target = occlude(photo, other, generator), photo
    elif kind in synthesis.KINDS:
        degraded, target = synthesis.degrade(photo, other, kind, generator), photo
    else:
        raise ValueError(f"unknown kind of degradation {kind!r}: expected one of {', '.join(KINDS)}")
    return {"input": degraded, "target": target}
