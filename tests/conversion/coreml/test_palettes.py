"""Palettes against the optimum that dynamic programming finds, and packed bits against those of coremltools."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from types import ModuleType

import numpy as np
import pytest

from afterlens.conversion.coreml.palettes import _by_density, _clusters, _with_one_moved, pack_bits, palettize
from afterlens.conversion.mil.package import unpack_bits
from tests.conversion.coreml.packages import Array


def _samples() -> dict[str, Array]:
    generator = np.random.default_rng(3)
    return {
        "normal": generator.standard_normal(20000),
        "long tails": generator.standard_t(3, 20000),
        "two heaps": np.concatenate([generator.normal(-2, 0.1, 5000), generator.normal(1, 0.5, 15000)]),
        "one far away": np.concatenate([generator.standard_normal(4000), [60.0]]),
    }


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("kind", list(_samples()))
def test_a_palette_is_nearly_the_best_and_every_value_has_its_nearest(kind: str, bits: int) -> None:
    """The best: k-means of one dimension solved exactly, by dynamic programming, as coremltools brings it along."""
    from coremltools._deps import kmeans1d

    values = _samples()[kind].astype(np.float16).astype(np.float32)
    palette, indices = palettize(values, bits)
    assert palette.dtype == np.float16 and palette.shape == (1 << bits,)
    distances = np.abs(values[:, None].astype(np.float64) - palette.astype(np.float64))
    np.testing.assert_array_equal(distances[np.arange(values.size), indices], distances.min(1))
    levels, counts = np.unique(values, return_counts=True)
    best = np.array(kmeans1d.cluster(levels, 1 << bits, weights=counts).centroids)
    optimum = np.square(np.abs(values[:, None] - best).min(1)).sum()
    found = np.square(distances.min(1)).sum()
    print(f"{kind}, {bits} bits: {found / optimum:.4f} of the optimum")
    assert found < 1.15 * optimum


def test_the_search_starts_with_entries_as_dense_as_the_cube_root_of_the_values() -> None:
    """Uniform values ask for equal steps; of a normal density the cube root is a normal density, wider by the root of 3."""
    middles = (np.arange(16) + 0.5) / 16
    evenly = (np.arange(20000) + 0.5) / 20000
    one_each = np.ones(20000)
    np.testing.assert_allclose(_by_density(evenly, one_each, 16), middles, atol=2e-3)
    normal = NormalDist()
    values = np.array([normal.inv_cdf(share) for share in evenly])
    expected = np.array([math.sqrt(3.0) * normal.inv_cdf(share) for share in middles])
    np.testing.assert_allclose(_by_density(values, one_each, 16), expected, atol=0.12)


def test_a_cluster_has_the_count_mean_and_error_of_its_values() -> None:
    """Against a loop; an empty one has no mean, and no error."""
    generator = np.random.default_rng(0)
    levels = np.sort(generator.standard_normal(40))
    counts = generator.integers(1, 5, 40)
    edges = np.array([0, 7, 7, 8, 31, 40])
    found = _clusters(levels, counts, edges)
    for place, (low, high) in enumerate(itertools.pairwise(edges)):
        values = np.repeat(levels[low:high], counts[low:high])
        number, mean, error = (part[place] for part in found)
        assert number == len(values)
        assert np.isnan(mean) if low == high else mean == pytest.approx(values.mean())
        assert error == pytest.approx(
            np.square(values - values.mean()).sum() if low < high else 0.0, abs=1e-9
        )


def test_a_cluster_moves_from_where_it_is_hardly_needed_to_where_it_is() -> None:
    """Three heaps, two entries in the same one: the others share one, until one moves."""
    heaps = [np.linspace(place - 0.1, place + 0.1, 101) for place in (-10.0, 0.0, 1.0)]
    levels, counts = np.concatenate(heaps), np.ones(303)
    moved = _with_one_moved(levels, counts, np.array([-10.05, -9.95, 0.5]))
    assert moved == pytest.approx([-10.0, 0.0, 1.0], abs=0.03)
    settled = np.array([-10.0, 0.0, 1.0])
    assert _with_one_moved(levels, counts, settled) == pytest.approx(settled)  # nothing would help


def test_few_different_values_are_kept_exactly() -> None:
    values = np.array([0.5, -1.0, 0.25] * 5, np.float32)
    palette, indices = palettize(values, 4)
    np.testing.assert_array_equal(palette[indices], values)


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("count", [1, 37, 4096])
def test_bits_are_packed_as_coremltools_packs_them(bits: int, count: int, cto: ModuleType) -> None:
    from coremltools.optimize._utils import pack_elements_into_bits

    values = np.random.default_rng(count).integers(0, 1 << bits, count).astype(np.uint8)
    packed = pack_bits(values, bits)
    np.testing.assert_array_equal(packed, pack_elements_into_bits(values, bits))
    np.testing.assert_array_equal(unpack_bits(packed, bits, count), values)
