"""The kinds of degradation in linear light: shared exposure, light that is only added or taken, drops, occluders."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from afterlens.training.data import cached_photo, random_crop, seeded
from afterlens.training.media.light import to_linear, to_srgb
from afterlens.training.reflection import synthesis
from afterlens.training.reflection.droplets import drop_field, droplets, refracted
from afterlens.training.reflection.kinds import KINDS, degrade
from afterlens.training.reflection.occluders import edge_mask, fence_mask, occlude, surface
from afterlens.training.reflection.panes import (
    auto_exposure,
    coverage,
    luma,
    magnified,
    mirrored_scene,
    pane_reflection,
    quantile,
)
from afterlens.training.reflection.shadows import cast_shadow, penumbra, ramp, silhouette

NEW = KINDS[len(synthesis.KINDS) :]


@pytest.fixture(scope="module")
def photos(photo_paths: list[Path]) -> list[Tensor]:
    return [random_crop(cached_photo(path), 96, seeded(i)) for i, path in enumerate(photo_paths[:2])]


@pytest.mark.parametrize("kind", NEW)
def test_samples_are_pictures_that_depend_on_the_generator_alone(photos: list[Tensor], kind: str) -> None:
    photo, other = photos
    before = photo.clone()
    changes = 0
    for seed in range(6):
        sample = degrade(photo, other, kind, seeded(seed))
        again = degrade(photo, other, kind, seeded(seed))
        for name, picture in sample.items():
            assert picture.shape == photo.shape and picture.dtype == torch.float32
            assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0 + 1e-6
            assert torch.equal(picture, again[name])
        changes += float((sample["input"] - sample["target"]).abs().max()) > 0.02
    assert changes >= 5
    assert torch.equal(photo, before), "the photo itself is left alone"


def test_older_kinds_are_unchanged_and_keep_the_photo_as_target(photos: list[Tensor]) -> None:
    photo, other = photos
    for kind in synthesis.KINDS:
        sample = degrade(photo, other, kind, seeded(3))
        assert torch.equal(sample["input"], synthesis.degrade(photo, other, kind, seeded(3)))
        assert sample["target"] is photo
    with pytest.raises(
        ValueError, match="unknown kind of degradation 'snow': expected one of region, .*object"
    ):
        degrade(photo, other, "snow", seeded(0))


@pytest.mark.parametrize("size", [(64, 64), (70, 133)])
@pytest.mark.parametrize("kind", NEW)
def test_any_shape_will_do(size: tuple[int, int], kind: str) -> None:
    photo, other = torch.rand(2, 3, *size, generator=seeded(1))
    assert degrade(photo, other, kind, seeded(2))["input"].shape == photo.shape


# --- panes ----------------------------------------------------------------------------------------------------


def test_panes_add_as_much_light_as_real_ones(photos: list[Tensor]) -> None:
    """Real pairs: a median of 0.02 to 0.11 of white, most of its energy wide, and nearly every block changed."""
    medians, blocks, wide = [], [], []
    for seed in range(60):
        mix, target = pane_reflection(photos[0], photos[1], seeded(seed))
        added = to_linear(mix) - to_linear(target)
        medians.append(float(added.median()))
        blocks.append(float(((mix - target).abs().mean(dim=0) > 0.012).float().mean()))
        smooth = synthesis.gaussian_blur(added, 12.0)
        wide.append(float(smooth.square().sum() / added.square().sum().clamp_min(1e-9)))
    median = sorted(medians)[30]
    print(f"median {median:.3f}, blocks {sum(blocks) / 60:.2f}, wide {sorted(wide)[30]:.2f}")
    assert 0.01 < median < 0.12
    assert sum(blocks) / 60 > 0.6
    assert sorted(wide)[30] > 0.5


def test_magnified_part_is_a_part(photos: list[Tensor]) -> None:
    assert torch.allclose(magnified(photos[0], 1.0, seeded(1)), photos[0], atol=1e-5)
    flat = torch.full((3, 40, 60), 0.3)
    assert torch.allclose(magnified(flat, 3.0, seeded(1)), flat, atol=1e-6)
    assert magnified(photos[0], 3.0, seeded(1)).diff(dim=2).abs().mean() < photos[0].diff(dim=2).abs().mean()


def test_mirrored_scene_has_its_95th_percentile_at_one(photos: list[Tensor]) -> None:
    for seed in range(5):
        scene = mirrored_scene(photos[1], seeded(seed))
        assert quantile(scene.amax(dim=0), 0.95) <= 1.0 + 1e-4
        assert float(scene.min()) >= 0.0


def test_coverage_is_a_share(photos: list[Tensor]) -> None:
    found = [coverage(40, 56, seeded(seed)) for seed in range(30)]
    assert all(c.shape == (1, 40, 56) and 0.0 <= float(c.min()) <= float(c.max()) <= 1.0 for c in found)
    assert 5 < sum(bool((c == 1.0).all()) for c in found) < 25


def test_exposure_brings_highlights_near_white_within_a_stop() -> None:
    grey = torch.full((3, 8, 8), 0.5)
    for seed in range(10):
        assert 0.75 <= auto_exposure(grey, seeded(seed)) * 0.5 <= 1.25
        assert auto_exposure(grey / 100, seeded(seed)) == 2.0
        assert auto_exposure(grey * 100, seeded(seed)) == 0.5


def test_luma_and_quantile() -> None:
    torch.testing.assert_close(luma(torch.ones(3, 2, 2)), torch.ones(1, 2, 2))
    assert quantile(torch.arange(101.0), 0.95) == 95.0


# --- shadows --------------------------------------------------------------------------------------------------


def test_shadows_only_take_light(photos: list[Tensor]) -> None:
    for seed in range(8):
        shaded, target = cast_shadow(photos[0], photos[1], seeded(seed))
        assert float((shaded - target).max()) <= 1e-5


def test_penumbra_widens_in_its_direction() -> None:
    mask = torch.zeros(1, 100, 100)
    mask[:, 50:] = 1.0  # a horizontal edge
    soft = penumbra(mask, 1.0, 9.0, angle=0.0)  # widens to the right
    assert float(soft.min()) >= 0.0 and float(soft.max()) <= 1.0 + 1e-5

    def width(column: int) -> int:
        values = soft[0, :, column]
        return int(((values > 0.1) & (values < 0.9)).sum())

    assert width(2) < width(50) < width(97)
    share = ramp(30, 40, math.pi / 2)
    assert float(share[0, 0].max()) == 0.0 and float(share[0, -1].min()) == 1.0


def test_silhouettes_are_masks_of_the_photos_shape(photos: list[Tensor]) -> None:
    for seed in range(6):
        mask = silhouette(photos[1], seeded(seed))
        assert mask.shape == (1, 96, 96) and set(mask.unique().tolist()) <= {0.0, 1.0}
        assert 0.05 < float(mask.mean()) < 0.95


# --- drops ----------------------------------------------------------------------------------------------------


def test_a_drop_shows_the_scene_upside_down() -> None:
    photo = torch.zeros(3, 81, 81)
    photo[:, :40] = 1.0  # bright above
    y, x = torch.meshgrid(torch.arange(81.0), torch.arange(81.0), indexing="ij")
    way = torch.stack([40 - x, 40 - y])
    shown = refracted(photo, way, 1.0)
    assert float(shown[:, 38].max()) == 0.0, "above the centre a drop shows what lies below"
    assert float(shown[:, 43].min()) == 1.0


def test_drops_cover_about_their_area() -> None:
    radius, way = drop_field(200, 200, [12.0], seeded(4))
    area = float((radius < 1.0).sum())
    assert way.shape == (2, 200, 200)
    assert 0.25 * math.pi * 144 < area < 2.2 * math.pi * 144


def test_drops_leave_the_rest_of_the_photo_as_it_is(photos: list[Tensor]) -> None:
    untouched = [
        float(((droplets(photos[0], seeded(seed)) - photos[0]).abs().amax(dim=0) < 1e-3).float().mean())
        for seed in range(10)
    ]
    assert sum(untouched) / 10 > 0.4


# --- occluders ------------------------------------------------------------------------------------------------


def test_a_fence_covers_its_share() -> None:
    mask = fence_mask(240, 240, seeded(1), pitch=40.0, thickness=4.0)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert abs(float(mask.mean()) - (1 - 0.9**2)) < 0.05


def test_things_from_the_edge_cover_the_area_asked_for() -> None:
    for seed in range(4):
        assert abs(float(edge_mask(80, 120, seeded(seed), 0.15).mean()) - 0.15) < 0.01


def test_occluders_hide_a_part_only(photos: list[Tensor]) -> None:
    hidden = [
        float(
            ((occlude(photos[0], photos[1], seeded(seed)) - photos[0]).abs().amax(dim=0) > 0.02)
            .float()
            .mean()
        )
        for seed in range(20)
    ]
    assert all(0.0 <= share < 0.9 for share in hidden)
    assert 0.03 < sum(hidden) / 20 < 0.5


def test_linear_light_is_undone_exactly() -> None:
    values = torch.linspace(0, 1, 50)
    torch.testing.assert_close(to_srgb(to_linear(values)), values)


def test_occluders_are_from_nearly_flat_to_as_rich_as_the_photo_they_are_of() -> None:
    blocks = torch.rand(1, 12, 12, generator=seeded(0)).round()
    other = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).expand(3, 96, 96).contiguous()
    contrasts = []
    for index in range(80):
        light = surface(other, seeded(1, index))
        contrasts.append(float(light.std() / light.mean()))
    print(f"{min(contrasts):.2f} to {max(contrasts):.2f}")
    assert min(contrasts) < 0.25 and max(contrasts) > 1.8  # where few blocks are bright
