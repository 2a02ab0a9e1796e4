"""Which crops are taken: the defaults change nothing, textured and colourful ones are what they say."""

from pathlib import Path

import pytest
import torch

from afterlens.training.crops import CropRecipe, chosen_crop, colourfulness, gradient, recoloured
from afterlens.training.data import cached_photo, random_crop, seeded
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import build


def test_defaults_take_the_one_random_crop(photo_paths: list[Path]) -> None:
    own, plain = seeded(3), seeded(3)
    got = chosen_crop(photo_paths, 1, 64, CropRecipe(), own)
    assert torch.equal(got, random_crop(cached_photo(photo_paths[1]), 64, plain))
    assert torch.equal(own.get_state(), plain.get_state()), "nothing else was drawn"


def test_textured_crops_have_more_gradient_and_colourful_ones_more_colour(photo_paths: list[Path]) -> None:
    def mean(crops: CropRecipe, measure: object) -> float:
        assert callable(measure)
        return sum(measure(chosen_crop(photo_paths, 0, 64, crops, seeded(i))) for i in range(40)) / 40

    plain, textured, colourful = CropRecipe(), CropRecipe(textured=1.0), CropRecipe(colourful=1.0)
    assert mean(textured, gradient) > 1.1 * mean(plain, gradient)
    assert mean(colourful, colourfulness) > 1.3 * mean(plain, colourfulness)


def test_gradient_and_colourfulness_of_known_crops() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(8).expand(3, 16, 16)
    assert gradient(stripes) == 1.0 and gradient(torch.full((3, 16, 16), 0.3)) == 0.0
    red = torch.zeros(3, 8, 8)
    red[0] = 0.75
    assert colourfulness(red) == 0.75 and colourfulness(stripes) == 0.0


def test_recoloured_crop_keeps_its_range_and_its_greys() -> None:
    crop = torch.rand(3, 8, 8, generator=seeded(1))
    changes = 0
    for seed in range(20):
        got = recoloured(crop, seeded(seed))
        assert got.shape == crop.shape and 0.0 <= float(got.min()) <= float(got.max()) <= 1.0
        changes += not torch.equal(got, crop)
        grey = torch.full((3, 8, 8), 0.4)
        torch.testing.assert_close(recoloured(grey, seeded(seed)), grey)
    assert 10 <= changes < 20


def test_crops_grow_at_the_start_of_a_batch() -> None:
    crops = CropRecipe(sizes=((0, 128), (20, 224)))
    sides = [crops.side(index, batch=8, otherwise=64) for index in range(32)]
    # Batches start at 0, 8, 16 and 24: the third has begun before sample 20.
    assert sides == [128] * 24 + [224] * 8
    assert CropRecipe().side(5, 8, 64) == 64
    assert CropRecipe(sizes=((8, 96),)).side(7, 8, 64) == 64


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"textured": 0.7, "colourful": 0.5}, "expected at most 1"),
        ({"sizes": [[8, 64], [0, 96]]}, "rising order of samples"),
        ({"textured": 2.0}, "textured is 2.0, expected a share from 0 to 1"),
    ],
)
def test_impossible_tables_are_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(CropRecipe, table, "here")
