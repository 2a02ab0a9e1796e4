"""What training sees and computes, as a few numbers each: samples of every kind, and one step of each task.

python -m tests.training.frozen        # writes frozen.json again, after a change on purpose

Bundled weights were trained on these samples with these losses, so neither may change unnoticed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from afterlens.samples import CALIBRATION, CAPTURED
from afterlens.training.data import cached_photo, random_crop, seeded
from afterlens.training.deblur import motion, synthesis
from afterlens.training.media.images import read_photo
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection import kinds as layers
from afterlens.training.reflection.pyramid import PyramidRestorer
from afterlens.training.task import Task
from afterlens.training.tasks import TASKS
from afterlens.training.udc import patterns, psf
from afterlens.training.udc import synthesis as panels
from tests.training import frozen_faces
from tests.training.frozen_faces import PORTRAITS, SIDE, filled
from tests.training.swap.triplets import write_some

FILE = Path(__file__).with_name("frozen.json")
PROJECTIONS = 3

Numbers = dict[str, list[float]]


def fingerprint(values: Any) -> list[float]:
    """Mean, standard deviation, and projections on fixed noise, which change wherever a part of the values does."""
    flat = np.asarray(values, np.float64).ravel()
    if len(flat) == 1:
        return [float(flat[0])]
    noise = np.random.default_rng(len(flat)).standard_normal((PROJECTIONS, len(flat)))
    return [float(flat.mean()), float(flat.std()), *(noise @ flat / np.sqrt(len(flat))).tolist()]


def _photos(side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Two photos, a little less wide than high: what is exchanged shows."""
    first, second = (
        random_crop(cached_photo(path), side, seeded(i))[..., : side - 8]
        for i, path in enumerate(CALIBRATION[:2])
    )
    return first, second


def reflections() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """So many seeds of each kind that every choice within it is taken."""
    for kind in layers.KINDS:
        samples = [layers.degrade(*_photos(), kind, seeded(seed)) for seed in range(22)]
        for first in range(0, len(samples) if kind != "clean" else 2, 2):
            inputs = [sample["input"] for sample in samples[first : first + 2]]
            yield f"{kind} {first}", {"input": torch.stack(inputs)}
        yield kind, {"targets": torch.stack([sample["target"] for sample in samples])}


def panes_of_displays() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Openings of each family, what a point of light becomes behind them, and a user's own panel."""
    for family in patterns.FAMILIES:
        some = [patterns.random_pattern(family, 96, 3.0, seeded(seed)) for seed in range(12)]
        yield family, {"": torch.stack(some)}
    kernels = {f"random {seed}": psf.random_psf(seeded(seed), 33) for seed in range(4)}
    kernels["with a tail"] = psf.with_tail(kernels["random 0"], 65, seeded(0))
    kernels["known"] = psf.known_psf(33)
    for bandwidth in (0.0, 40.0):
        panel = patterns.random_pattern("jittered", 90, 4.0, seeded(0))
        optics = psf.Optics(8.0, 3.0, 1.1, 2.5, bandwidth_nm=bandwidth)
        own = psf.display_psf(panel, optics, 25)
        kernels[f"own {bandwidth}"] = own.kernel
        yield f"light {bandwidth}", {"captured": own.captured, "passed": own.transmission}
        yield f"spectrum {bandwidth}", {"": torch.cat(optics.spectrum())}
    for name, kernel in kernels.items():
        yield name, {"root": kernel.sqrt() * kernel.shape[-1]}  # all are small, most very
    with tempfile.TemporaryDirectory() as scratch:
        psf.write_preview(Path(scratch) / "psf.png", kernels["known"])
        yield "preview", {"": read_photo(Path(scratch) / "psf.png").rgb}


def displays() -> Iterator[tuple[str, Mapping[str, Any]]]:
    photo, other = _photos()
    for kind in panels.KINDS:
        for seed in range(4):
            yield f"{kind} {seed}", {"input": panels.degrade(photo, other, kind, seeded(seed))}
    for seed in range(4):
        lit = panels.add_light_sources(photo, seeded(seed))
        shown = panels.exposed(
            panels.lit_scene(lit, seeded(seed)), panels.Camera(), panels.TONE_MAPPED, seeded(1)
        )
        yield f"lamps {seed}", {"input": lit, "tone-mapped": shown, "back": panels.TONE_MAPPED.decode(shown)}


