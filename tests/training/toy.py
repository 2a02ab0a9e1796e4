"""A task as beard and swap will be: it changes what a face wears, in a class that is asked for.

It has no clean photos to degrade and no targets: three inputs of which one is a picture, classes in fixed ratios,
people who are on one side of the split only, two discriminators that see all outputs, a frozen judge from a file, and
a score of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from afterlens.training.checkpoint import load_frozen
from afterlens.training.data import Strata, cached_photo, seeded
from afterlens.training.deployable import Deployable, Port
from afterlens.training.losses import PatchDiscriminator, adversarial_loss, discriminator_loss
from afterlens.training.recipe import Recipe, Share, TrainingRecipe
from afterlens.training.task import (
    Discriminator,
    Objective,
    OptimizerSettings,
    Outputs,
    Record,
    Sample,
    Task,
    Validation,
)

STYLES = 3
SIDE = 64


def write_faces(folder: Path, people: int) -> None:
    """Pictures PERSON_STYLE.png with their landmarks in PERSON_STYLE.txt; a style is how bright the chin is."""
    folder.mkdir(parents=True)
    for person in range(people):
        rng = np.random.default_rng(person)
        for style in range(STYLES):
            picture = np.full((SIDE, SIDE, 3), rng.integers(60, 200, 3), np.uint8)
            picture += rng.integers(0, 20, picture.shape, dtype=np.uint8)
            x, y = rng.integers(20, 44, 2)
            picture[y : y + 16, x - 8 : x + 8] = 30 + 100 * style
            Image.fromarray(picture).save(folder / f"{person}_{style}.png")
            (folder / f"{person}_{style}.txt").write_text(f"{x} {y}\n{x - 8} {y}\n{x + 8} {y}\n")


def write_judge(path: Path, seed: int = 0) -> None:
    """Weights of a `Judge`, random but fixed."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    save_file(Judge().state_dict(), path)


