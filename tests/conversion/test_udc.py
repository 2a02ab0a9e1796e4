"""The under-display network takes the same road as the reflection network: converted, counted and proven."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from afterlens.conversion.bundle.contract import digest
from afterlens.conversion.bundle.proof import PROOF_FILE
from afterlens.conversion.convert import convert
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.verify.verify import verify
from afterlens.training.blocks import GroupedBlock
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.context import Statistics
from afterlens.training.recipe import read_recipe
from afterlens.training.trained import load_network
from afterlens.training.udc.network import UnderDisplayNetwork
from afterlens.training.udc.task import TASK, UnderDisplayRecipe, build_network

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
    metadata = {"task": TASK.name, "recipe": json.loads(json.dumps(recipe.model_dump(mode="json")))}
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

    convolutions, shuffles = layers(network, nn.Conv2d), layers(network, nn.PixelShuffle)
    activations = layers(network, GroupedBlock) + layers(network, Statistics)
    for artifact in bundle.contract.artifacts:
        counts = operator_counts(bundle.path(artifact))
        assert counts.highest_rank == 4
        if artifact.format == "coreml":
            assert counts.operators["conv"] == convolutions and counts.operators["pixel_shuffle"] == shuffles
            assert counts.operators["relu"] == activations
        else:
            assert counts.operators["CONV_2D"] == convolutions
            assert counts.operators["DEPTH_TO_SPACE"] == shuffles
            assert not {"TRANSPOSE", "SPLIT", "GATHER", "LOGISTIC"} & set(counts.operators)

    verify(tmp_path / "bundle", {(HEIGHT, WIDTH): graph}, photo_paths[:1], checkpoint=checkpoint)
    proof = json.loads((tmp_path / "bundle" / PROOF_FILE).read_text("utf-8"))
    assert len(proof["artifacts"]) == 3 and all(artifact["passed"] for artifact in proof["artifacts"])
    # What the proof says of each file is what the contract says; the size is no square.
    facts = ("file", "format", "variant", "width", "height", "sha256", "bytes")
    promised = [{fact: getattr(artifact, fact) for fact in facts} for artifact in bundle.contract.artifacts]
    assert [{fact: artifact[fact] for fact in facts} for artifact in proof["artifacts"]] == promised
    assert {(artifact["width"], artifact["height"]) for artifact in proof["artifacts"]} == {(WIDTH, HEIGHT)}


def test_both_bundled_sizes_load_from_their_own_recipe() -> None:
    for size in ("live", "still"):
        path = TASK.pretrained.with_stem(f"udc_{size}")
        network, metadata = load_network(TASK, path)
        assert metadata["task"] == "udc" and metadata["data"]["licence"]
        assert isinstance(network, UnderDisplayNetwork)
        stem = network.encoder.stem
        assert isinstance(stem, nn.Conv2d)
        assert stem.out_channels == metadata["recipe"]["network"]["widths"][0]
