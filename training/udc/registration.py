"""Where is each pixel of one photo in another of the same scene, when one of them is hazy, darker, noisier or blurred.

    found = register(input_grey, target_grey, threshold=16.0)
    found.deviation, found.branch, found.residual       # pixels, "mutual information" or "keypoints", pixels
    aligned = warp(target_rgb, found.mapping, input_grey.shape)

Photos are (H, W) float32 grey, [0, 1], and may differ in size. A mapping is a (3, 3) float64 matrix that takes
homogeneous input pixels (x, y, 1) to target pixels; pixel centres have whole coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from afterlens.training.media.errors import UserError

Grey = NDArray[np.float32]
Mapping = NDArray[np.float64]
Size = tuple[int, ...]  # height, width (and perhaps channels, which do not count)
Branch = Literal["mutual information", "keypoints"]

# Mutual information
_BINS = 32  # of the joint histogram; a photo of 300 thousand pixels fills 32x32 well
_COARSEST_SIDE = 48  # pixels, shorter side of the pyramid's top: less has no structure left
_FINEST_AREA = 400_000  # pixels; more cost time, and the error is below a tenth of a pixel of this level
_SURROUNDINGS, _NOISE = 8.0, 0.01  # pixels of the level; grey range, below it contrast is not stretched
_STEPS = 40  # a level converges in about ten
_LONGEST_STEP = 2.0  # pixels of the level; the gradient says nothing about what is further away
_SMALLEST_STEP = 0.005  # pixels of the level

# Keypoints
_KEYPOINT_SIDE = 1600  # pixels, longer side; SIFT has no more to say on larger photos, only slower
_RATIO = 0.8  # Lowe's, best match to second best
_INLIER_DISTANCE = 2.0  # pixels
_FEWEST_INLIERS = 15
_LARGEST_CHANGE = 4.0  # of area against the photos' sizes, and of one part of the picture against another
_PERSPECTIVE_GAIN = 1.1  # two more parameters must explain a tenth more matches

# Blocks
_BLOCK, _SEARCH = 40, 12  # pixels, side of a block and how far it is looked for
_BLOCKS = 150  # looked for, at most
_FEWEST_BLOCKS = 6
_BLOCK_SCORE = 0.45  # normalised correlation; unrelated blocks of this size reach about 0.3
MATCHED = 0.3  # share of the blocks that confirms a mapping
_CONFIRMED = 1.0  # pixels
_WORTHWHILE = 0.03  # pixels; what the blocks gain by less is no reason to resample a photo
_FLAT = 0.004  # standard deviation of the band-passed block, in units of the grey range


@dataclass(frozen=True)
class Shifts:
    """What blocks of the input say of a mapping: how far from the mapped place their content is found."""

    points: NDArray[np.float64]  # (n, 2) centres of the matched blocks, x and y in input pixels
    vectors: NDArray[np.float64]  # (n, 2) in input pixels
    looked_for: int  # blocks with structure, matched or not

    @property
    def matched(self) -> float:
        """Share of the blocks with structure that were found again, 0 to 1; 0 if these are too few to say anything."""
        return len(self.vectors) / self.looked_for if len(self.vectors) >= _FEWEST_BLOCKS else 0.0

    def length(self, quantile: float) -> float:
        """Quantile of the vectors' lengths, in input pixels."""
        return float(np.quantile(np.linalg.norm(self.vectors, axis=1), quantile))


@dataclass(frozen=True)
class Registration:
    """A mapping, how it was found, and what the blocks say of it."""

    deviation: float | None  # median distance before, in input pixels; None where nothing could measure it
    branch: Branch
    mapping: Mapping
    residual: float  # median distance after, in input pixels; infinite where no block was found again
    matched: float  # share of the blocks that were found again, 0 to 1


