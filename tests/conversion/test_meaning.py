"""Outputs against what the contract says that they mean, not against PyTorch: signs, ranges, and which axis is which."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from afterlens.conversion.bundle.layout import made_up
from afterlens.conversion.bundle.reference import compute
from afterlens.samples import DEGRADED
from afterlens.training.deblur.network import MOVING, STILL, DeblurNetwork
from afterlens.training.deblur.synthesis import degrade
from afterlens.training.media.images import fit, read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.task import Task
from afterlens.training.tasks import TASKS
from afterlens.training.trained import load_network


@pytest.mark.parametrize("name", ["reflection", "shadow"])
def test_the_layer_is_what_was_removed_and_grey_where_nothing_was(name: str) -> None:
    """model.json: 0.5 + (photo - restored) / 2."""
    task = TASKS["reflection"]
    graph = task.deployable(load_network(task, task.pretrained)[0], 256, 256)
    assert "0.5 + (photo - restored) / 2" in graph.outputs[1].meaning
    path = DEGRADED / f"{name}.jpg"
    photo = fit(read_photo(path if path.exists() else DEGRADED / "reflection.jpg").rgb, 256, 256)
    got = compute(graph, {"image": photo})
    removed = (photo - got["restored"]) / 2
    layer = got["layer"] - 0.5
    assert np.abs(removed).mean() > 0.002, "these weights remove something from this photo"
    slope = float((layer * removed).sum() / np.square(removed).sum())
    correlation = float(np.corrcoef(layer.ravel(), removed.ravel())[0, 1])
    print(f"{name}: slope {slope:.2f}, correlation {correlation:.2f}")
    assert correlation > 0.6 and 0.4 < slope < 1.6


def test_flow_is_x_then_y_and_leads_to_the_frame_before(photo_paths: list[Path]) -> None:
    """The bundled weights on known motion: with exchanged axes or the other sign they are further off than with none."""
    task = TASKS["deblur"]
    network, _ = load_network(task, task.pretrained)
    assert isinstance(network, DeblurNetwork)
    errors: dict[str, list[float]] = {"right": [], "exchanged": [], "backwards": [], "none": []}
    for seed, path in enumerate(photo_paths):
        generator = torch.Generator().manual_seed(seed)
        photo = torch.from_numpy(fit(read_photo(path).rgb, 160, 224)).permute(2, 0, 1).contiguous()
        sample = degrade(photo, photo.flip(2), "pan", generator)
        with torch.no_grad():
            fields = network(sample["input"][None], sample["previous"][None])[1]
        found, ground_truth = fields[-1][0, :2], sample["motion"][:2]
        assert found.shape == ground_truth.shape
        for name, flow in (
            ("right", found),
            ("exchanged", found.flip(0)),
            ("backwards", -found),
            ("none", torch.zeros_like(found)),
        ):
            errors[name].append(float((flow - ground_truth).norm(dim=0).mean()))
    means = {name: float(np.mean(values)) for name, values in errors.items()}
    print(means)
    assert means["right"] < 0.7 * min(means["exchanged"], means["backwards"], means["none"])


def test_the_ramp_starts_where_a_pixel_is_still_and_ends_where_it_moves() -> None:
    network = DeblurNetwork((16, 16, 16), (16, 16, 16), (1, 1, 1), (1, 1))

    def ramp(pixels: float) -> float:
        extent: Tensor = network._ramp(torch.tensor(pixels / 8.0))  # extents are in units of 8 pixels
        return float(extent)

    assert ramp(STILL) == pytest.approx(0.0, abs=1e-6)
    assert ramp(MOVING) == pytest.approx(1.0, abs=1e-6)
    assert ramp((STILL + MOVING) / 2) == pytest.approx(0.5, abs=1e-6)


def test_contrast_below_the_noise_is_not_amplified() -> None:
    stem = DeblurNetwork((16, 16, 16), (16, 16, 16), (1, 1, 1), (1, 1)).frame.stem
    assert float(stem.floor) == float(np.float16((4.0 * 0.04) ** 2))  # type: ignore[arg-type]


def any_network(task: Task) -> nn.Module:
    """The bundled weights; where there are none yet, noise that is strong enough to leave the ranges."""
    if task.pretrained.exists():
        return load_network(task, task.pretrained)[0]
    torch.manual_seed(0)
    network = task.build_network(read_recipe(task.recipe_type, task.recipe_path))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return network.eval()


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_declared_ranges_are_kept_on_black_white_and_noise(task: Task) -> None:
    graph = task.deployable(any_network(task), 64, 96)
    noise = np.random.default_rng(0).integers(0, 2, (64, 96, 3)).astype(np.float32)
    for picture in (np.zeros_like(noise), np.ones_like(noise), noise):
        got = compute(
            graph,
            {port.name: picture if port.kind == "image" else made_up(port, 1) for port in graph.inputs},
        )
        for port in graph.outputs:
            value = got[port.name]
            assert np.isfinite(value).all()
            assert port.range[0] <= value.min() and value.max() <= port.range[1], (port.name, value.max())
