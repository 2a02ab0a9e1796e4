"""The reflection task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from afterlens.training.blocks import GROUP_WIDTH
from afterlens.training.deployable import Deployable, Port
from afterlens.training.losses import (
    PatchDiscriminator,
    VGGFeatureLoss,
    adversarial_loss,
    discriminator_loss,
    relative_squared_error,
    ssim_loss,
    truncated_pixel_loss,
    vgg_file,
)
from afterlens.training.recipe import TrainingRecipe, require
from afterlens.training.reflection.network import MULTIPLE, ReflectionNetwork
from afterlens.training.reflection.pyramid import PyramidRestorer, levels_for
from afterlens.training.reflection.synthesis import KINDS, degrade
from afterlens.training.samples import (
    DegradedPhotos,
    SynthesisRecipe,
    of_one_frame,
    training_samples,
    validation_samples,
)
from afterlens.training.task import Objective, Sample, Task

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
class LossRecipe:
    """Weights of the loss terms; zero = not built."""

    pixel: float
    threshold: float
    squared: float
    floor: float
    layer: float
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
            "layer",
            "reconstruction",
            "ssim",
            "vgg",
            "adversarial",
        ):
            require(key, getattr(self, key), 0.0 <= getattr(self, key) < math.inf, "zero or more")
        require("floor", self.floor, 0.0 < self.floor < math.inf, "above zero")
        background = self.pixel + self.squared + self.ssim + self.vgg
        layer = self.layer + self.reconstruction
        require("pixel + squared + ssim + vgg", background, background > 0.0, "a weight for one of them")
        require("layer + reconstruction", layer, layer > 0.0, "a weight for one of them")


@dataclass(frozen=True)
class ReflectionRecipe:
    """training/reflection/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    synthesis: SynthesisRecipe
    loss: LossRecipe
    budgets: dict[str, float]  # dB that a converted variant may lose, where it is not the usual one

    def __post_init__(self) -> None:
        """Raises ValueError for a crop that the network can't take, or an unknown kind of degradation."""
        crop = self.training.crop
        require("training.crop", crop, crop % MULTIPLE == 0, f"a multiple of {MULTIPLE}")
        self.synthesis.require_kinds(KINDS)


def build_network(recipe: ReflectionRecipe) -> ReflectionNetwork:
    """The network of a recipe, with start weights."""
    return ReflectionNetwork(recipe.network.widths, recipe.network.depths, recipe.network.decoder_widths)


def training_set(recipe: ReflectionRecipe, photos: Sequence[Path]) -> DegradedPhotos:
    """As many samples as any run could ask for."""
    return training_samples(recipe.training, recipe.synthesis, photos, degrade)


def validation_set(recipe: ReflectionRecipe, photos: Sequence[Path]) -> DegradedPhotos:
    """Fixed samples of held-out photos, of the kinds trained on."""
    return validation_samples(recipe.training, recipe.synthesis, photos, degrade)


def objective(recipe: ReflectionRecipe, device: torch.device) -> Objective:
    """Weighted terms of the claims; the VGG19 term and the discriminator exist only when they have a weight."""
    weights = recipe.loss
    vgg: VGGFeatureLoss | None = None
    if weights.vgg > 0.0:
        vgg = VGGFeatureLoss(vgg_file(weights.vgg_weights)).to(device)
    critic = PatchDiscriminator().to(device) if weights.adversarial > 0.0 else None

    def losses(network: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = batch["input"], batch["target"]
        background, layer = (output.float() for output in network(image))
        damage = (image - target).square().mean(dim=(1, 2, 3))
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * truncated_pixel_loss(background, target, weights.threshold)
        if weights.squared > 0.0:
            terms["squared"] = weights.squared * relative_squared_error(
                background, target, damage, weights.floor
            )
        if weights.layer > 0.0:
            terms["layer"] = weights.layer * relative_squared_error(
                layer, image - target, damage, weights.floor
            )
        if weights.reconstruction > 0.0:
            terms["reconstruction"] = weights.reconstruction * (image - background - layer).abs().mean()
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
    """RGB in, RGB out at ``height`` x ``width``; the layer as a second picture in which 0.5 is "nothing".

    The second is as large as what the network sees: enlarged in the graph it would cost a tenth of a 1280x720 run.
    """
    shape = (1, 3, height, width)
    block = 2 ** levels_for(height, width)
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
            Port(
                "layer",
                (1, 3, -(-height // block), -(-width // block)),
                (0.0, 1.0),
                meaning="what was removed: 0.5 + (photo - restored) / 2",
            ),
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
    degrade=of_one_frame(degrade),
)
