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

from afterlens.samples import CALIBRATION, FACES, HELD_OUT_FACES
from afterlens.training.beard.synthesis import DIRECTIONS, beard_sample, gathered, varied
from afterlens.training.data import cached_photo, random_crop, seeded
from afterlens.training.deblur import synthesis as motion
from afterlens.training.faces.beards import CLASSES
from afterlens.training.faces.heads.assets import read_assets
from afterlens.training.faces.heads.identity import sample_expression
from afterlens.training.faces.heads.render import Studio
from afterlens.training.faces.heads.scene import sample_scene
from afterlens.training.faces.mark import FaceMark
from afterlens.training.faces.portraits import hair_of, index_portraits
from afterlens.training.recipe import read_recipe
from afterlens.training.reflection import kinds as layers
from afterlens.training.tasks import TASKS
from afterlens.training.udc import synthesis as panels
from tests.training.faces.procedural import write_assets, write_base
from tests.training.swap.triplets import write_some

PORTRAITS = [path for path in (*FACES, *HELD_OUT_FACES) if path.stem[-2] == "_"]
"""The bundled portraits, without those that belong together as first and target."""

FILE = Path(__file__).with_name("frozen.json")
SIDE = 64
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
    first, second = (
        random_crop(cached_photo(path), side, seeded(i)) for i, path in enumerate(CALIBRATION[:2])
    )
    return first, second


def reflections() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Ten seeds of each kind: most choices within a kind are taken at least once."""
    for kind in layers.KINDS:
        for seed in range(10):
            yield f"{kind} {seed}", layers.degrade(*_photos(), kind, seeded(seed))


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
    for kind in motion.KINDS:
        for seed in range(6):
            yield f"{kind} {seed}", motion.degrade(*_photos(SIDE + 16), kind, seeded(seed), margin=8)


def beards() -> Iterator[tuple[str, Mapping[str, Any]]]:
    records = gathered(index_portraits(PORTRAITS), (0.2,) * len(CLASSES))
    for number, record in enumerate(records):
        direction = DIRECTIONS[number % 3]
        sample = beard_sample(record, direction, SIDE, seeded(number), hair_of(record.photo))
        yield f"{number} {direction}", varied(sample, seeded(number))
    grey = torch.full((1, 3, SIDE, SIDE), 0.5)
    for share in (0.003, 0.01, 0.5):
        yield f"mark {share}", {"marked": FaceMark(SIDE, SIDE)(grey, torch.full((1, 1, SIDE, SIDE), share))}


def heads() -> Iterator[tuple[str, Mapping[str, Any]]]:
    with tempfile.TemporaryDirectory() as scratch:
        studio = Studio(
            read_assets(write_assets(Path(scratch) / "assets"), write_base(Path(scratch) / "base"))
        )
        for seed in range(8):
            rng = np.random.default_rng(seed)
            weights = sample_expression(studio.assets, rng)
            portrait = studio.portrait(studio.person(seed), weights, sample_scene(rng), rng, side=SIDE)
            yield f"{seed}", {"picture": portrait.picture, "landmarks": portrait.landmarks / SIDE}


def _filled(network: nn.Module) -> nn.Module:
    """With noise for weights: at the start of training some are zero, and what follows them has no effect."""
    generator = seeded(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            is_length = name.endswith("original0")  # of a weight norm
            weight.copy_(noise if is_length else 0.25 * noise / max(weight[0].numel(), 16) ** 0.5)
    return network


def steps() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Two samples of each task's training set, what its network makes of them, its losses and their gradients."""
    for name, task in TASKS.items():
        recipe: Any = read_recipe(task.recipe_type, task.recipe_path, [f"training.crop={SIDE}"])
        with tempfile.TemporaryDirectory() as scratch:
            photos = {"beard": PORTRAITS, "swap": sorted(write_some(Path(scratch), 2).glob("*.png"))}
            samples = task.training_set(recipe, task.index(recipe, photos.get(name, CALIBRATION)))
            batch = default_collate([samples[index] for index in range(2)])
        network = _filled(task.build_network(recipe))
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
    "motions": motions,
    "beards": beards,
    "heads": heads,
    "steps": steps,
}


def numbers(group: str) -> Numbers:
    """Fingerprints by name."""
    return {
        f"{name}, {key}": fingerprint(values)
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
