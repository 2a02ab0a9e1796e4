"""The reflection task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.blocks import GROUP_WIDTH
from training.data import SMALLEST, cached_photo, random_crop, seeded
from training.deployable import Deployable, Port
from training.errors import UserError
from training.images import read_photo
from training.losses import (
    PatchDiscriminator,
    VGGFeatureLoss,
    adversarial_loss,
    discriminator_loss,
    relative_squared_error,
    ssim_loss,
    truncated_pixel_loss,
)
from training.recipe import TrainingRecipe, require
from training.reflection.network import MULTIPLE, ReflectionNetwork
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

    def __post_init__(self) -> None:
        """Raises ValueError for a width that the groups do not divide, or an empty level."""
        for width in (*self.widths, *self.decoder_widths):
            require("widths", width, width > 0 and width % GROUP_WIDTH == 0, f"multiples of {GROUP_WIDTH}")
        require("depths", self.depths, min(self.depths) >= 1, "1 or more each")


@dataclass(frozen=True)
class SynthesisRecipe:
    """Shares of the kinds of samples; ``pairs`` is a folder with ``input/`` and ``target/``, "" for none."""

    pairs: str
    pairs_ratio: float
    kinds: dict[str, float]

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown kind or a share out of range."""
        for kind, share in self.kinds.items():
            require("kinds", kind, kind in KINDS, f"some of {', '.join(KINDS)}")
            require(f"kinds.{kind}", share, 0.0 <= share < math.inf, "zero or more")
        require("kinds", self.kinds, sum(self.kinds.values()) > 0.0, "a share above zero")
        require("pairs_ratio", self.pairs_ratio, 0.0 <= self.pairs_ratio <= 1.0, "a share from 0 to 1")


@dataclass(frozen=True)
class LossRecipe:
    """Weights of the loss terms; zero = not built."""

    pixel: float
    threshold: float
    squared: float
    floor: float
    artefact: float
    reconstruction: float
    ssim: float
    vgg: float
    vgg_weights: str
    adversarial: float

    def __post_init__(self) -> None:
        """Raises ValueError for a negative weight, or weights that leave a decoder untrained."""
        for key in (
            "pixel",
            "threshold",
            "squared",
            "artefact",
            "reconstruction",
            "ssim",
            "vgg",
            "adversarial",
        ):
            require(key, getattr(self, key), 0.0 <= getattr(self, key) < math.inf, "zero or more")
        require("floor", self.floor, 0.0 < self.floor < math.inf, "above zero")
        background = self.pixel + self.squared + self.ssim + self.vgg
        artefact = self.artefact + self.reconstruction
        require("pixel + squared + ssim + vgg", background, background > 0.0, "a weight for one of them")
        require("artefact + reconstruction", artefact, artefact > 0.0, "a weight for one of them")


@dataclass(frozen=True)
class ReflectionRecipe:
    """training/reflection/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    synthesis: SynthesisRecipe
    loss: LossRecipe

    def __post_init__(self) -> None:
        """Raises ValueError for a crop that the network can't take."""
        crop = self.training.crop
        require("training.crop", crop, crop % MULTIPLE == 0, f"a multiple of {MULTIPLE}")


def build_network(recipe: ReflectionRecipe) -> ReflectionNetwork:
    """The network of a recipe, with start weights."""
    return ReflectionNetwork(recipe.network.widths, recipe.network.depths, recipe.network.decoder_widths)


class ReflectionSamples(Dataset[Sample]):
    """``{"input", "target"}``, ``(3, crop, crop)``: sample ``index`` depends on the seed and the index alone."""

    def __init__(self, recipe: ReflectionRecipe, photos: Sequence[Path], length: int, seed: int) -> None:
        self.photos, self.length, self.seed, self.crop = list(photos), length, seed, recipe.training.crop
        self.kinds = list(recipe.synthesis.kinds)
        self.shares = torch.tensor(list(recipe.synthesis.kinds.values()))
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
        return {
            "input": random_crop(degraded, self.crop, seeded(crop_seed)),
            "target": random_crop(target, self.crop, seeded(crop_seed)),
        }


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Files of the same name under ``folder/input`` and ``folder/target``.

    Raises UserError if there is none, or where two do not decode or fit: a run must not stumble over it hours later.
    """
    pairs = [
        (path, folder / "target" / path.name)
        for path in sorted((folder / "input").glob("*"))
        if (folder / "target" / path.name).is_file()
    ]
    if not pairs:
        raise UserError(
            f"{folder}: no pairs, expected files of the same name in {folder}/input and {folder}/target"
        )
    for degraded, target in pairs:
        (height, width), other = (read_photo(path).rgb.shape[:2] for path in (degraded, target))
        if (height, width) != other or min(height, width) < SMALLEST:
            raise UserError(
                f"{degraded} is {width}x{height} and {target} {other[1]}x{other[0]} pixels, "
                f"expected the same size and both sides of {SMALLEST} or more"
            )
    return pairs


def training_set(recipe: ReflectionRecipe, photos: Sequence[Path]) -> ReflectionSamples:
    """As many samples as any run could ask for."""
    return ReflectionSamples(recipe, photos, 2**40, recipe.training.seed)


def validation_set(recipe: ReflectionRecipe, photos: Sequence[Path]) -> ReflectionSamples:
    """Four fixed samples a held-out photo, of the kinds trained on; no real pairs, since none is held out."""
    synthetic = replace(recipe, synthesis=replace(recipe.synthesis, pairs_ratio=0.0))
    return ReflectionSamples(synthetic, photos, 4 * len(photos), -1)


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
        damage = (image - target).square().mean(dim=(1, 2, 3))
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * truncated_pixel_loss(background, target, weights.threshold)
        if weights.squared > 0.0:
            terms["squared"] = weights.squared * relative_squared_error(
                background, target, damage, weights.floor
            )
        if weights.artefact > 0.0:
            terms["artefact"] = weights.artefact * relative_squared_error(
                artefact, image - target, damage, weights.floor
            )
        if weights.reconstruction > 0.0:
            terms["reconstruction"] = weights.reconstruction * (image - background - artefact).abs().mean()
        if weights.ssim > 0.0:
            terms["ssim"] = weights.ssim * ssim_loss(background, target)
        if vgg is not None:
            terms["vgg"] = weights.vgg * vgg(background, target)
        if critic is not None:
            terms["adversarial"] = weights.adversarial * adversarial_loss(critic, background)
        return background, terms

    def critic_losses(discriminator: nn.Module, result: Tensor, batch: Sample) -> Tensor:
        return discriminator_loss(discriminator, result, batch["target"])

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
