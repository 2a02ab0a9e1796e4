"""Rounded weights: all of them half floats, in the deployed copy as well, and the stem's kernels still sum to zero."""

from pathlib import Path

import pytest
import torch
from torch import nn

from afterlens.training.checkpoint import load_checkpoint, save_checkpoint
from afterlens.training.deblur.half_floats import STEP, main
from afterlens.training.deblur.network import ContrastStem, DeblurNetwork, for_deployment
from afterlens.training.deblur.task import TASK
from afterlens.training.media.errors import UserError
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network


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
    main(tmp_path / "trained.safetensors", tmp_path / "rounded.safetensors")
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


def test_checkpoints_of_another_form_or_task_are_one_line(tmp_path: Path) -> None:
    tensors, metadata = load_checkpoint(TASK.pretrained)
    metadata["recipe"]["network"]["form"] = "recurrent"
    save_checkpoint(tmp_path / "other.safetensors", tensors, metadata)
    for path, message in (
        (tmp_path / "other.safetensors", "weight recurrence.* is absent"),
        (find_task("reflection").pretrained, "a checkpoint of task 'reflection', expected 'deblur'"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            main(path, tmp_path / "rounded.safetensors")
        assert "\n" not in str(caught.value) and not (tmp_path / "rounded.safetensors").exists()
