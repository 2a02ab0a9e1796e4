"""The reflection task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from afterlens.training.crops import CropRecipe
from afterlens.training.deployable import Deployable, Port
from afterlens.training.features import features_file, load_features
from afterlens.training.gains import batch_psnr, by_gain
from afterlens.training.losses import (
    FeatureLoss,
    PatchDiscriminator,
    adversarial_loss,
    discriminator_loss,
    relative_squared_error,
    ssim_loss,
    truncated_pixel_loss,
)
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import (
    Count,
    Positive,
    Recipe,
    TrainingRecipe,
    Weight,
    require,
    require_crop,
    require_weight,
)
from afterlens.training.reflection.gate import gate_loss, gate_recall
from afterlens.training.reflection.kinds import KINDS, degrade
from afterlens.training.reflection.network import MULTIPLE, ReflectionNetwork
from afterlens.training.reflection.pyramid import PyramidRestorer, levels_for
from afterlens.training.samples import (
    DegradedPhotos,
    SynthesisRecipe,
    examples_by,
    require_shares,
    training_samples,
    validation_samples,
)
from afterlens.training.samples import index as index_samples
from afterlens.training.task import Discriminator, Objective, Outputs, Record, Sample, Task
from afterlens.training.unet import Width

_FOLDER = Path(__file__).parent


class NetworkRecipe(Recipe):
    """Arguments of ``ReflectionNetwork``."""

    widths: tuple[Width, Width, Width]
    depths: tuple[Count, Count, Count]
    decoder_widths: tuple[Width, Width]
    context: bool = False  # older weights lack these three keys
    gate: bool = False
    gated_encoder: bool = True


class LossRecipe(Recipe):
    """Weights of the loss terms; zero = not built."""

    pixel: Weight
    threshold: float
    squared: Weight
    floor: Positive
    floor_start: Positive | None = None  # weights from before there was a schedule lack this key
    layer: Weight
    reconstruction: Weight
    gate: Weight
    gate_threshold: Positive
    ssim: Weight
    feature: Weight
    vgg_weights: str
    adversarial: Weight

    @model_validator(mode="after")
    def _both_decoders_learn(self) -> Self:
        require_weight("pixel + squared + ssim + feature", self.pixel, self.squared, self.ssim, self.feature)
        require_weight("layer + reconstruction", self.layer, self.reconstruction)
        return self


class ReflectionRecipe(Recipe):
    """training/reflection/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    crops: CropRecipe
    synthesis: SynthesisRecipe
    loss: LossRecipe
    budgets: dict[str, float]  # dB that a converted variant may lose, where it is not the usual one

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        require_crop(self.training, MULTIPLE)
        for _, side in self.crops.sizes:
            require("crops.sizes", side, side % MULTIPLE == 0, f"sides that are multiples of {MULTIPLE}")
        require_shares(self.synthesis.kinds, KINDS)
        return self


def build_network(recipe: ReflectionRecipe) -> ReflectionNetwork:
    """The network of a recipe, with start weights."""
    network = recipe.network
    return ReflectionNetwork(
        network.widths,
        network.depths,
        network.decoder_widths,
        network.context,
        network.gate,
        network.gated_encoder,
    )


def index(recipe: ReflectionRecipe, photos: Sequence[Path]) -> list[Record]:
    """The photos, and captured pairs where the recipe mixes some in."""
    return index_samples(recipe.training, recipe.synthesis, photos)


def training_set(recipe: ReflectionRecipe, records: Sequence[Record]) -> DegradedPhotos:
    """As many samples as any run could ask for."""
    return training_samples(recipe.training, recipe.synthesis, records, degrade, crops=recipe.crops)


def validation_set(
    recipe: ReflectionRecipe, records: Sequence[Record]
) -> ConcatDataset[Sample] | DegradedPhotos:
    """Fixed samples of held-out photos and pairs, of the kinds trained on."""
    return validation_samples(recipe.training, recipe.synthesis, records, degrade, crops=recipe.crops)


