"""The deblurring task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from torch.utils.data import Dataset

from afterlens.training.data import cached_photo, index_photos, random_crop, seeded, uniform
from afterlens.training.deblur.half_floats import round_weights
from afterlens.training.deblur.network import FORMS, MULTIPLE, DeblurNetwork, for_deployment
from afterlens.training.deblur.synthesis import KINDS, degrade
from afterlens.training.deployable import Deployable, Port
from afterlens.training.gains import batch_psnr, mean_gain
from afterlens.training.losses import charbonnier, relative_squared_error
from afterlens.training.padding import crop_to, pad_to
from afterlens.training.recipe import (
    Count,
    Positive,
    Recipe,
    TrainingRecipe,
    Weight,
    expect,
    require_crop,
    require_weight,
)
from afterlens.training.restorer import PaddedRestorer
from afterlens.training.samples import examples_by, require_shares
from afterlens.training.task import Objective, Outputs, Record, Sample, Task, Validation
from afterlens.training.unet import Width

_FOLDER = Path(__file__).parent
_MARGIN = 16  # pixels of a photo that move into the picture; the rest is mirrored
_LONE = 0.12  # share of frames without one before them, as at the start of a scene: they stand in for it themselves
_SMALL_FLOW, _SMALL_BLUR = 3.0, 0.7  # pixels, from which on an error counts as a share of what it should be
_GOLDEN = (5.0**0.5 - 1.0) / 2.0


class NetworkRecipe(Recipe):
    """Arguments of ``DeblurNetwork``."""

    motion_widths: tuple[Width, Width, Width]
    widths: tuple[Width, Width, Width]
    depths: tuple[Count, Count, Count]
    decoder_depths: tuple[Count, Count]
    form: Annotated[str, expect(lambda name: name in FORMS, f"one of {', '.join(FORMS)}")]


class MotionRecipe(Recipe):
    """The ``[synthesis]`` table: shares of the kinds of motion."""

    kinds: dict[str, Weight]

    @model_validator(mode="after")
    def _known_kinds(self) -> Self:
        require_shares(self.kinds, KINDS)
        return self


class LossRecipe(Recipe):
    """Weights of the loss terms; zero = not built."""

    pixel: Weight
    squared: Weight
    floor: Positive
    flow: Weight
    blur_covariance: Weight
    identity: Weight

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        require_weight("loss", self.pixel, self.squared, self.flow, self.blur_covariance)
        return self


class DeblurRecipe(Recipe):
    """training/deblur/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    synthesis: MotionRecipe
    loss: LossRecipe
    budgets: dict[str, float]  # dB that a converted variant may lose, where it is not the usual one

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        require_crop(self.training, MULTIPLE)
        return self


class MovingScenes(Dataset[Sample]):
    """What `degrade` makes of random crops; sample ``index`` depends on the seed and the index alone.

    Kinds follow each other so evenly that of any eight samples in a row, at least one is of each kind with a share of
    0.15 or more: every batch has wholly and partly sharp ones, and so learns to leave them alone.
    """

    def __init__(self, recipe: DeblurRecipe, records: Sequence[Record], length: int, seed: int) -> None:
        self.photos = [record.photo for record in records]
        self.length, self.seed, self.crop = length, seed, recipe.training.crop
        self.kinds = list(recipe.synthesis.kinds)
        shares = torch.tensor(list(recipe.synthesis.kinds.values()), dtype=torch.float64)
        self.bounds = shares.cumsum(0) / shares.sum()

    def __len__(self) -> int:
        return self.length

    def kind(self, index: int) -> int:
        """The place of a sample's kind among ``synthesis.kinds``."""
        # Multiples of the golden ratio: no gap between any eight in a row is wider than 0.146.
        share = torch.tensor(index * _GOLDEN % 1.0, dtype=torch.float64)
        return min(int(torch.searchsorted(self.bounds, share, right=True)), len(self.kinds) - 1)

    def __getitem__(self, index: int) -> Sample:
        kind = self.kind(index)
        generator = seeded(self.seed, index)
        first, second = torch.randint(len(self.photos), (2,), generator=generator).tolist()
        size = self.crop + 2 * _MARGIN
        photo = random_crop(cached_photo(self.photos[first]), size, generator)
        other = random_crop(cached_photo(self.photos[second]), size, generator)
        if uniform(generator, 0, 1) < 0.5:
            photo = photo ** uniform(generator, 0.75, 1.3)
        sample = degrade(photo, other, self.kinds[kind], generator, _MARGIN)
        if uniform(generator, 0, 1) < _LONE:
            sample["previous"] = sample["input"]
            sample["motion"][:2] = 0.0
        return {**sample, "kind": torch.tensor(kind)}


def restorer(network: nn.Module, size: tuple[int, int] | None = None) -> PaddedRestorer:
    """The network on two frames of any size, the current and the previous one, or as a graph of one ``(height, width)``."""
    return PaddedRestorer(network, MULTIPLE, size)