class Judge(nn.Module):
    """``(N, 3, H, W)`` -> scores of the styles, ``(N, STYLES)``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, STYLES, 4, stride=4)

    def forward(self, picture: Tensor) -> Tensor:
        scores: Tensor = self.layer(picture).mean(dim=(2, 3))
        return scores


class StyleNetwork(nn.Module):
    """Face ``(N, 3, H, W)``, style ``(N, STYLES)``, places ``(N, 6)`` -> picture and mask ``(N, 1, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.known = nn.Linear(STYLES + 6, 8)
        self.entry, self.exit = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, face: Tensor, style: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        known = self.known(torch.cat([style, places], dim=1))[:, :, None, None]
        change, mask = self.exit(torch.relu(self.entry(face) + known)).split([3, 1], dim=1)
        mask = torch.sigmoid(mask)
        return face + mask * change, mask


class StyleRecipe(Recipe):
    shares: tuple[Share, Share, Share]
    judge: str


class ToyRecipe(Recipe):
    training: TrainingRecipe
    styles: StyleRecipe
    budgets: dict[str, float]


def index(recipe: ToyRecipe, photos: Sequence[Path]) -> list[Record]:
    records = []
    for photo in photos:
        person, style = photo.stem.split("_")
        places = [line.split() for line in photo.with_suffix(".txt").read_text().splitlines()]
        landmarks = tuple((float(x), float(y)) for x, y in places)
        records.append(Record(photo, group=person, label=int(style), landmarks=landmarks))
    return records


def sample_of(record: Record, style: int, crop: int) -> Sample:
    """A face and the style asked for; there is no picture of how it should look."""
    assert record.label is not None
    pixels = torch.from_numpy(cached_photo(record.photo)).permute(2, 0, 1)[None].float() / 255.0
    return {
        "face": F.interpolate(pixels, (crop, crop), mode="area")[0],
        "style": F.one_hot(torch.tensor(style), STYLES).float(),
        "places": torch.tensor(record.landmarks).flatten() / SIDE,
        "worn": torch.tensor(record.label),
    }


class Faces(Dataset[Sample]):
    def __init__(self, recipe: ToyRecipe, records: Sequence[Record]) -> None:
        training = recipe.training
        self.seed, self.crop = training.seed, training.crop
        self.strata = Strata(records, recipe.styles.shares, training.batch, training.seed)

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        record = self.strata.record(index, generator)
        return sample_of(record, int(torch.randint(STYLES, (), generator=generator)), self.crop)


class HeldOutFaces(Dataset[Sample]):
    """Each face in every style."""

    def __init__(self, recipe: ToyRecipe, records: Sequence[Record]) -> None:
        self.records, self.crop = list(records), recipe.training.crop

    def __len__(self) -> int:
        return STYLES * len(self.records)

    def __getitem__(self, index: int) -> Sample:
        return sample_of(self.records[index // STYLES], index % STYLES, self.crop)


def stacked(face: Tensor, outputs: Outputs) -> Tensor:
    """What the discriminators see: the face, and all that was made of it."""
    return torch.cat([face, outputs["styled"], outputs["mask"]], dim=1)


def objective(recipe: ToyRecipe, device: torch.device) -> Objective:
    path = Path(recipe.styles.judge)
    judge = load_frozen(Judge(), path).to(device)
    early, late = (PatchDiscriminator(4, inputs=7).to(device) for _ in range(2))

    def losses(network: nn.Module, batch: Sample, progress: float) -> tuple[Outputs, dict[str, Tensor]]:
        styled, mask = network(batch["face"], batch["style"], batch["places"])
        outputs = {"styled": styled, "mask": mask}
        terms = {
            "style": F.cross_entropy(judge(styled), batch["style"]),
            "mask": 0.1 * mask.mean(),
            "adversarial": 0.01 * adversarial_loss(early, stacked(batch["face"], outputs)),
        }
        if progress >= 0.5:
            terms["late"] = 0.01 * adversarial_loss(late, stacked(batch["face"], outputs))
        return outputs, terms

    def judge_both(discriminator: nn.Module, outputs: Outputs, batch: Sample) -> Tensor:
        assert not any(output.requires_grad for output in outputs.values())
        face = batch["face"]
        real = torch.cat([face, face, torch.zeros_like(outputs["mask"])], dim=1)
        return discriminator_loss(discriminator, stacked(face, outputs), real)

    return Objective(
        losses,
        OptimizerSettings(rate=0.5, weight_decay=0.01),
        {
            "early": Discriminator(early, judge_both, OptimizerSettings(rate=2.0, betas=(0.0, 0.9))),
            "late": Discriminator(late, judge_both, OptimizerSettings(betas=(0.5, 0.99), start=0.5)),
        },
        helpers={"judge": path},
    )


def validate(recipe: ToyRecipe, network: nn.Module, batches: Iterable[Sample]) -> Validation:
    """The nearer the mean brightness comes to that of the style asked for, the better; pictures of the first batch."""
    errors, pictures = [], []
    with torch.no_grad():
        for batch in batches:
            styled, mask = network(batch["face"], batch["style"], batch["places"])
            wanted = (30.0 + 100.0 * batch["style"].argmax(dim=1)) / 255.0
            errors.append((styled.mean(dim=(1, 2, 3)) - wanted).abs())
            pictures.append(
                torch.cat([batch["face"][0], styled[0].clamp(0, 1), mask[0].expand(3, -1, -1)], 2)
            )
    error = float(torch.cat(errors).mean())
    return Validation(-error, {"validation_score": -error, "brightness_error": error}, pictures[0])


def examples(
    recipe: ToyRecipe, photos: Sequence[Path], height: int, width: int, count: int, seed: int
) -> Iterator[tuple[str, Sample]]:
    for number, record in enumerate(index(recipe, photos)[:count]):
        yield record.photo.name, sample_of(record, number % STYLES, height)


def deployable(network: nn.Module, height: int, width: int) -> Deployable:
    picture = (1, 3, height, width)
    return Deployable(
        network.eval(),
        "toy",
        "Toy",
        "1",
        (
            Port("face", picture, (0.0, 1.0)),
            Port("style", (1, STYLES, 1, 1), (0.0, 1.0)),
            Port("places", (1, 6, 1, 1), (0.0, 1.0)),
        ),
        (Port("styled", picture, (0.0, 1.0)), Port("mask", (1, 1, height, width), (0.0, 1.0))),
    )


TASK = Task(
    name="toy",
    title="Toy",
    recipe_type=ToyRecipe,
    recipe_path=Path(__file__).parent / "toy.toml",
    pretrained=Path("none.safetensors"),
    default_sizes=((32, 32),),
    inputs=("face", "style", "places"),
    ports=("face", "style", "places"),
    build_network=lambda recipe: StyleNetwork(),
    index=index,
    training_set=Faces,
    validation_set=HeldOutFaces,
    objective=objective,
    validate=validate,
    restorer=lambda network: network,
    deployable=deployable,
    examples=examples,
)
