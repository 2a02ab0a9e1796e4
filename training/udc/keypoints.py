"""Registration by SIFT keypoints (Lowe, IJCV 2004), for photos that are far apart, rotated or seen at an angle.

mapping = by_keypoints(input_grey, target_grey)
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError
from afterlens.training.udc.geometry import Grey, Mapping, Size, centred, resized

_SIDE = 1600  # pixels, longer side; on larger photos SIFT is slower and no better
_RATIO = 0.8  # Lowe's ratio test: distance of the best match to that of the second best
_INLIER_DISTANCE = 2.0  # pixels
_FEWEST_INLIERS = 15
_LARGEST_CHANGE = 4.0  # of area, against the photos' sizes
_PERSPECTIVE_GAIN = 1.1  # two more parameters must explain a tenth more matches


def by_keypoints(source: Grey, target: Grey) -> Mapping:
    """Match keypoints and fit the mapping that most matches agree on: affine, or projective where that explains a tenth
    more of them.

    Robust fit by MAGSAC++ (Barath et al., CVPR 2020). Raises UserError where fewer than 15 matches agree.
    """
    points, features = _keypoints(source)
    target_points, target_features = _keypoints(target)
    if min(len(points), len(target_points)) < _FEWEST_INLIERS:
        raise UserError(
            f"{len(points)} and {len(target_points)} keypoints, at least {_FEWEST_INLIERS} are needed"
        )
    two_best = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, target_features, k=2)
    clear = [best for best, second in two_best if best.distance < _RATIO * second.distance]
    # One match per target keypoint: otherwise a mapping that shrinks everything to a point finds support.
    close = list({match.trainIdx: match for match in sorted(clear, key=lambda m: -m.distance)}.values())
    if len(close) < _FEWEST_INLIERS:
        raise UserError(f"{len(close)} matched keypoints, at least {_FEWEST_INLIERS} are needed")
    here = points[[match.queryIdx for match in close]]
    there = target_points[[match.trainIdx for match in close]]
    distance = _INLIER_DISTANCE * max(1.0, max(target.shape) / _SIDE)
    affine, affine_inliers = cv2.estimateAffine2D(
        here,
        there,
        method=cv2.USAC_MAGSAC,
        ransacReprojThreshold=distance,
        maxIters=10_000,
        confidence=0.9999,
    )
    projective, projective_inliers = cv2.findHomography(
        here, there, cv2.USAC_MAGSAC, distance, maxIters=10_000, confidence=0.9999
    )
    start = centred(source.shape, target.shape)
    fits: list[tuple[int, Mapping]] = []
    if affine is not None:
        fits.append((int(affine_inliers.sum()), np.vstack([affine, [0.0, 0.0, 1.0]])))
    if projective is not None:
        fits.append((int(projective_inliers.sum()), np.asarray(projective, np.float64)))
    candidates = [(count, mapping) for count, mapping in fits if _plausible(mapping, start, source.shape)]
    agreeing = max((count for count, _ in candidates), default=0)
    if agreeing < _FEWEST_INLIERS:
        raise UserError(
            f"{agreeing} of {len(close)} matched keypoints agree on a mapping, "
            f"at least {_FEWEST_INLIERS} are needed"
        )
    # Affine comes first: the simpler mapping wins unless the other explains clearly more.
    return next(mapping for count, mapping in candidates if count * _PERSPECTIVE_GAIN >= agreeing)


def _plausible(mapping: Mapping, start: Mapping, size: Size) -> bool:
    """Whether every part of the picture keeps its orientation, and its area to a factor of 4 of what the sizes suggest."""
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    there = cv2.perspectiveTransform(corners[:, None], mapping)[:, 0]
    ahead, behind = np.roll(there, -1, axis=0) - there, there - np.roll(there, 1, axis=0)
    # Twice the area of the triangle at each corner, relative to what the photos' sizes suggest.
    areas = (behind[:, 0] * ahead[:, 1] - behind[:, 1] * ahead[:, 0]) / (
        (width - 1) * (height - 1) * np.linalg.det(start[:2, :2])
    )
    return bool((areas > 1 / _LARGEST_CHANGE).all() and (areas < _LARGEST_CHANGE).all())


def _keypoints(grey: Grey) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(n, 2) positions in pixels, and (n, 128) SIFT descriptors."""
    scale = min(1.0, _SIDE / max(grey.shape))
    small = resized(grey, scale)
    low, high = _range(small)
    stretched = np.rint(np.clip((small - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    # Local contrast enhancement: in haze hardly any keypoint would pass SIFT's threshold.
    levelled = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(stretched)
    everywhere = np.full(levelled.shape, 255, np.uint8)
    found, features = cv2.SIFT.create(nfeatures=4000, contrastThreshold=0.02).detectAndCompute(
        levelled, everywhere
    )
    if not found:
        return np.empty((0, 2)), np.empty((0, 128), np.float32)
    places = np.array([point.pt for point in found], np.float64)
    factors = np.array([grey.shape[1] / small.shape[1], grey.shape[0] / small.shape[0]])
    return (places + 0.5) * factors - 0.5, np.asarray(features, np.float32)


def _range(grey: Grey) -> tuple[float, float]:
    """Quantiles near the darkest and the brightest value, so that a lamp does not compress everything else."""
    low, high = np.quantile(grey, (0.005, 0.995))
    return float(low), float(max(high, low + 1e-3))
