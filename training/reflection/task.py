"""The reflection task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.data import cached_photo, random_crop, seeded
from training.deployable import Deployable, Port
from training.errors import UserError
from training.losses import (
    PatchDiscriminator,
    VGGFeatureLoss,
    adversarial_loss,
    discriminator_loss,
    ssim_loss,
    truncated_pixel_loss,
)
from training.recipe import TrainingRecipe
from training.reflection.network import ReflectionNetwork
from training.reflection.pyramid import PyramidRestorer
from training.reflection.synthesis import KINDS, degrade, uniform
from training.task import Objective, Sample, Task

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class NetworkRecipe:
    """Arguments of ``ReflectionNetwork``."""

    widths: tuple[int, int, int]
    depths: tuple[int, int, int]
    decoder_widths: tuple[int, int]


@dataclass(frozen=True)
class SynthesisRecipe:
    """Shares of the kinds of samples; ``pairs`` is a folder with ``input/`` and ``target/``, "" for none."""

    pairs: str
    pairs_ratio: float
    kinds: dict[str, float]


@dataclass(frozen=True)
class LossRecipe:
    """Weights of the loss terms; zero = not built."""

    pixel: float
    threshold: float
    artefact: float
    reconstruction: float
    ssim: float
    vgg: float
    vgg_weights: str
    adversarial: float


@dataclass(frozen=True)
class ReflectionRecipe:
    """training/reflection/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    synthesis: SynthesisRecipe
    loss: LossRecipe


def build_network(recipe: ReflectionRecipe) -> ReflectionNetwork:
    """The network of a recipe, with start weights."""
    return ReflectionNetwork(recipe.network.widths, recipe.network.depths, recipe.network.decoder_widths)


