"""The under-display network takes the same road as the reflection network: converted, counted and proven."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from conversion.census import census_of
from conversion.contract import digest
from conversion.convert import convert
from conversion.proof import PROOF_FILE
from conversion.verify import verify
from training.blocks import GroupedBlock
from training.checkpoint import save_checkpoint
from training.recipe import read_recipe
from training.trained import load_network
from training.udc.network import UnderDisplayNetwork
from training.udc.task import TASK, UnderDisplayRecipe, build_network

HEIGHT, WIDTH = 72, 128  # the height is padded to 80


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start weights of the live network, but for a head that changes something."""
    recipe = read_recipe(UnderDisplayRecipe, TASK.recipe_path)
    torch.manual_seed(0)
    network = build_network(recipe)
    with torch.no_grad():
        for weight in network.head.parameters():
            nn.init.normal_(weight, 0.0, 0.02)
    path = tmp_path_factory.mktemp("udc") / "start.safetensors"
    metadata = {"task": TASK.name, "recipe": json.loads(json.dumps(dataclasses.asdict(recipe)))}
    save_checkpoint(path, network.state_dict(), metadata)
    return path


def layers(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def test_it_is_converted_counted_and_proven(
    checkpoint: Path, photo_paths: list[Path], tmp_path: Path
) -> None:
    network, _ = load_network(TASK, checkpoint)
    graph = TASK.deployable(network, HEIGHT, WIDTH)
    provenance = {"checkpoint_sha256": digest(checkpoint)[0], "recipe": {}, "data_licence": "CC BY 4.0"}
    bundle = convert([graph], tmp_path / "bundle", provenance, golden_photo=photo_paths[0])
    assert [port.name for port in bundle.contract.artifacts[0].outputs] == ["restored"]

    convolutions, blocks = layers(network, nn.Conv2d), layers(network, GroupedBlock)
    for artifact in bundle.contract.artifacts:
        census = census_of(bundle.path(artifact))
        assert census.highest_rank == 4
        if artifact.format == "coreml":
            assert census.operators["conv"] == convolutions and census.operators["pixel_shuffle"] == 1
            assert census.operators["relu"] == blocks
        else:
            assert census.operators["CONV_2D"] == convolutions and census.operators["DEPTH_TO_SPACE"] == 1
            assert not {"TRANSPOSE", "SPLIT", "GATHER", "LOGISTIC"} & set(census.operators)

    verify(tmp_path / "bundle", {(HEIGHT, WIDTH): graph}, photo_paths[:1], checkpoint=checkpoint)
    proof = json.loads((tmp_path / "bundle" / PROOF_FILE).read_text("utf-8"))
    assert len(proof["artifacts"]) == 3 and all(artifact["passed"] for artifact in proof["artifacts"])


def test_both_bundled_sizes_load_from_their_own_recipe() -> None:
    for size in ("live", "still"):
        path = TASK.pretrained.with_stem(f"udc_{size}")
        network, metadata = load_network(TASK, path)
        assert metadata["task"] == "udc" and metadata["data"]["licence"]
        assert isinstance(network, UnderDisplayNetwork)
        assert network.stem.out_channels == metadata["recipe"]["network"]["widths"][0]