def motions() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in synthesis.KINDS:
        for seed in range(8):  # frames of 62x54 pixels: whole cells of the field of motion do not fill them
            yield f"{kind} {seed}", synthesis.degrade(*_photos(SIDE + 14), kind, seeded(seed), margin=8)
    paths = [motion.random_trajectory(np.random.default_rng(seed), (40, 30), 8.0, 0.6) for seed in range(20)]
    yield "longest", {"": [motion.longest_distance(path, 0.6, -0.5) for path in paths]}


def sets() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Samples to train on and to validate with, of the tasks whose photos are degraded, with captured pairs among them."""
    for name in ("reflection", "udc", "deblur"):
        task: Task = TASKS[name]
        changes = [f"training.crop={SIDE}", "training.batch=3"]
        if name != "deblur":
            changes += ["synthesis.pairs_ratio=0.3", f"synthesis.pairs={CAPTURED}"]
        if name == "reflection":
            changes += [f"crops.sizes=[[0, {SIDE}], [9, 96]]"]
        recipe: Any = read_recipe(task.recipe_type, task.recipe_path, changes)
        records = task.index(recipe, CALIBRATION)
        for use, samples in (
            ("train", task.training_set(recipe, records)),
            ("validate", task.validation_set(recipe, records)),
        ):
            yield f"{name}, {use}", default_collate([samples[index] for index in range(9)])


class _Fades(nn.Module):
    """A background that is less bright, and the rest as the layer."""

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        background = picture * torch.linspace(0.5, 1.0, picture.shape[-1]).square()
        return background, picture - background


def restored() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Photos of sizes that the pyramid halves not at all, once and twice."""
    for side in (90, 520, 1030):
        photo = torch.rand(1, 3, side, 60, generator=seeded(side))
        for name, run in (
            ("gated", PyramidRestorer(_Fades())),
            ("plain", PyramidRestorer(_Fades(), gated=False)),
        ):
            yield f"{side} {name}", dict(zip(("restored", "layer"), run(photo), strict=True))


def steps() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Two samples of each task's training set, what its network makes of them, its losses and their gradients."""
    for name, task in TASKS.items():
        recipe: Any = read_recipe(task.recipe_type, task.recipe_path, [f"training.crop={SIDE}"])
        with tempfile.TemporaryDirectory() as scratch:
            photos = {"beard": PORTRAITS, "swap": sorted(write_some(Path(scratch), 2).glob("*.png"))}
            samples = task.training_set(recipe, task.index(recipe, photos.get(name, CALIBRATION)))
            batch = default_collate([samples[index] for index in range(2)])
        network = filled(task.build_network(recipe))
        torch.manual_seed(0)  # discriminators start with random weights
        outputs, losses = task.objective(recipe, torch.device("cpu")).losses(network.train(), batch, 0.5)
        torch.stack(list(losses.values())).sum().backward()
        gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        yield (
            name,
            {
                **{f"sample's {key}": value for key, value in batch.items()},
                **{
                    f"output {key}": value.detach()
                    for key, value in outputs.items()
                    if isinstance(value, Tensor)
                },
                **{f"loss {key}": value.detach() for key, value in losses.items()},
                "gradients": gradients / gradients.square().mean().sqrt(),
            },
        )


GROUPS: Mapping[str, Callable[[], Iterator[tuple[str, Mapping[str, Any]]]]] = {
    "reflections": reflections,
    "displays": displays,
    "panes of displays": panes_of_displays,
    "sets": sets,
    "restored": restored,
    "motions": motions,
    "steps": steps,
    **frozen_faces.GROUPS,
}


def numbers(group: str) -> Numbers:
    """Fingerprints by name."""
    return {
        ", ".join(filter(None, (name, key))): fingerprint(values)
        for name, parts in GROUPS[group]()
        for key, values in parts.items()
    }


def main() -> None:
    """Write `frozen.json`."""
    found = {group: numbers(group) for group in GROUPS}
    lines = {
        group: ",\n".join(
            f"  {json.dumps(name)}: [{', '.join(f'{value:.5g}' for value in values)}]"
            for name, values in sorted(rows.items())
        )
        for group, rows in found.items()
    }
    text = ",\n".join(f' "{group}": {{\n{rows}\n }}' for group, rows in lines.items())
    FILE.write_text(f"{{\n{text}\n}}\n", "utf-8")


if __name__ == "__main__":
    main()
