"""Rounded weights: all of them half floats, in the deployed copy as well, and the stem's kernels still sum to zero."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from afterlens.samples import EVALUATION
from afterlens.training.checkpoint import load_checkpoint, save_checkpoint
from afterlens.training.deblur.half_floats import STEP, round_weights
from afterlens.training.deblur.network import ContrastStem, DeblurNetwork, for_deployment
from afterlens.training.deblur.task import TASK
from afterlens.training.trained import load_network, load_trainable
from tests.conftest import Result


def distance(weight: torch.Tensor) -> float:
    """From the nearest half floats, of the largest weight."""
    weight = weight.detach()
    return float((weight - weight.half().float()).abs().max() / weight.abs().max().clamp_min(1e-9))


def test_the_deployed_weights_are_half_floats_and_what_they_compute_stays(tmp_path: Path) -> None:
    tensors, metadata = load_checkpoint(TASK.pretrained)
    torch.manual_seed(0)
    # Unrounded again: what training hands over.
    tensors = {name: value * (1.0 + 1e-4 * torch.randn_like(value)) for name, value in tensors.items()}
    tensors["frame.stem.conv.parametrizations.weight.original1"] *= 0.7  # its length is apart
    tensors["frame.stem.conv.parametrizations.weight.original0"] *= 0.9
    save_checkpoint(tmp_path / "trained.safetensors", tensors, metadata)
    network, _ = load_trainable(TASK, tmp_path / "trained.safetensors")
    round_weights(network)
    save_checkpoint(tmp_path / "rounded.safetensors", network.state_dict(), metadata)
    trained, rounded = (
        load_network(TASK, tmp_path / f"{name}.safetensors")[0] for name in ("trained", "rounded")
    )
    assert isinstance(trained, DeblurNetwork) and isinstance(rounded, DeblurNetwork)
    for network, exact in ((trained, False), (rounded, True)):
        parts = [
            parameter
            for name, module in for_deployment(network).named_modules()
            if isinstance(module, nn.Conv2d) and not name.startswith("motion.flows")
            for parameter in module.parameters()
        ]
        assert (max(distance(part) for part in parts) < 1e-6) is exact
    assert isinstance(rounded.frame.stem, ContrastStem)
    stem = rounded.frame.stem.conv.weight.detach()
    assert float(stem.sum(dim=(2, 3)).abs().max()) < 1e-5 < STEP / 10
    current, previous = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        change = (rounded(current, previous)[0] - trained(current, previous)[0]).abs()
    assert 0.0 < float(change.mean()) < 1e-3


def test_the_bundled_weights_are_rounded() -> None:
    """What is published passes the float16 gate only so."""
    network = load_network(TASK, TASK.pretrained)[0]
    assert isinstance(network, DeblurNetwork)
    for name, parameter in for_deployment(network).named_parameters():
        if not name.startswith("motion.flows"):
            assert distance(parameter) < 1e-6, name


def test_large_weights_of_the_stem_are_half_floats_too() -> None:
    network, _ = load_trainable(TASK, TASK.pretrained)
    assert isinstance(network, DeblurNetwork)
    stem = network.frame.stem
    assert isinstance(stem, ContrastStem)
    with torch.no_grad():
        stem.conv.get_parameter("parametrizations.weight.original0").mul_(40.0)
    round_weights(network)
    assert float(stem.conv.weight.abs().max()) > 2.0 and distance(stem.conv.weight) < 1e-6
    assert float(stem.conv.weight.sum(dim=(2, 3)).abs().max()) < 1e-4


def test_training_writes_rounded_weights_and_goes_on_with_others(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    small = (
        "steps=2",
        "batch=2",
        "crop=64",
        "validation_photos=1",
        "warmup=1",
        "workers=0",
        "validate_every=2",
    )
    options = [word for change in small for word in ("-s", f"training.{change}")]
    done = cli("train", "deblur", *EVALUATION[:3], "-o", tmp_path / "run", *options)
    assert done.code == 0, done.stderr
    for name in ("best", "last"):
        network = load_network(TASK, tmp_path / "run" / f"{name}.safetensors")[0]
        assert isinstance(network, DeblurNetwork)
        for part, parameter in for_deployment(network).named_parameters():
            assert part.startswith("motion.flows") or distance(parameter) < 1e-6, (name, part)
    (state,) = (tmp_path / "run" / "checkpoints").glob("*.safetensors")
    average = [v for k, v in load_checkpoint(state)[0].items() if k.startswith("average.") and v.ndim == 4]
    assert max(distance(tensor) for tensor in average) > 1e-5
