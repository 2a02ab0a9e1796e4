"""The under-display task: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Generator, Tensor, nn
from torch.utils.data import ConcatDataset, Dataset

from afterlens.training.contextual_bilateral import of_features, windowed
from afterlens.training.data import uniform
from afterlens.training.deployable import Deployable, Port
from afterlens.training.features import features_file, load_features
from afterlens.training.gains import batch_psnr, by_gain
from afterlens.training.losses import relative_squared_error, ssim_loss
from afterlens.training.recipe import (
    Count,
    Positive,
    Recipe,
    Share,
    TrainingRecipe,
    Weight,
    expect,
    require_crop,
    require_weight,
)
from afterlens.training.restorer import PaddedRestorer
from afterlens.training.samples import (
    DegradeSample,
    HeldOutPairs,
    SynthesisRecipe,
    examples_by,
    of_one_frame,
    require_shares,
)
from afterlens.training.samples import index as index_samples
from afterlens.training.task import Objective, Outputs, Record, Sample, Task
from afterlens.training.udc.network import MULTIPLE, UnderDisplayNetwork
from afterlens.training.udc.psf import read_psf, with_tail
from afterlens.training.udc.synthesis import (
    KINDS,
    SRGB,
    TONE_MAPPED,
    add_light_sources,
    convolve,
    degrade,
    lit_scene,
    photograph,
    psf_of,
    veiled,
)
from afterlens.training.udc.whole_photos import HeldOutPhotos, See, Seen, WholePhotos
from afterlens.training.unet import Width

_FOLDER = Path(__file__).parent
CAMERA_FRAME = (720, 1280)  # height, width: of the live artifact, whose ghosts are a fixed number of pixels

WINDOW = 255  # pixels, side of the PSFs of random panels in training, with what they scatter


class NetworkRecipe(Recipe):
    """Arguments of ``UnderDisplayNetwork``."""

    widths: tuple[Width, Width, Width]
    depths: tuple[Count, Count, Count]
    decoder_depths: tuple[Count, Count]
    context: bool = False  # weights from before there was one lack this key


class PanelRecipe(Recipe):
    """What the photos are seen through.

    Attributes:
        psf: a file of `afterlens psf`, the one panel to train for; "" for those of ``synthesis.kinds``.
        tone_mapped: share of the photos that are taken to be tone-mapped, not clipped (``TONE_MAPPED``).
    """

    psf: str
    tone_mapped: Share


class LossRecipe(Recipe):
    """Weights of the loss terms; zero = not built."""

    pixel: Weight
    squared: Weight
    floor: Positive
    ssim: Weight
    contextual_bilateral: Weight
    contextual_bilateral_window: Annotated[int, expect(lambda n: n >= 4, "4 or more")]
    feature: Weight
    vgg_weights: str

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        require_weight("loss", self.pixel, self.squared, self.ssim, self.contextual_bilateral, self.feature)
        return self


class UnderDisplayRecipe(Recipe):
    """training/udc/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    synthesis: SynthesisRecipe
    panel: PanelRecipe
    loss: LossRecipe
    budgets: dict[str, float]  # dB that a converted variant may lose, where it is not the usual one

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        require_crop(self.training, MULTIPLE)
        require_shares(self.synthesis.kinds, KINDS)
        return self


def restorer(network: nn.Module, size: tuple[int, int] | None = None) -> PaddedRestorer:
    """The network at a photo's own size, or as a graph of one ``(height, width)``.

    A display's ghosts lie a fixed number of pixels away, so unlike a reflection they cannot be removed from a scaled
    picture.
    """
    return PaddedRestorer(network, MULTIPLE, size)


def build_network(recipe: UnderDisplayRecipe) -> UnderDisplayNetwork:
    """The network of a recipe, with start weights."""
    network = recipe.network
    return UnderDisplayNetwork(network.widths, network.depths, network.decoder_depths, network.context)


def index(recipe: UnderDisplayRecipe, photos: Sequence[Path]) -> list[Record]:
    """The photos, and captured pairs where the recipe mixes some in."""
    return index_samples(recipe.training, recipe.synthesis, photos, unscaled=True)


def training_set(recipe: UnderDisplayRecipe, records: Sequence[Record]) -> Dataset[Sample]:
    """As many samples as any run could ask for: crops of photos that were seen through a display as a whole.

    Captured pairs keep their scale: a display's ghosts are a fixed number of pixels away.
    """
    photos = [record.photo for record in records if not record.captured]
    pairs = [record for record in records if record.captured]
    ratio = recipe.synthesis.pairs_ratio if pairs else 0.0
    return WholePhotos(recipe.training, photos, _see(recipe), pairs, ratio)


