"""The beard task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from afterlens.training.beard.losses import area_adjusted, over_the_face
from afterlens.training.beard.network import AMOUNTS, MULTIPLE, BeardGraph, BeardNetwork
from afterlens.training.beard.synthesis import BeardSamples, HeldOutBeards, beard_sample, gathered
from afterlens.training.beard.validation import validate
from afterlens.training.data import seeded
from afterlens.training.deployable import Deployable, Port
from afterlens.training.faces.labelled import beard_classes
from afterlens.training.faces.portraits import hair_of, index_portraits
from afterlens.training.half_floats import round_convolutions
from afterlens.training.losses import PatchDiscriminator, adversarial_loss, discriminator_loss, gradient_error
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import (
    Count,
    Recipe,
    Share,
    TrainingRecipe,
    Weight,
    require,
    require_crop,
)
from afterlens.training.task import Discriminator, Objective, Outputs, Record, Sample, Task
from afterlens.training.unet import Width

_FOLDER = Path(__file__).parent

_USUAL_DAMAGE, _DAMAGE_FLOOR = 0.2, 0.03  # mean differences over the beard: the loss is relative to them

ClassShares = tuple[Share, Share, Share, Share, Share]  # of beards.CLASSES


class NetworkRecipe(Recipe):
    """Arguments of ``BeardNetwork``."""

    widths: tuple[Width, Width, Width]
    depths: tuple[Count, Count, Count]
    decoder_depths: tuple[Count, Count]


class ClassRecipe(Recipe):
    """Shares of the classes: in the training set, and in every batch."""

    set: ClassShares
    batches: ClassShares

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        require("set", self.set, sum(self.set) > 0.0, "a share above zero")
        require("batches", self.batches, sum(self.batches) > 0.0, "a share above zero")
        missing = [own == 0.0 < drawn for own, drawn in zip(self.set, self.batches, strict=True)]
        require(
            "batches", self.batches, not any(missing), f"no share of a class that set leaves out ({self.set})"
        )
        return self


class DirectionRecipe(Recipe):
    """Shares of what is wanted."""

    remove: Share
    add: Share
    keep: Share

    @model_validator(mode="after")
    def _some_share(self) -> Self:
        require(
            "directions", self.model_dump(), self.remove + self.add + self.keep > 0.0, "a share above zero"
        )
        return self


class LossRecipe(Recipe):
    """Weights of the loss terms; zero = not built."""

    pixel: Weight
    area_adjusted: bool
    gradient: Weight
    outside: Weight
    mask: Weight
    adversarial: Weight
    adversarial_start: Share


class BeardRecipe(Recipe):
    """training/beard/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    classes: ClassRecipe
    directions: DirectionRecipe
    loss: LossRecipe
    budgets: dict[str, float]  # dB that a converted variant may lose, where it is not the usual one

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        require_crop(self.training, MULTIPLE)
        return self


def build_network(recipe: BeardRecipe) -> BeardNetwork:
    """The network of a recipe, with start weights."""
    network = recipe.network
    return BeardNetwork(network.widths, network.depths, network.decoder_depths)


def index(recipe: BeardRecipe, photos: Sequence[Path]) -> list[Record]:
    """The faces of bare photos, each with the class of beard that will be drawn on it, in the set's class ratio.

    After them the photos whose folders or attributes say that they show a real beard, as ``captured`` records.
    """
    worn = beard_classes(photos)
    faces = index_portraits(photos)
    bare = [face for face in faces if worn.get(face.photo, 0) == 0]
    real = [replace(face, label=worn[face.photo], captured=True) for face in faces if worn.get(face.photo)]
    return gathered(bare, recipe.classes.set) + real


def training_set(recipe: BeardRecipe, records: Sequence[Record]) -> BeardSamples:
    """As many samples as any run could ask for, each batch in the preset sampling ratio."""
    directions = recipe.directions
    return BeardSamples(
        records,
        recipe.classes.batches,
        (directions.remove, directions.add, directions.keep),
        recipe.training.crop,
        recipe.training.batch,
        recipe.training.seed,
    )


def validation_set(recipe: BeardRecipe, records: Sequence[Record]) -> HeldOutBeards:
    """Each held-out face with a fixed beard to remove."""
    return HeldOutBeards([record for record in records if not record.captured], recipe.training.crop)


def with_wanted(picture: Tensor, wanted: Tensor) -> Tensor:
    """What the class-conditional discriminator sees: the picture, and the wanted amounts as flat layers, ``(N, 6, H, W)``."""
    layers = wanted[:, :, None, None].expand(-1, -1, *picture.shape[2:])
    return torch.cat([picture, layers], dim=1)