def scheduled_floor(weights: LossRecipe, progress: float) -> float:
    """From ``floor_start`` to ``floor`` over the run's ``progress``, [0, 1], evenly in its logarithm."""
    start = weights.floor_start or weights.floor
    return float(start * (weights.floor / start) ** progress)


def objective(recipe: ReflectionRecipe, device: torch.device) -> Objective:
    """Weighted terms of the claims; the feature network and the discriminator exist only when they have a weight."""
    weights = recipe.loss
    if weights.gate > 0.0 and not recipe.network.gate:
        raise UserError(f"loss.gate is {weights.gate}, expected 0 for a network without network.gate")
    feature: FeatureLoss | None = None
    helpers: dict[str, Path] = {}
    if weights.feature > 0.0:
        helpers["features"] = features_file(weights.vgg_weights)
        feature = FeatureLoss(load_features(helpers["features"])).to(device)
    judge = PatchDiscriminator().to(device) if weights.adversarial > 0.0 else None

    def losses(network: nn.Module, batch: Sample, progress: float) -> tuple[Outputs, dict[str, Tensor]]:
        image, target = batch["input"], batch["target"]
        background, layer, *logits = (output.float() for output in network(image))
        damage = (image - target).square().mean(dim=(1, 2, 3))
        floor = scheduled_floor(weights, progress)
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * truncated_pixel_loss(background, target, weights.threshold)
        if weights.squared > 0.0:
            terms["squared"] = weights.squared * relative_squared_error(background, target, damage, floor)
        if weights.layer > 0.0:
            terms["layer"] = weights.layer * relative_squared_error(layer, image - target, damage, floor)
        if weights.reconstruction > 0.0:
            terms["reconstruction"] = weights.reconstruction * (image - background - layer).abs().mean()
        outputs: Outputs = {"restored": background, "layer": layer}
        if weights.gate > 0.0:
            (outputs["gate"],) = logits
            terms["gate"] = weights.gate * gate_loss(outputs["gate"], image, target, weights.gate_threshold)
        if weights.ssim > 0.0:
            terms["ssim"] = weights.ssim * ssim_loss(background, target)
        if feature is not None:
            terms["feature"] = weights.feature * feature(background, target)
        if judge is not None:
            terms["adversarial"] = weights.adversarial * adversarial_loss(judge, background)
        return outputs, terms

    def monitor(outputs: Outputs, batch: Sample) -> dict[str, Tensor]:
        shown = batch_psnr(outputs, batch)
        if "gate" in outputs:
            found = gate_recall(outputs["gate"], batch["input"], batch["target"], weights.gate_threshold)
            shown |= dict(zip(("gate_recall", "gate_false_alarms"), found, strict=True))
        return shown

    def judge_loss(discriminator: nn.Module, outputs: Outputs, batch: Sample) -> Tensor:
        return discriminator_loss(discriminator, outputs["restored"], batch["target"])

    discriminators = {"discriminator": Discriminator(judge, judge_loss)} if judge is not None else {}
    return Objective(losses, discriminators=discriminators, helpers=helpers, monitor=monitor)


def set_strength(network: nn.Module, strength: float) -> None:
    """Let the gate open where the network holds a layer for more probable than ``1 - strength``.

    At 0.5, as the weights have it; at 0 nothing passes and the photo stays as it is; at 1 all of the change passes.

    Raises UserError for weights without a gate.
    """
    assert isinstance(network, ReflectionNetwork)
    if network.gate_head is None:
        raise UserError(
            "these weights have no gate, so their strength cannot be changed; take weights with one"
        )
    network.threshold = -float(
        torch.logit(torch.tensor(strength, dtype=torch.float64))
    )  # infinite at 0 and 1


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
    inputs=("input",),
    ports=("image",),
    build_network=build_network,
    index=index,
    training_set=training_set,
    validation_set=validation_set,
    objective=objective,
    validate=by_gain(("input",)),
    restorer=PyramidRestorer,
    deployable=deployable,
    examples=examples_by(degrade),
    kinds=KINDS,
    degrade=degrade,
    set_strength=set_strength,
)