class ReflectionSamples(Dataset[Sample]):
    """``{"input", "target"}``, ``(3, crop, crop)``: sample ``index`` depends on the seed and the index alone."""

    def __init__(self, recipe: ReflectionRecipe, photos: Sequence[Path], length: int, seed: int) -> None:
        self.photos, self.length, self.seed, self.crop = list(photos), length, seed, recipe.training.crop
        for kind in recipe.synthesis.kinds:
            if kind not in KINDS:
                raise UserError(
                    f"synthesis.kinds: unknown kind {kind!r}, expected some of {', '.join(KINDS)}"
                )
        self.kinds = list(recipe.synthesis.kinds)
        self.shares = torch.tensor(list(recipe.synthesis.kinds.values()))
        if not self.kinds or self.shares.min() < 0 or self.shares.sum() <= 0:
            raise UserError("synthesis.kinds: expected shares of zero or more, and a sum above zero")
        self.pairs_ratio = recipe.synthesis.pairs_ratio
        self.pairs = find_pairs(Path(recipe.synthesis.pairs)) if self.pairs_ratio > 0.0 else []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        generator = seeded(self.seed, index)
        if uniform(generator, 0, 1) < self.pairs_ratio:
            return self._real_pair(generator)
        first, second = torch.randint(len(self.photos), (2,), generator=generator).tolist()
        photo = random_crop(cached_photo(self.photos[first]), self.crop, generator)
        other = random_crop(cached_photo(self.photos[second]), self.crop, generator)
        if uniform(generator, 0, 1) < 0.5:
            photo = photo ** uniform(generator, 0.75, 1.3)
        if uniform(generator, 0, 1) < 0.3:
            other = other ** uniform(generator, 0.6, 1.6)
        kind = self.kinds[int(torch.multinomial(self.shares, 1, generator=generator))]
        return {"input": degrade(photo, other, kind, generator), "target": photo}

    def _real_pair(self, generator: torch.Generator) -> Sample:
        paths = self.pairs[int(torch.randint(len(self.pairs), (), generator=generator))]
        crop_seed = int(torch.randint(2**31, (), generator=generator))
        degraded, target = (cached_photo(path) for path in paths)
        if degraded.shape != target.shape:
            raise UserError(
                f"{paths[0]} and {paths[1]} differ in size: {degraded.shape[:2]} and {target.shape[:2]}"
            )
        return {
            "input": random_crop(degraded, self.crop, seeded(crop_seed)),
            "target": random_crop(target, self.crop, seeded(crop_seed)),
        }


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Files of the same name under ``folder/input`` and ``folder/target``; UserError if there is none."""
    pairs = [
        (path, folder / "target" / path.name)
        for path in sorted((folder / "input").glob("*"))
        if (folder / "target" / path.name).is_file()
    ]
    if not pairs:
        raise UserError(
            f"{folder}: no pairs, expected files of the same name in {folder}/input and {folder}/target"
        )
    return pairs


def training_set(recipe: ReflectionRecipe, photos: Sequence[Path]) -> ReflectionSamples:
    """As many samples as any run could ask for."""
    return ReflectionSamples(recipe, photos, 2**40, recipe.training.seed)


def validation_set(recipe: ReflectionRecipe, photos: Sequence[Path]) -> ReflectionSamples:
    """Four fixed samples a held-out photo, of the same kinds as in training."""
    return ReflectionSamples(recipe, photos, 4 * len(photos), -1)


def objective(recipe: ReflectionRecipe, device: torch.device) -> Objective:
    """Weighted terms of the claims; the VGG19 term and the discriminator exist only when they have a weight."""
    weights = recipe.loss
    vgg: VGGFeatureLoss | None = None
    if weights.vgg > 0.0:
        if not weights.vgg_weights:
            raise UserError(
                "loss.vgg is above zero but loss.vgg_weights is empty: give the file (docs/training.md)"
            )
        vgg = VGGFeatureLoss(Path(weights.vgg_weights)).to(device)
    critic = PatchDiscriminator().to(device) if weights.adversarial > 0.0 else None

    def losses(network: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = batch["input"], batch["target"]
        background, artefact = (output.float() for output in network(image))
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * truncated_pixel_loss(background, target, weights.threshold)
        if weights.artefact > 0.0:
            terms["artefact"] = weights.artefact * truncated_pixel_loss(
                artefact, image - target, weights.threshold
            )
        if weights.reconstruction > 0.0:
            terms["reconstruction"] = weights.reconstruction * (image - background - artefact).abs().mean()
        if weights.ssim > 0.0:
            terms["ssim"] = weights.ssim * ssim_loss(background, target)
        if vgg is not None:
            terms["vgg"] = weights.vgg * vgg(background, target)
        if critic is not None:
            terms["adversarial"] = weights.adversarial * adversarial_loss(critic(background))
        return background, terms

    def critic_losses(result: Tensor, batch: Sample) -> Tensor:
        assert critic is not None
        return discriminator_loss(critic(batch["target"]), critic(result))

    return Objective(losses, critic, critic_losses if critic is not None else None)


def deployable(network: nn.Module, height: int, width: int) -> Deployable:
    """RGB in, RGB out at ``height`` x ``width``; the artefact layer as a second picture in which 0.5 is "nothing"."""
    shape = (1, 3, height, width)
    return Deployable(
        module=PyramidRestorer(network, size=(height, width)).eval(),
        task=TASK.name,
        title=TASK.title,
        version="1.0.0",
        inputs=(Port("image", shape, (0.0, 1.0), meaning="photo"),),
        outputs=(
            Port(
                "restored", shape, (0.0, 1.0), meaning="photo without reflection, shadow, stain and occlusion"
            ),
            Port("artefact", shape, (0.0, 1.0), meaning="what was removed: 0.5 + (photo - restored) / 2"),
        ),
    )


TASK = Task(
    name="reflection",
    title="Reflection, shadow, stain and occlusion removal",
    recipe_type=ReflectionRecipe,
    recipe_path=_FOLDER / "recipe.toml",
    pretrained=_FOLDER.parent / "pretrained" / "reflection.safetensors",
    default_sizes=((256, 256), (720, 1280)),
    build_network=build_network,
    training_set=training_set,
    validation_set=validation_set,
    objective=objective,
    restorer=PyramidRestorer,
    deployable=deployable,
    kinds=KINDS,
    degrade=degrade,
)
