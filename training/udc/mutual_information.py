"""Registration by mutual information, for photos whose grey values differ by haze, exposure or noise.

    mapping = by_mutual_information(input_grey, target_grey, start)

After Viola and Wells, *Alignment by Maximization of Mutual Information* (IJCV 1997), and Mattes et al., *PET-CT Image
Registration in the Chest Using Free-form Deformations* (IEEE TMI 2003): a smooth joint histogram, its gradient, and a
pyramid from coarse to fine. Grey values are first made relative to their surroundings.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError
from afterlens.training.udc.geometry import Grey, Mapping, at_scale, rescaled, warp

BINS = 32  # of the joint histogram's axes; a photo of 300,000 pixels fills 32x32 bins well

_COARSEST_SIDE = 48  # pixels, shorter side of the coarsest level; smaller ones have too little structure
_FINEST_AREA = 400_000  # pixels; larger levels are slow, and the error is below a tenth of a pixel here
_SURROUNDINGS = 8.0  # pixels of the level, standard deviation of the Gaussian window
_NOISE = 0.01  # of the grey range; contrast below it is not amplified
_STEPS = 40  # a level converges in about ten
_LONGEST_STEP = 2.0  # pixels of the level; the gradient does not predict further than that
_SMALLEST_STEP = 0.005  # pixels of the level


def by_mutual_information(source: Grey, target: Grey, start: Mapping) -> Mapping:
    """The mapping of the highest mutual information near ``start``, from coarse to fine.

    Translations at the coarsest level, affine changes at the others. The capture range is about a tenth of the shorter
    side. Raises UserError where the photos overlap by less than a tenth.
    """
    shorter, area = min(source.shape), source.shape[0] * source.shape[1]
    finest = min(1.0, (_FINEST_AREA / area) ** 0.5)
    coarsest = min(finest, _COARSEST_SIDE / shorter)
    levels = max(1, round(np.log2(finest / coarsest)) + 1)
    mapping = start
    for level, scale in enumerate(np.geomspace(coarsest, finest, levels)):
        small, moving, inner, _ = at_scale(source, target, mapping, float(scale))
        change = _climb(small, moving, inner, parameters=2 if level == 0 and levels > 1 else 6)
        mapping = mapping @ rescaled(change, source.shape, small.shape)
        mapping /= mapping[2, 2]
    return mapping


def _climb(fixed: Grey, moving: Grey, mapping: Mapping, *, parameters: int) -> Mapping:
    """The change of the input's pixels, applied before ``mapping``, that maximises mutual information.

    Fisher scoring: the gradient of the mean log-likelihood ratio is preconditioned by the sum of its samples' outer
    products, and the step is halved until mutual information grows.
    """
    height, width = fixed.shape
    bins = np.rint(_local_contrast(fixed)).astype(np.int64)
    moving = _local_contrast(moving)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = max(height, width) / 2
    u, v = (x - (width - 1) / 2) / radius, (y - (height - 1) / 2) / radius

    change = np.eye(3)
    information, scores, slopes = mutual_information(bins, warp(moving, mapping, (height, width)))
    for _ in range(_STEPS):
        slope_x, slope_y = slopes
        rows = [scores * slope_x, scores * slope_y]
        if parameters == 6:
            rows = [*rows, rows[0] * u, rows[0] * v, rows[1] * u, rows[1] * v]
        samples = np.stack([row.ravel() for row in rows]).astype(np.float64)
        curvature = samples @ samples.T
        curvature += 1e-6 * np.trace(curvature) * np.eye(parameters) + 1e-12 * np.eye(parameters)
        step = np.linalg.solve(curvature, samples.sum(axis=1))
        step *= min(1.0, _LONGEST_STEP / max(1e-9, float(np.linalg.norm(step))))
        while np.linalg.norm(step) > _SMALLEST_STEP:
            tried = change @ _small_affine(step, radius, (width - 1) / 2, (height - 1) / 2)
            better = mutual_information(bins, warp(moving, mapping @ tried, (height, width)))
            if better[0] > information:
                break
            step = step / 2
        else:
            return change
        change = tried
        information, scores, slopes = better
    return change


def _small_affine(step: NDArray[np.float64], radius: float, middle_x: float, middle_y: float) -> Mapping:
    """An affine change: step[:2] is the shift in pixels at the middle, step[2:] what is added ``radius`` away from it."""
    a, b, c, d = step[2:] / radius if len(step) == 6 else np.zeros(4)
    linear = np.array([[1 + a, b], [c, 1 + d]])
    middle = np.array([middle_x, middle_y])
    affine = np.eye(3)
    affine[:2, :2] = linear
    affine[:2, 2] = middle + step[:2] - linear @ middle
    return affine


def mutual_information(
    bins: NDArray[np.int64], warped: Grey
) -> tuple[float, NDArray[np.float32], tuple[Grey, Grey]]:
    """Mutual information, in nats, of a quantised photo and a warped one, both with values from 0 to BINS - 1.

    NaN marks pixels that the warped photo lacks.

    Returns: the information; for each pixel the derivative of its log-likelihood ratio by the warped value, 0 where it
        is NaN; and the warped photo's derivatives along x and y.
    """
    slope_y, slope_x = np.gradient(warped)
    valid = ~(np.isnan(warped) | np.isnan(slope_x) | np.isnan(slope_y))
    if valid.mean() < 0.1:
        raise UserError("the photos overlap by less than a tenth")
    values, chosen = np.clip(warped[valid], 0, BINS - 1), bins[valid]  # Lanczos overshoots
    floor = np.minimum(values.astype(np.int64), BINS - 2)
    part = values - floor
    cells = chosen * BINS + floor
    # Each value is shared between its two nearest bins; the Gaussian turns that into a smooth Parzen window.
    counts = np.bincount(cells, 1 - part, BINS**2) + np.bincount(cells + 1, part, BINS**2)
    smooth = _parzen(counts.astype(np.float64).reshape(BINS, BINS))
    joint = smooth / smooth.sum() + 1e-9
    ratio = np.log(joint / (joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)))
    # The derivative passes through the same window as the values did.
    earned = _parzen(ratio).ravel()
    scores = np.zeros(warped.shape, np.float32)
    scores[valid] = earned[cells + 1] - earned[cells]
    slopes = (np.where(valid, slope_x, 0), np.where(valid, slope_y, 0))
    return float((joint * ratio).sum()), scores, slopes


def _parzen(table: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(table, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT), np.float64)


def _local_contrast(grey: Grey) -> Grey:
    """Grey values relative to the local mean and contrast, from 0 to BINS - 1.

    Haze of uneven density maps one grey value of the target to many in the input. Without this normalisation, mutual
    information was highest up to 0.8 pixels away from the correct alignment.
    """
    tone = cv2.GaussianBlur(
        np.sqrt(grey), (0, 0), 0.7
    )  # hides the blur of interpolation, which would attract the maximum
    detail = np.asarray(tone - cv2.GaussianBlur(tone, (0, 0), _SURROUNDINGS), np.float32)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), _SURROUNDINGS))
    detail /= contrast + _NOISE
    return np.clip((detail / 2.5 + 1) * (BINS - 1) / 2, 0, BINS - 1)
