"""Which mappings between two photos are taken for possible."""

import cv2
import numpy as np
import pytest

from afterlens.training.udc import keypoints
from afterlens.training.udc.geometry import Mapping, Size, centred, displacements
from afterlens.training.udc.keypoints import _plausible

SIZE = (101, 201)
CORNERS = np.array([[0, 0], [200, 0], [200, 100], [0, 100]], np.float32)


@pytest.mark.parametrize(
    ("scale", "expected"), [(1.0, True), (1.95, True), (2.05, False), (0.55, True), (0.45, False)]
)
@pytest.mark.parametrize("suggested", [1.0, 3.0])
def test_an_area_may_change_by_a_factor_of_4_of_what_the_sizes_suggest(
    suggested: float, scale: float, expected: bool
) -> None:
    start = np.diag([suggested, suggested, 1.0])
    assert _plausible(np.diag([suggested * scale, suggested * scale, 1.0]), start, SIZE) is expected


def test_a_mirrored_picture_is_none() -> None:
    assert not _plausible(np.diag([-1.0, 1.0, 1.0]), np.eye(3), SIZE)


@pytest.mark.parametrize(("corner", "expected"), [((300, 150), True), ((560, 280), False), ((90, 40), False)])
def test_every_corner_counts(corner: tuple[int, int], expected: bool) -> None:
    """One that is pulled out by more than 4 times its area is too much, and so is one that is folded inwards."""
    there = CORNERS.copy()
    there[2] = corner
    mapping = np.asarray(cv2.getPerspectiveTransform(CORNERS, there), np.float64)
    assert _plausible(mapping, np.eye(3), SIZE) is expected


def test_mappings_are_measured_against_what_the_sizes_suggest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def plausible(mapping: Mapping, start: Mapping, size: Size) -> bool:
        seen.append((mapping, start, size))
        return True

    monkeypatch.setattr(keypoints, "_plausible", plausible)
    source = cv2.GaussianBlur(np.random.default_rng(0).random((150, 200)).astype(np.float32), (0, 0), 2)
    source = (source - source.min()) / (source.max() - source.min())
    target = cv2.resize(source, (400, 300), interpolation=cv2.INTER_CUBIC)
    found = keypoints.by_keypoints(source, target)
    start = centred(source.shape, target.shape)
    assert np.abs(displacements(found, start, (150, 200))).max() < 1.0
    assert seen and all(np.array_equal(given, start) and size == (150, 200) for _, given, size in seen)
    assert all(mapping is not start for mapping, _, _ in seen)