class DeblurStream(nn.Module):
    """The network on the frames of a clip in order: each frame is encoded once, and its features are handed on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor, before: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """``(1, 3, H, W)`` RGB [0, 1] and what this gave for the frame before, None at the start of a scene.

        Returns the restored frame in [0, 1], and what to give with the next one.
        """
        padded, top, left = pad_to(frame, MULTIPLE, MULTIPLE)
        network = self.network
        assert isinstance(network, DeblurNetwork)
        own = network.features(padded)
        restored, _ = network.restore(padded, own, own if before is None else before)
        return crop_to(restored.clamp(0.0, 1.0), top, left, frame.shape[-2], frame.shape[-1]), own


def build_network(recipe: DeblurRecipe) -> DeblurNetwork:
    """The network of a recipe, with start weights."""
    network = recipe.network
    return DeblurNetwork(
        network.motion_widths, network.widths, network.depths, network.decoder_depths, network.form
    )


def index(recipe: DeblurRecipe, photos: Sequence[Path]) -> list[Record]:
    """The photos, each of its own scene."""
    return index_photos(photos)


def training_set(recipe: DeblurRecipe, records: Sequence[Record]) -> MovingScenes:
    """As many samples as any run could ask for."""
    return MovingScenes(recipe, records, 2**40, recipe.training.seed)


def validation_set(recipe: DeblurRecipe, records: Sequence[Record]) -> MovingScenes:
    """Four fixed samples of each held-out photo."""
    return MovingScenes(recipe, records, 4 * len(records), -1)


def objective(recipe: DeblurRecipe, device: torch.device) -> Objective:
    """The restored frame, the motion at three scales, and what was sharp as it was."""
    weights = recipe.loss

    def losses(network: nn.Module, batch: Sample, progress: float) -> tuple[Outputs, dict[str, Tensor]]:
        image, sharp = batch["input"], batch["sharp"]
        restored, fields = network(image, batch["previous"])
        result = restored.float()
        # What is sharp shall stay as it is, noise and all.
        target = torch.where(sharp > 0.5, image, batch["target"])
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * charbonnier(result, target)
        if weights.squared > 0.0:
            damage = (image - target).square().mean(dim=(1, 2, 3))
            terms["squared"] = weights.squared * relative_squared_error(result, target, damage, weights.floor)
        if weights.identity > 0.0:
            changed = ((result - image).abs() * sharp).sum() / (3.0 * sharp.sum() + 1.0)
            terms["identity"] = weights.identity * changed
        flow, blur = motion_errors([field.float() for field in fields], batch["motion"])
        if weights.flow > 0.0:
            terms["flow"] = weights.flow * flow
        if weights.blur_covariance > 0.0:
            terms["blur_covariance"] = weights.blur_covariance * blur
        return {"restored": result}, terms

    return Objective(losses, monitor=batch_psnr)


def validate(recipe: DeblurRecipe, network: nn.Module, batches: Iterable[Sample]) -> Validation:
    """What is gained, by kind, and the errors of the motion. The motion network alone is scored by these: less is better."""

    def errors(made: Any, batch: Sample) -> dict[str, Tensor]:
        flow, blur = motion_errors([field.float() for field in made[1]], batch["motion"])
        return {"flow_error": flow, "blur_error": blur}

    found = mean_gain(network, batches, TASK.inputs, list(recipe.synthesis.kinds), errors)
    if recipe.network.form != "motion":
        return dataclasses.replace(found, unit="")
    flow, blur = found.metrics["flow_error"], found.metrics["blur_error"]
    assert flow is not None and blur is not None
    score = -flow - blur
    metrics = {"validation_score": score, **found.metrics}
    return dataclasses.replace(found, score=score, metrics=metrics, unit="")


def motion_errors(fields: Sequence[Tensor], ground_truth: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared errors of the flow and of the blur covariance, relative to their own size, the mean over the scales.

    Squared, since motion has no preferred direction: the median, which an absolute error asks for, is "no motion", and
    there the network stayed. Relative, since most of what can be restored is restored where the blur is small.

    Args:
        fields: ``(N, 5, h, w)`` in pixels, at any scales.
        ground_truth: ``(N, 5, H/4, W/4)``, scaled down to each by its mean.
    """
    flows, blurs = [], []
    for field in fields:
        wanted = F.avg_pool2d(ground_truth, ground_truth.shape[-1] // field.shape[-1])
        error = (field - wanted).square()
        size = wanted[:, :2].square().sum(dim=1, keepdim=True)
        flows.append((error[:, :2] / (size + _SMALL_FLOW**2)).mean())
        blurs.append((error[:, 2:] / (wanted[:, 2:3].square() + _SMALL_BLUR**2)).mean())
    return torch.stack(flows).mean(), torch.stack(blurs).mean()


def deployable(network: nn.Module, height: int, width: int) -> Deployable:
    """Two RGB frames in, one out, at ``height`` x ``width``."""
    shape = (1, 3, height, width)
    assert isinstance(network, DeblurNetwork)
    return Deployable(
        module=restorer(for_deployment(network), (height, width)).eval(),
        task=TASK.name,
        title=TASK.title,
        version="1.0.0",
        inputs=(
            Port("current", shape, (0.0, 1.0), meaning="frame to be restored"),
            Port("previous", shape, (0.0, 1.0), meaning="the frame before it, as the camera gave it"),
        ),
        outputs=(Port("restored", shape, (0.0, 1.0), meaning="the current frame without its motion blur"),),
    )


TASK = Task(
    name="deblur",
    title="Video deblurring",
    recipe_type=DeblurRecipe,
    recipe_path=_FOLDER / "recipe.toml",
    pretrained=_FOLDER.parent / "pretrained" / "deblur.safetensors",
    default_sizes=((256, 256), (720, 1280)),
    inputs=("input", "previous"),
    ports=("current", "previous"),
    build_network=build_network,
    index=index,
    training_set=training_set,
    validation_set=validation_set,
    objective=objective,
    validate=validate,
    restorer=restorer,
    deployable=deployable,
    examples=examples_by(degrade),
    kinds=KINDS,
    degrade=degrade,
    stream=DeblurStream,
    finish=round_weights,
)