def validation_set(recipe: UnderDisplayRecipe, records: Sequence[Record]) -> Dataset[Sample]:
    """Four fixed samples of each held-out photo, of the kinds trained on, after four of each held-out pair."""
    photos = [record.photo for record in records if not record.captured]
    pairs = [record for record in records if record.captured]
    seen = HeldOutPhotos(recipe.training, photos, _see(recipe))
    return ConcatDataset([HeldOutPairs(pairs, recipe.training.crop, unscaled=True), seen]) if pairs else seen


def add_lamps(photo: Tensor, generator: Generator) -> Tensor:
    """Light sources in a fifth of the photos: few have lamps, at which a display's ghosts are strongest."""
    return add_light_sources(photo, generator) if uniform(generator, 0, 1) < 0.2 else photo


def _degrade(recipe: UnderDisplayRecipe) -> DegradeSample:
    if not recipe.panel.psf:
        return of_one_frame(degrade)
    return of_one_frame(partial(_through, read_psf(Path(recipe.panel.psf))))


def _through(psf: Tensor, photo: Tensor, other: Tensor, kind: str, generator: Generator) -> Tensor:
    return photograph(photo, psf, generator)


def _see(recipe: UnderDisplayRecipe) -> See:
    psf = read_psf(Path(recipe.panel.psf)) if recipe.panel.psf else None
    return partial(_seen, recipe.synthesis.kinds, recipe.panel.tone_mapped, psf)


def _seen(
    kinds: Mapping[str, float], tone_mapped: float, psf: Tensor | None, photo: Tensor, generator: Generator
) -> Seen:
    """A photo through one panel, or a random one whose light is scattered beyond the window of its PSF."""
    if uniform(generator, 0, 1) < 0.5:
        photo = photo ** uniform(generator, 0.75, 1.3)
    photo = add_lamps(photo, generator)
    kind = int(torch.multinomial(torch.tensor(list(kinds.values())), 1, generator=generator))
    if psf is None:
        psf = with_tail(psf_of(list(kinds)[kind], generator), WINDOW, generator)
    mapped = uniform(generator, 0, 1) < tone_mapped
    scene = TONE_MAPPED.decode(photo) if mapped else lit_scene(photo, generator)
    light = convolve(veiled(scene, generator), psf)
    return Seen(photo, light, TONE_MAPPED if mapped else SRGB, kind)


def objective(recipe: UnderDisplayRecipe, device: torch.device) -> Objective:
    """SSIM and contextual bilateral for captured pairs, L1 and squared error for simulated ones, which fit to the pixel."""
    weights = recipe.loss
    network_of_features: nn.Module | None = None
    helpers: dict[str, Path] = {}
    if weights.feature > 0.0:
        helpers["features"] = features_file(weights.vgg_weights)
        network_of_features = load_features(helpers["features"]).to(device)

    def losses(network: nn.Module, batch: Sample, progress: float) -> tuple[Outputs, dict[str, Tensor]]:
        image, target = batch["input"], batch["target"]
        result = network(image).float()
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * F.l1_loss(result, target)
        if weights.squared > 0.0:
            damage = (image - target).square().mean(dim=(1, 2, 3))
            terms["squared"] = weights.squared * relative_squared_error(result, target, damage, weights.floor)
        if weights.ssim > 0.0:
            terms["ssim"] = weights.ssim * ssim_loss(result, target)
        if weights.contextual_bilateral > 0.0:
            terms["contextual_bilateral"] = weights.contextual_bilateral * windowed(
                result, target, weights.contextual_bilateral_window, side=5
            )
        if network_of_features is not None:
            terms["feature"] = weights.feature * of_features(
                network_of_features, result, target, weights.contextual_bilateral_window
            )
        return {"restored": result}, terms

    return Objective(losses, helpers=helpers, monitor=batch_psnr)


def deployable(network: nn.Module, height: int, width: int) -> Deployable:
    """RGB in, RGB out at ``height`` x ``width``."""
    shape = (1, 3, height, width)
    return Deployable(
        module=restorer(network, (height, width)).eval(),
        task=TASK.name,
        title=TASK.title,
        version="1.0.0",
        inputs=(Port("image", shape, (0.0, 1.0), meaning="photo taken through the display"),),
        outputs=(Port("restored", shape, (0.0, 1.0), meaning="photo without haze, blur and ghosts"),),
        camera_frame=CAMERA_FRAME,
    )


TASK = Task(
    name="udc",
    title="Under-display camera restoration",
    recipe_type=UnderDisplayRecipe,
    recipe_path=_FOLDER / "recipe.toml",
    pretrained=_FOLDER.parent / "pretrained" / "udc_live.safetensors",
    default_sizes=((256, 256), CAMERA_FRAME),
    inputs=("input",),
    ports=("image",),
    build_network=build_network,
    index=index,
    training_set=training_set,
    validation_set=validation_set,
    objective=objective,
    validate=by_gain(("input",)),
    restorer=restorer,
    deployable=deployable,
    examples=examples_by(of_one_frame(degrade)),
    kinds=KINDS,
    degrade=of_one_frame(degrade),
    degrade_by=_degrade,
)
