"""Networks come back from checkpoints as they were, and from nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import read_recipe
from afterlens.training.tasks import TASKS
from afterlens.training.trained import load_network

TASK = TASKS["reflection"]
NARROW = [
    "network.widths=[16, 32, 32]",
    "network.depths=[1, 1, 1]",
    "network.decoder_widths=[16, 16]",
]


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, dict[str, Any]]:
    """A checkpoint of a network narrower than today's recipe, that network, and the metadata."""
    recipe: Any = read_recipe(TASK.recipe_type, TASK.recipe_path, NARROW)
    torch.manual_seed(5)
    network = TASK.build_network(recipe).eval()
    metadata = json.loads(json.dumps({"task": TASK.name, "recipe": recipe.model_dump(mode="json")}))
    path = tmp_path / "narrow.safetensors"
    save_checkpoint(path, network.state_dict(), metadata)
    return path, network, metadata


def test_the_network_is_the_checkpoints_and_not_todays(
    saved: tuple[Path, torch.nn.Module, dict[str, Any]],
) -> None:
    path, network, metadata = saved
    loaded, read = load_network(TASK, path)
    assert read == metadata
    assert not loaded.training
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for got, expected in zip(loaded(image), network(image), strict=True):
            assert torch.equal(got, expected)


def test_weights_outlive_changes_of_the_other_tables(
    saved: tuple[Path, torch.nn.Module, dict[str, Any]],
) -> None:
    path, network, metadata = saved
    del metadata["recipe"]["loss"]["pixel"]
    metadata["recipe"]["synthesis"]["fog"] = 1.0
    save_checkpoint(path, network.state_dict(), metadata)
    assert load_network(TASK, path)[1]["recipe"]["synthesis"]["fog"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "udc"}, "is a checkpoint of task 'udc', expected 'reflection'"),
        ({"recipe": None}, "describes no network"),
        ({"recipe": {"loss": {}}}, "describes no network"),
        ({"recipe": {"network": {"widths": [16, 32, 32]}}}, "recipe: network.*missing"),
        ({"recipe": {"network": "wide"}}, "recipe: network"),
    ],
)
def test_metadata_that_does_not_fit_is_one_line(
    saved: tuple[Path, torch.nn.Module, dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    path, network, metadata = saved
    save_checkpoint(path, network.state_dict(), {**metadata, **change})
    with pytest.raises(UserError, match=message) as caught:
        load_network(TASK, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused(
    saved: tuple[Path, torch.nn.Module, dict[str, Any]],
) -> None:
    path, network, metadata = saved
    metadata["recipe"]["network"]["widths"] = [32, 32, 32]
    save_checkpoint(path, network.state_dict(), metadata)
    with pytest.raises(UserError, match="this network expects"):
        load_network(TASK, path)


@pytest.mark.parametrize(("task", "name"), [("reflection", "reflection_glass"), ("udc", "udc_still")])
def test_weights_beside_the_default_ones_may_be_shipped_and_load(task: str, name: str) -> None:
    path = TASKS[task].pretrained.with_name(f"{name}.safetensors")
    network, metadata = load_network(TASKS[task], path)
    assert metadata["data"]["licence"].startswith("CC BY") and "BSDS" not in json.dumps(metadata)
    black = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        made = network(black)
    assert float((made[0] if isinstance(made, tuple) else made).abs().max()) < 0.1
