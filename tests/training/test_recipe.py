"""Recipes: strict keys, types and ranges, each error naming its place; overrides with TOML values."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from torch import nn

from afterlens.training.deblur.network import DeblurNetwork
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import (
    Count,
    Positive,
    Share,
    TrainingRecipe,
    Weight,
    WholeNumber,
    build,
    read_recipe,
)
from afterlens.training.reflection.network import ReflectionNetwork
from afterlens.training.reflection.task import ReflectionRecipe
from afterlens.training.tasks import TASKS
from afterlens.training.udc.network import UnderDisplayNetwork

PATH = TASKS["reflection"].recipe_path


def test_bundled_recipes_are_valid_and_keep_a_share_of_clean_photos() -> None:
    for task in TASKS.values():
        assert isinstance(read_recipe(task.recipe_type, task.recipe_path).training, TrainingRecipe)
    shares = read_recipe(ReflectionRecipe, PATH).synthesis.kinds
    assert shares["clean"] / sum(shares.values()) >= 0.1 - 1e-9


def test_overrides_take_toml_values_and_bare_words() -> None:
    recipe = read_recipe(
        ReflectionRecipe,
        PATH,
        [
            "training.steps = 7",
            "training.learning_rate=1",  # an integer where a float is wanted
            "network.widths=[16, 32, 48]",
            "loss.vgg_weights=a/b.safetensors",
            'synthesis.pairs="with = sign"',
            "synthesis.kinds.shadow=0.5",
        ],
    )
    assert recipe.training.steps == 7
    assert recipe.training.learning_rate == 1.0 and isinstance(recipe.training.learning_rate, float)
    assert recipe.network.widths == (16, 32, 48)
    assert (recipe.loss.vgg_weights, recipe.synthesis.pairs) == ("a/b.safetensors", "with = sign")
    assert recipe.synthesis.kinds["shadow"] == 0.5


@pytest.mark.parametrize(
    ("kind", "taken", "refused"),
    [
        (Count, (1, 2**31 - 1), (0, 2**31)),
        (WholeNumber, (0, 2**31 - 1), (-1, 2**31)),
        (Weight, (0.0, 1e300), (-1e-9, math.inf, math.nan)),
        (Positive, (1e-300, 1e300), (0.0, math.inf, math.nan)),
        (Share, (0.0, 1.0), (-1e-9, 1.0 + 1e-9, math.nan)),
    ],
)
def test_every_kind_of_number_has_its_limits(kind: Any, taken: Sequence[Any], refused: Sequence[Any]) -> None:
    numbers = TypeAdapter(kind)
    assert [numbers.validate_python(value) for value in taken] == list(taken)
    for value in refused:
        with pytest.raises(ValidationError, match="expected"):
            numbers.validate_python(value)


@pytest.mark.parametrize(
    ("key", "taken", "refused"), [("crop", "32", "15"), ("ema", "0.0", "-0.1"), ("ema", "0.99999", "1.0")]
)
def test_settings_with_limits_of_their_own(key: str, taken: str, refused: str) -> None:
    read_recipe(ReflectionRecipe, PATH, [f"training.{key}={taken}"])
    with pytest.raises(UserError, match=f"training: {key} is {re.escape(refused)}, expected"):
        read_recipe(ReflectionRecipe, PATH, [f"training.{key}={refused}"])


def test_recipes_cannot_be_changed() -> None:
    recipe = read_recipe(ReflectionRecipe, PATH)
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.steps = 5


def test_recipe_survives_a_checkpoint() -> None:
    recipe = read_recipe(ReflectionRecipe, PATH)
    assert build(ReflectionRecipe, recipe.model_dump(mode="json"), "here") == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.stepz=5",
            "-s training.stepz=5: training: unknown key 'stepz', expected one of accumulate, batch",
        ),
        (
            "trainin.steps=5",
            "-s trainin.steps=5: unknown key 'trainin', expected one of budgets, crops, loss, network, synthesis",
        ),
        ("training.steps=many", "-s training.steps=many: training: steps is 'many', expected int"),
        ("training.steps=1.5", "training: steps is 1.5, expected int"),
        ("training.steps=true", "training: steps is True, expected int"),
        ("training.learning_rate=true", "training: learning_rate is True, expected float"),
        ("training=5", "training is 5, expected a table"),
        ("training.steps.more=5", "'steps' is not a table"),
        ("network.widths=[16, 32]", "network: widths is [16, 32], expected a list of 3"),
        ("network.widths=[16, 32, 40]", "network: widths is 40, expected multiples of 16"),
        ("network.depths=[0, 1, 1]", "network: depths is 0, expected 1 or more"),
        ("synthesis.kinds.snow=0.1", "synthesis.kinds is 'snow', expected some of region, reflection"),
        ("synthesis.kinds.shadow=-0.1", "kinds.shadow is -0.1, expected zero or more"),
        ("synthesis.kinds={clean = 0.0}", "expected a share above zero"),
        ("synthesis.pairs_ratio=1.1", "pairs_ratio is 1.1, expected a share from 0 to 1"),
        ("training.steps=0", "steps is 0, expected 1 or more"),
        ("training.crop=100", "-s training.crop=100: training.crop is 100, expected a multiple of 32"),
        ("training.crop=0", "crop is 0, expected 16 or more"),
        ("training.learning_rate=nan", "learning_rate is nan, expected above zero"),
        ("training.clip=inf", "clip is inf, expected above zero"),
        ("training.ema=1.0", "ema is 1.0, expected a decay from 0 to below 1"),
        ("training.workers=-1", "workers is -1, expected zero or more"),
        ("training.precision=fp8", """precision is 'fp8', expected "no", "bf16" or "fp16\""""),
        ("loss.adversarial=-1.0", "adversarial is -1.0, expected zero or more"),
        ("network.depths=[1, 2, 3, 4]", "network: depths is [1, 2, 3, 4], expected a list of 3"),
        ("network.depths=3", "network: depths is 3, expected a list"),
        ("network.widths=[16, 16, 1.5]", "network: widths is 1.5, expected int"),
        ("synthesis.kinds=3", "synthesis: kinds is 3, expected a table"),
        ("synthesis.kinds.shadow=much", "synthesis: kinds.shadow is 'much', expected float"),
        ("loss.vgg_weights=7", "loss: vgg_weights is 7, expected str"),
        ("training.steps", "override 'training.steps': expected table.key=value"),
        ("=5", "override '=5': expected table.key=value"),
    ],
)
def test_wrong_values_name_their_place_and_what_was_expected(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_recipe(ReflectionRecipe, PATH, [override])
    assert message in str(caught.value) and "\n" not in str(caught.value), str(caught.value)


def test_losses_that_leave_a_decoder_untrained_are_refused() -> None:
    with pytest.raises(UserError, match="expected a weight for one of its terms"):
        read_recipe(ReflectionRecipe, PATH, ["loss.layer=0", "loss.reconstruction=0"])
    with pytest.raises(UserError, match="expected a weight for one of its terms"):
        read_recipe(
            ReflectionRecipe, PATH, ["loss.pixel=0", "loss.squared=0", "loss.ssim=0", "loss.feature=0"]
        )


def test_files_that_are_no_recipe_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(UserError, match=r"recipe.toml: recipe not readable \(No such file"):
        read_recipe(ReflectionRecipe, path)
    path.write_text("[training\nsteps = 5")
    with pytest.raises(UserError, match="recipe.toml: not a TOML recipe"):
        read_recipe(ReflectionRecipe, path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="recipe.toml: not a TOML recipe"):
        read_recipe(ReflectionRecipe, path)
    path.write_text("[training]\nsteps = 5\n")
    with pytest.raises(UserError, match="recipe.toml: key 'budgets' is missing"):
        read_recipe(ReflectionRecipe, path)


@pytest.mark.parametrize(
    ("network", "name", "left_out"),
    [
        (DeblurNetwork, "deblur", ()),
        (UnderDisplayNetwork, "udc", ("context",)),
        (ReflectionNetwork, "reflection", ("context", "gate")),
    ],
)
def test_a_network_by_itself_is_as_large_as_its_recipes(
    network: type[nn.Module], name: str, left_out: tuple[str, ...]
) -> None:
    task = TASKS[name]
    changes = [f"network.{part}=false" for part in left_out]
    own = task.build_network(read_recipe(task.recipe_type, task.recipe_path, changes))
    sizes = [{key: value.shape for key, value in one.state_dict().items()} for one in (network(), own)]
    assert sizes[0] == sizes[1]