def register(source: Grey, target: Grey, *, threshold: float) -> Registration:
    """Find the mapping from input to target pixels.

    The deviation is measured by keypoints, and where it is small or too few of them agree by blocks. Up to
    ``threshold`` pixels the mapping comes from mutual information (or is left alone, where that brings the blocks no
    closer), above it from keypoints, refined by mutual information if the blocks are closer for it. Where the blocks
    do not confirm the result, the other way is tried, and the better one is taken.

    Raises UserError where neither way finds a mapping.
    """
    start = centred(source.shape, target.shape)
    by_points: Mapping | None = None
    vectors = np.empty((0, 2))
    try:
        by_points = by_keypoints(source, target)
        vectors = _displacements(by_points, start, source.shape)
    except UserError:
        pass  # the blocks may know
    if not len(vectors) or np.median(np.linalg.norm(vectors, axis=1)) < _SEARCH / 2:
        blocks = shifts_at_any_scale(source, target, start)
        vectors = vectors if blocks is None else blocks.vectors
    deviation = float(np.median(np.linalg.norm(vectors, axis=1))) if len(vectors) else None
    # The median shift is known already: what is left for mutual information is rotation, scale and a rest.
    shift = np.median(vectors, axis=0) if len(vectors) else np.zeros(2)
    shifted = start @ np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])

    def informed() -> list[Mapping]:
        return [by_mutual_information(source, target, shifted), start]

    def matched() -> list[Mapping]:
        points = by_keypoints(source, target) if by_points is None else by_points
        return [points, by_mutual_information(source, target, points)]

    ways: list[tuple[Branch, Callable[[], list[Mapping]]]] = [
        ("mutual information", informed),
        ("keypoints", matched),
    ]
    if deviation is None or deviation > threshold:
        ways.reverse()
    attempts: list[Registration] = []
    reasons: list[str] = []
    for branch, way in ways:
        try:
            mappings = way()
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


def centred(input_size: Size, target_size: Size) -> Mapping:
    """The mapping that lays the middle of a (height, width) on that of another, at the scale of their areas."""
    (height, width), (target_height, target_width) = input_size[:2], target_size[:2]
    scale = ((target_height * target_width) / (height * width)) ** 0.5
    middle, target_middle = (
        ((width - 1) / 2, (height - 1) / 2),
        ((target_width - 1) / 2, (target_height - 1) / 2),
    )
    return np.array(
        [
            [scale, 0, target_middle[0] - scale * middle[0]],
            [0, scale, target_middle[1] - scale * middle[1]],
            [0, 0, 1],
        ]
    )


def warp(image: NDArray[np.float32], mapping: Mapping, size: Size) -> NDArray[np.float32]:
    """The target, (H, W) or (H, W, 3), as seen from the input's (height, width); NaN where the target has no pixel."""
    height, width = size[:2]
    warped = np.empty((height, width, *image.shape[2:]), np.float32)
    for top in range(0, height, 256):  # in bands: the places of all pixels of a large photo take gigabytes
        rows = min(256, height - top)
        places = _places(mapping, top, rows, width)
        x, y = places[..., 0], places[..., 1]
        band = cv2.remap(
            image,
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_LANCZOS4,
            borderMode=cv2.BORDER_REPLICATE,
        )
        slack = 1e-6  # rounding must not cost the border of a photo that stays where it is
        inside = (
            (x >= -slack)
            & (y >= -slack)
            & (x <= image.shape[1] - 1 + slack)
            & (y <= image.shape[0] - 1 + slack)
        )
        band[~inside] = np.nan
        warped[top : top + rows] = band
    return warped


def enlargement(mapping: Mapping) -> float:
    """Target pixels to an input pixel, along a side."""
    return float(np.sqrt(abs(np.linalg.det(mapping[:2, :2]))))


# --- blocks -------------------------------------------------------------------------------------------------


def shifts_at_any_scale(source: Grey, target: Grey, start: Mapping) -> Shifts | None:
    """The local shifts between two photos, at the finest scale whose search range holds them.

    None where too few blocks are found again at any scale: then they lie further apart than a twentieth of the
    picture, are turned by more than about 10 degrees, or show different things.
    """
    found = None
    longer = max(source.shape)
    for side in (256, 512, 1024, 2048):
        if found is not None and (side > longer or found.length(0.5) * side / longer > _SEARCH / 2):
            break
        finer = local_shifts(source, target, start, side=min(side, longer))
        if finer.matched > 0.5:
            found = finer
    return found