def objective(recipe: BeardRecipe, device: torch.device) -> Objective:
    """The area-adjusted loss, the mask, what lies outside of the face, and a discriminator where it has a weight."""
    weights = recipe.loss
    of_face = area_adjusted if weights.area_adjusted else over_the_face
    judge = PatchDiscriminator(inputs=3 + AMOUNTS).to(device) if weights.adversarial > 0.0 else None

    def losses(network: nn.Module, batch: Sample, progress: float) -> tuple[Outputs, dict[str, Tensor]]:
        image, target, face = batch["image"], batch["target"], batch["face"]
        made, mask = (output.float() for output in network(image, batch["wanted"], batch["laid"]))
        passed = image + face * (made - image)  # outside of the face the picture passes through
        outputs: Outputs = {"result": passed, "mask": mask}
        error = ((made - target).square() + 1e-6).sqrt() - 1e-3
        # A dark beard on dark skin differs little from it: without this, nobody would learn to remove it.
        damage = of_face((batch["laid"] - target).abs(), batch["beard"], face)
        each = _USUAL_DAMAGE / (damage + _DAMAGE_FLOOR)
        still = (batch["changed"] < 1.0 / 255.0).float()
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * (each * of_face(error, batch["beard"], face)).mean()
        if weights.gradient > 0.0:
            terms["gradient"] = weights.gradient * (each * gradient_error(passed, target)).mean()
        if weights.outside > 0.0:
            terms["outside"] = weights.outside * (still * (made - image).abs()).mean()
        if weights.mask > 0.0:
            terms["mask"] = weights.mask * F.binary_cross_entropy(
                mask.clamp(1e-4, 1 - 1e-4), batch["changed"]
            )
        if judge is not None and progress >= weights.adversarial_start:
            seen = with_wanted(passed, batch["wanted"])
            terms["adversarial"] = weights.adversarial * adversarial_loss(judge, seen)
        return outputs, terms

    def judge_loss(discriminator: nn.Module, outputs: Outputs, batch: Sample) -> Tensor:
        made = with_wanted(outputs["result"], batch["wanted"])
        return discriminator_loss(discriminator, made, with_wanted(batch["real"], batch["real_wanted"]))

    discriminators = {"discriminator": Discriminator(judge, judge_loss)} if judge is not None else {}
    return Objective(losses, discriminators=discriminators)


def examples(
    recipe: BeardRecipe, photos: Sequence[Path], height: int, width: int, count: int, seed: int
) -> Iterator[tuple[str, Sample]]:
    """Faces with beards to remove, without ones to keep, and a third to put one on: faces and classes take turns.

    Raises UserError where the size is not square, or no photo has a face.
    """
    if height != width:
        raise UserError(f"{width}x{height}: faces are aligned in squares; give a square size")
    faces = gathered(index_portraits(photos), (1.0, 0.0, 0.0, 0.0, 0.0))
    for number in range(count):
        face, label = faces[(number + number // 5) % len(faces)], (number + 1) % 5
        record = Record(face.photo, face.group, label=label, landmarks=face.landmarks)
        direction = "add" if number % 3 == 2 else "remove"
        yield (
            f"{face.photo.stem} {number}",
            beard_sample(record, direction, height, seeded(seed, number), hair_of(face.photo)),
        )


def deployable(network: nn.Module, height: int, width: int) -> Deployable:
    """An aligned face, the wanted amounts and that beard laid on in; the face as it should be, and where it changed."""
    shape = (1, 3, height, width)
    return Deployable(
        module=BeardGraph(network, height, width).eval(),
        task=TASK.name,
        title=TASK.title,
        version="1.0.0",
        inputs=(
            Port("image", shape, (0.0, 1.0), meaning="face, aligned: eyes and mouth at fixed places"),
            Port(
                "wanted",
                (1, AMOUNTS),
                (0.0, 1.0),
                meaning="how much beard: above the lip, on the chin, on the cheeks",
                kind="vector",
            ),
            Port(
                "laid",
                shape,
                (0.0, 1.0),
                meaning="the face with the wanted beard laid on by its landmarks; without one, the face",
            ),
        ),
        outputs=(
            Port("result", shape, (0.0, 1.0), meaning="the face with the wanted beard"),
            Port("mask", shape, (0.0, 1.0), meaning="where the face was changed: grey, 1 = there"),
        ),
    )


TASK = Task(
    name="beard",
    title="Beard transformation",
    recipe_type=BeardRecipe,
    recipe_path=_FOLDER / "recipe.toml",
    pretrained=_FOLDER.parent / "pretrained" / "beard.safetensors",
    default_sizes=((256, 256),),
    inputs=("image", "wanted", "laid"),
    ports=("image", "wanted", "laid"),
    build_network=build_network,
    index=index,
    training_set=training_set,
    validation_set=validation_set,
    objective=objective,
    validate=validate,
    restorer=BeardGraph,
    deployable=deployable,
    examples=examples,
    faces="beard",
    finish=round_convolutions,
)
