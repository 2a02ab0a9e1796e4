"""Registration of two photos of one scene, where one of them is hazy, darker, noisier or blurred.

    found = register(input_grey, target_grey, threshold=16.0)
    found.deviation, found.branch, found.residual       # pixels, "mutual information" or "keypoints", pixels
    aligned = warp(target_rgb, found.mapping, input_grey.shape)

Photos are (H, W) float32 grey, [0, 1], and may differ in size. Mappings: training/udc/geometry.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from afterlens.training.media.errors import UserError
from afterlens.training.udc.block_matching import MATCHED, SEARCH, local_shifts, shifts_at_any_scale
from afterlens.training.udc.geometry import Grey, Mapping, centred, displacements
from afterlens.training.udc.keypoints import by_keypoints
from afterlens.training.udc.mutual_information import by_mutual_information

Branch = Literal["mutual information", "keypoints"]

_CONFIRMED = 1.0  # pixels of residual
_WORTHWHILE = 0.03  # pixels; a smaller gain does not justify resampling a photo


@dataclass(frozen=True)
class Registration:
    """A mapping, how it was found, and how well it fits the blocks."""

    deviation: float | None  # median distance before, in input pixels; None where it could not be measured
    branch: Branch
    mapping: Mapping
    residual: float  # median distance after, in input pixels; infinite where no block was found
    matched: float  # share of the blocks that were found, 0 to 1


def register(source: Grey, target: Grey, *, threshold: float) -> Registration:
    """Find the mapping from input to target pixels.

    The deviation is measured by keypoints, and by block matching where it is small or too few keypoints agree. Up to
    ``threshold`` pixels, mutual information finds the mapping; the photos stay in place if that does not improve the
    block residual. Above it, keypoints do, refined by mutual information if that improves the residual. If the blocks
    do not confirm the result, the other method is tried as well and the better result is kept.

    Raises UserError where neither method finds a mapping.
    """
    start = centred(source.shape, target.shape)
    by_points: Mapping | None = None
    vectors = np.empty((0, 2))
    try:
        by_points = by_keypoints(source, target)
        vectors = displacements(by_points, start, source.shape)
    except UserError:
        pass  # block matching may succeed
    if not len(vectors) or np.median(np.linalg.norm(vectors, axis=1)) < SEARCH / 2:
        blocks = shifts_at_any_scale(source, target, start)
        vectors = vectors if blocks is None else blocks.vectors
    deviation = float(np.median(np.linalg.norm(vectors, axis=1))) if len(vectors) else None
    # The median shift is known; rotation, scale and a remaining shift are left to mutual information.
    shift = np.median(vectors, axis=0) if len(vectors) else np.zeros(2)
    shifted = start @ np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])

    def by_information() -> list[Mapping]:
        return [by_mutual_information(source, target, shifted), start]

    def by_points_then_information() -> list[Mapping]:
        points = by_keypoints(source, target) if by_points is None else by_points
        return [points, by_mutual_information(source, target, points)]

    methods: list[tuple[Branch, Callable[[], list[Mapping]]]] = [
        ("mutual information", by_information),
        ("keypoints", by_points_then_information),
    ]
    if deviation is None or deviation > threshold:
        methods.reverse()
    attempts: list[Registration] = []
    reasons: list[str] = []
    for branch, method in methods:
        try:
            mappings = method()
        except UserError as error:
            reasons.append(f"{branch}: {error}")
            continue
        for mapping in mappings:
            shifts = local_shifts(source, target, mapping)
            residual = shifts.length(0.5) if len(shifts.vectors) else float("inf")
            attempts.append(Registration(deviation, branch, mapping, residual, shifts.matched))
        if any(attempt.residual < _CONFIRMED and attempt.matched > MATCHED for attempt in attempts):
            break
    if not attempts:
        raise UserError("; ".join(reasons))

    def cost(attempt: Registration) -> tuple[bool, float]:
        return attempt.matched <= MATCHED, attempt.residual + (
            _WORTHWHILE if attempt.mapping is not start else 0.0
        )

    return min(attempts, key=cost)