def local_shifts(source: Grey, target: Grey, mapping: Mapping, *, side: int = _KEYPOINT_SIDE) -> Shifts:
    """Look for blocks of the input around the places where ``mapping`` says they are in the target.

    Normalised correlation of band-passed blocks, which neither gain nor offset changes, be they local (haze). It knows
    nothing of how the mapping was found, so that it can be its judge.

    Args:
        side: the input's longer side while it is compared, in pixels; the search range is 12 of those, less on small
            photos.
    """
    small, moving, inner, scale = _at_scale(source, target, mapping, min(1.0, side / max(source.shape)))
    height, width = small.shape
    warped = warp(moving, inner, (height, width))
    valid = ~np.isnan(warped)
    fixed, warped = _band_pass(small), _band_pass(np.where(valid, warped, small))
    block = min(_BLOCK, min(height, width) // 5)
    search = min(_SEARCH, max(4, min(height, width) // 16))  # a narrow photo has no room for more
    step = max(block // 2, int((height * width / _BLOCKS) ** 0.5))
    points, vectors, looked_for = [], [], 0
    for top in range(search, height - block - search + 1, step):
        for left in range(search, width - block - search + 1, step):
            around = np.s_[top - search : top + block + search, left - search : left + block + search]
            pattern = fixed[top : top + block, left : left + block]
            if pattern.std() < _FLAT or not valid[around].all():
                continue
            looked_for += 1
            scores = cv2.matchTemplate(warped[around], pattern, cv2.TM_CCOEFF_NORMED)
            shift = _peak(np.asarray(scores, np.float32))
            if shift is not None:
                points.append((left + (block - 1) / 2, top + (block - 1) / 2))
                vectors.append(shift)
    return Shifts(
        (np.array(points).reshape(-1, 2) + 0.5) / scale - 0.5,
        np.array(vectors).reshape(-1, 2) / scale,
        looked_for,
    )


def _band_pass(grey: Grey) -> Grey:
    # In rough logarithm, so that a dark photo has as much structure as a bright one.
    tone = np.sqrt(np.clip(grey, 0.0, 1.0))
    band: Grey = cv2.GaussianBlur(tone, (0, 0), 1.5) - cv2.GaussianBlur(tone, (0, 0), 5.0)
    return band


def _peak(scores: NDArray[np.float32]) -> tuple[float, float] | None:
    """(x, y) of the highest score from the middle, to a fraction of a pixel; None if it is low or at the border."""
    _, highest, _, (x, y) = cv2.minMaxLoc(scores)
    last = len(scores) - 1
    if highest < _BLOCK_SCORE or not (0 < x < last and 0 < y < last):
        return None
    # The top of the quadratic through the neighbours. Its mixed term matters: on a slanted edge the two axes'
    # parabolas by themselves were 0.15 pixels off.
    (a, b, c), (d, e, f), (g, h, i) = scores[y - 1 : y + 2, x - 1 : x + 2].astype(np.float64)
    slope_x, slope_y = (f - d) / 2, (h - b) / 2
    bend_x, bend_y, mixed = d - 2 * e + f, b - 2 * e + h, (a - c - g + i) / 4
    determinant = bend_x * bend_y - mixed**2
    if bend_x >= 0 or determinant <= 0:
        return None
    right = (mixed * slope_y - bend_y * slope_x) / determinant
    down = (mixed * slope_x - bend_x * slope_y) / determinant
    return x + np.clip(right, -1, 1) - last / 2, y + np.clip(down, -1, 1) - last / 2


# --- mutual information -------------------------------------------------------------------------------------


def by_mutual_information(source: Grey, target: Grey, start: Mapping) -> Mapping:
    """Maximise the mutual information of the two photos' grey values from ``start``: first over translations, then
    over affine mappings, from coarse to fine (Viola and Wells 1997; Mattes et al. 2003).

    Reaches about a tenth of the shorter side. Raises UserError where the photos overlap too little to say anything.
    """
    shorter, area = min(source.shape), source.shape[0] * source.shape[1]
    finest = min(1.0, (_FINEST_AREA / area) ** 0.5)
    coarsest = min(finest, _COARSEST_SIDE / shorter)
    levels = max(1, round(np.log2(finest / coarsest)) + 1)
    mapping = start
    for level, scale in enumerate(np.geomspace(coarsest, finest, levels)):
        small, moving, inner, _ = _at_scale(source, target, mapping, float(scale))
        change = _climb(small, moving, inner, parameters=2 if level == 0 and levels > 1 else 6)
        mapping = mapping @ _rescaled(change, source.shape, small.shape)
        mapping /= mapping[2, 2]
    return mapping


def _climb(fixed: Grey, moving: Grey, mapping: Mapping, *, parameters: int) -> Mapping:
    """The change before ``mapping`` that maximises mutual information.

    By scoring steps: the gradient of the mean log-likelihood ratio, preconditioned by the outer product of its
    samples, halved until the information grows.
    """
    height, width = fixed.shape
    bins = np.rint(_levelled(fixed)).astype(np.int64)
    moving = _levelled(moving)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = max(height, width) / 2
    u, v = (x - (width - 1) / 2) / radius, (y - (height - 1) / 2) / radius

    change = np.eye(3)
    information, scores, slopes = _information(bins, warp(moving, mapping, (height, width)))
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
            better = _information(bins, warp(moving, mapping @ tried, (height, width)))
            if better[0] > information:
                break
            step = step / 2
        else:
            return change
        change = tried
        information, scores, slopes = better
    return change


def _small_affine(step: NDArray[np.float64], radius: float, middle_x: float, middle_y: float) -> Mapping:
    """Pixels are moved by step[:2], and by step[2:] more at ``radius`` to the right of and below the middle."""
    a, b, c, d = step[2:] / radius if len(step) == 6 else np.zeros(4)
    linear = np.array([[1 + a, b], [c, 1 + d]])
    middle = np.array([middle_x, middle_y])
    affine = np.eye(3)
    affine[:2, :2] = linear
    affine[:2, 2] = middle + step[:2] - linear @ middle
    return affine


def _information(
    bins: NDArray[np.int64], warped: Grey
) -> tuple[float, NDArray[np.float32], tuple[Grey, Grey]]:
    """Mutual information in nats of a quantised photo and a warped one (NaN = not there) with values 0 to _BINS - 1.

    Also, for each pixel, how its log-likelihood ratio grows with the warped value (0 where there is none), and the
    warped photo's slopes along x and y.
    """
    slope_y, slope_x = np.gradient(warped)
    valid = ~(np.isnan(warped) | np.isnan(slope_x) | np.isnan(slope_y))
    if valid.mean() < 0.1:
        raise UserError("the photos overlap by less than a tenth")
    values, chosen = np.clip(warped[valid], 0, _BINS - 1), bins[valid]  # Lanczos overshoots
    floor = np.minimum(values.astype(np.int64), _BINS - 2)
    part = values - floor
    cells = chosen * _BINS + floor
    # Each value counts in the two bins beside it, and the Gaussian makes that a smooth Parzen window.
    counts = np.bincount(cells, 1 - part, _BINS**2) + np.bincount(cells + 1, part, _BINS**2)
    smooth = _parzen(counts.astype(np.float64).reshape(_BINS, _BINS))
    joint = smooth / smooth.sum() + 1e-9
    ratio = np.log(joint / (joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)))
    # A value that counts through a window earns what lies under the window.
    earned = _parzen(ratio).ravel()
    scores = np.zeros(warped.shape, np.float32)
    scores[valid] = earned[cells + 1] - earned[cells]
    slopes = (np.where(valid, slope_x, 0), np.where(valid, slope_y, 0))
    return float((joint * ratio).sum()), scores, slopes


def _parzen(table: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.GaussianBlur(table, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT), np.float64)


def _levelled(grey: Grey) -> Grey:
    """Values from 0 to _BINS - 1 relative to the surroundings' mean and contrast.

    Haze that is denser on one side gives one grey of the target many greys in the input; on plain greys the best
    mutual information was then up to 0.8 pixels off.
    """
    tone = cv2.GaussianBlur(np.sqrt(grey), (0, 0), 0.7)  # so that interpolation's own blur is no clue
    detail = np.asarray(tone - cv2.GaussianBlur(tone, (0, 0), _SURROUNDINGS), np.float32)
    contrast = np.sqrt(cv2.GaussianBlur(detail**2, (0, 0), _SURROUNDINGS))
    detail /= contrast + _NOISE
    return np.clip((detail / 2.5 + 1) * (_BINS - 1) / 2, 0, _BINS - 1)


def _range(grey: Grey) -> tuple[float, float]:
    """Nearly the darkest and the brightest value: lamps must not squeeze all the rest into two bins."""
    low, high = np.quantile(grey, (0.005, 0.995))
    return float(low), float(max(high, low + 1e-3))


# --- keypoints ----------------------------------------------------------------------------------------------


def by_keypoints(source: Grey, target: Grey) -> Mapping:
    """Match SIFT keypoints and fit a mapping that most matches agree with (MAGSAC++): affine, or projective where
    that explains a tenth more of them.

    Raises UserError where fewer than 15 matches agree.
    """
    points, features = _keypoints(source)
    target_points, target_features = _keypoints(target)
    if min(len(points), len(target_points)) < _FEWEST_INLIERS:
        raise UserError(
            f"{len(points)} and {len(target_points)} keypoints, at least {_FEWEST_INLIERS} are needed"
        )
    two_best = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, target_features, k=2)
    clear = [best for best, second in two_best if best.distance < _RATIO * second.distance]
    # One a target keypoint: otherwise a mapping that shrinks all to a point finds its followers.
    close = list({match.trainIdx: match for match in sorted(clear, key=lambda m: -m.distance)}.values())
    if len(close) < _FEWEST_INLIERS:
        raise UserError(f"{len(close)} matched keypoints, at least {_FEWEST_INLIERS} are needed")
    here = points[[match.queryIdx for match in close]]
    there = target_points[[match.trainIdx for match in close]]
    distance = _INLIER_DISTANCE * max(1.0, max(target.shape) / _KEYPOINT_SIDE)
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
    # The first that explains nearly as many: the simpler one.
    return next(mapping for count, mapping in candidates if count * _PERSPECTIVE_GAIN >= agreeing)


def _plausible(mapping: Mapping, start: Mapping, size: Size) -> bool:
    """Whether no part of the picture is mirrored, or enlarged by far more or less than the photos' sizes say."""
    height, width = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    there = cv2.perspectiveTransform(corners[:, None], mapping)[:, 0]
    ahead, behind = np.roll(there, -1, axis=0) - there, there - np.roll(there, 1, axis=0)
    # Twice the area of the triangle at each corner, against that of the photos' sizes.
    areas = (behind[:, 0] * ahead[:, 1] - behind[:, 1] * ahead[:, 0]) / (
        (width - 1) * (height - 1) * np.linalg.det(start[:2, :2])
    )
    return bool((areas > 1 / _LARGEST_CHANGE).all() and (areas < _LARGEST_CHANGE).all())


def _keypoints(grey: Grey) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """(n, 2) places in pixels, and (n, 128) SIFT descriptors."""
    scale = min(1.0, _KEYPOINT_SIDE / max(grey.shape))
    small = _resized(grey, scale)
    low, high = _range(small)
    stretched = np.rint(np.clip((small - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    # Local contrast: under haze SIFT's threshold would leave nearly nothing.
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


# --- scales -------------------------------------------------------------------------------------------------


def _at_scale(
    source: Grey, target: Grey, mapping: Mapping, scale: float
) -> tuple[Grey, Grey, Mapping, float]:
    """Both photos reduced so that a pixel means about the same in both, the mapping between these, and the scale."""
    small = _resized(source, scale)
    moving = _resized(target, min(1.0, scale / max(enlargement(mapping), 1e-3)))
    inner = _scaling(target.shape, moving.shape) @ mapping @ _scaling(small.shape, source.shape)
    return small, moving, inner / inner[2, 2], small.shape[1] / source.shape[1]


def _rescaled(change: Mapping, full: Size, small: Size) -> Mapping:
    """A change of the small photo's pixels as one of the full photo's."""
    return _scaling(small, full) @ change @ _scaling(full, small)


def _scaling(size: Size, new: Size) -> Mapping:
    """Pixel coordinates of a photo of ``size`` (height, width) -> of the same photo resized to ``new``."""
    x, y = new[1] / size[1], new[0] / size[0]
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _resized(grey: Grey, scale: float) -> Grey:
    height, width = grey.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (width, height):
        return grey
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _places(mapping: Mapping, top: int, rows: int, width: int) -> NDArray[np.float64]:
    """(rows, width, 2): where the input's pixels of these rows are in the target, x and y."""
    y, x = np.mgrid[top : top + rows, :width].astype(np.float64)
    homogeneous = [row[0] * x + row[1] * y + row[2] for row in mapping]
    return np.stack([homogeneous[0] / homogeneous[2], homogeneous[1] / homogeneous[2]], axis=-1)


def _displacements(mapping: Mapping, start: Mapping, size: Size) -> NDArray[np.float64]:
    """(n, 2): by how many input pixels ``mapping`` differs from ``start``, on a grid over the input."""
    height, width = size
    y, x = np.mgrid[0 : height - 1 : 15j, 0 : width - 1 : 15j]
    grid = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
    there = cv2.perspectiveTransform(grid, np.linalg.inv(start) @ mapping)
    return np.asarray(there - grid)[:, 0]
