"""The identity swap: its recipe, its samples and its objective, put together as ``TASK``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn
from torch.utils.data import Dataset

from afterlens.training.contextual_bilateral import of_features
from afterlens.training.data import as_picture
from afterlens.training.deployable import Deployable, Port
from afterlens.training.faces.mesh import lay
from afterlens.training.faces.portraits import aligned_square, index_portraits
from afterlens.training.features import features_file, load_features
from afterlens.training.gains import masked_psnr
from afterlens.training.losses import PatchDiscriminator, adversarial_loss, discriminator_loss, gradient_error
from afterlens.training.media.errors import UserError
from afterlens.training.recipe import (
    Count,
    Recipe,
    Share,
    TrainingRecipe,
    Weight,
    require_crop,
)
from afterlens.training.swap.enrolled import enrolled, read_identity
from afterlens.training.swap.identity import BUNDLED as ENCODER
from afterlens.training.swap.identity import load_encoder
from afterlens.training.swap.network import MULTIPLE, SwapGraph, SwapNetwork
from afterlens.training.swap.synthesis import HeldOutSwaps, SwapSamples, index_triplets
from afterlens.training.task import Discriminator, Objective, Outputs, Record, Sample, Task, Validation
from afterlens.training.unet import Width

_FOLDER = Path(__file__).parent
_PICTURES = 8  # rows of the validation grid
_WINDOW = 32  # side of the random window of each feature map that takes part in its loss


class NetworkRecipe(Recipe):
    """Arguments of ``SwapNetwork``."""

    widths: tuple[Width, Width, Width]
    depths: tuple[Count, Count, Count]
    decoder_depths: tuple[Count, Count]


class LossRecipe(Recipe):
    """Weights of the loss terms; zero = not built."""

    triplets: bool
    pixel: Weight
    inside: Weight
    gradient: Weight
    outside: Weight
    mask: Weight
    target_identity: Weight
    source_identity: Weight
    adversarial: Weight
    adversarial_start: Share
    sees_all: bool
    feature: Weight


class SwapRecipe(Recipe):
    """training/swap/recipe.toml."""

    training: TrainingRecipe
    network: NetworkRecipe
    loss: LossRecipe
    budgets: dict[str, float]  # dB that a converted variant may lose, where it is not the usual one

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        require_crop(self.training, MULTIPLE)
        return self


def build_network(recipe: SwapRecipe) -> SwapNetwork:
    """The network of a recipe, with start weights."""
    network = recipe.network
    return SwapNetwork(network.widths, network.depths, network.decoder_depths)


def index(recipe: SwapRecipe, photos: Sequence[Path]) -> list[Record]:
    """The triplets among the photos."""
    return index_triplets(photos)


def training_set(recipe: SwapRecipe, records: Sequence[Record]) -> Dataset[Sample]:
    """As many samples as any run could ask for."""
    return SwapSamples(records, recipe.training.crop, recipe.training.seed, recipe.loss.triplets)


def validation_set(recipe: SwapRecipe, records: Sequence[Record]) -> Dataset[Sample]:
    """The held-out triplets."""
    return HeldOutSwaps(records, recipe.training.crop)


def objective(recipe: SwapRecipe, device: torch.device) -> Objective:
    """The claimed objective: a discriminator that sees source, first and output, similarity to target and to source.

    Source: the published system's claims (docs/claims.md).
    """
    weights = recipe.loss
    encoder = load_encoder().to(device)
    helpers = {"identity_encoder": ENCODER}
    features: nn.Module | None = None
    if weights.feature > 0.0:
        helpers["features"] = features_file("")
        features = load_features(helpers["features"]).to(device)
    judge = None
    if weights.adversarial > 0.0:
        judge = PatchDiscriminator(inputs=9 if weights.sees_all else 3).to(device)

    def seen(output: Tensor, batch: Sample) -> Tensor:
        return torch.cat([batch["source"], batch["frame"], output], dim=1) if weights.sees_all else output

    def losses(network: nn.Module, batch: Sample, progress: float) -> tuple[Outputs, dict[str, Tensor]]:
        frame, target, changed = batch["frame"], batch["target"], batch["changed"]
        with torch.no_grad():
            source = encoder(batch["source"])
        made, mask = (output.float() for output in network(frame, batch["laid"], source))
        outputs: Outputs = {"result": made, "mask": mask}
        error = ((made - target).square() + 1e-6).sqrt() - 1e-3
        terms: dict[str, Tensor] = {}
        if weights.pixel > 0.0:
            terms["pixel"] = weights.pixel * (known(batch) * (1.0 + weights.inside * changed) * error).mean()
        if weights.gradient > 0.0:
            terms["gradient"] = (
                weights.gradient * gradient_error(known(batch) * made, known(batch) * target).mean()
            )
        if weights.outside > 0.0:
            terms["outside"] = weights.outside * ((1.0 - changed) * (made - frame).abs()).mean()
        if weights.mask > 0.0:
            terms["mask"] = weights.mask * F.binary_cross_entropy(mask.clamp(1e-4, 1 - 1e-4), changed)
        if weights.target_identity > 0.0 or weights.source_identity > 0.0:
            shown = encoder(made.clamp(0.0, 1.0))
            if weights.target_identity > 0.0:
                with torch.no_grad():
                    wanted = encoder(target)
                terms["target_identity"] = weights.target_identity * (1.0 - (shown * wanted).sum(1)).mean()
            if weights.source_identity > 0.0:
                terms["source_identity"] = weights.source_identity * (1.0 - (shown * source).sum(1)).mean()
        if features is not None:
            answered = known(batch)
            terms["feature"] = weights.feature * of_features(
                features, answered * made.clamp(0.0, 1.0), answered * target, _WINDOW
            )
        if judge is not None and progress >= weights.adversarial_start:
            terms["adversarial"] = weights.adversarial * adversarial_loss(judge, seen(made, batch))
        return outputs, terms

    def known(batch: Sample) -> Tensor:
        """``(N, 1, 1, 1)``: 1 where the target is the answer; without triplets a swapped frame has none."""
        return batch["known"][:, None, None, None]

    def judge_loss(discriminator: nn.Module, outputs: Outputs, batch: Sample) -> Tensor:
        return discriminator_loss(discriminator, seen(outputs["result"], batch), seen(batch["target"], batch))

    discriminators = {"discriminator": Discriminator(judge, judge_loss)} if judge is not None else {}
    return Objective(losses, discriminators=discriminators, helpers=helpers)


def validate(recipe: Any, network: nn.Module, batches: Iterable[Sample]) -> Validation:
    """How near the held-out swaps come to their targets.

    Metrics: "gain", the score, what the network gains over the laid source where first and target differ, in dB;
    "psnr" there; "around_psnr" of the rest to the first, at most 45 dB; "similarity" of the output's identity to the
    source's, "target_similarity" of the target's, the most that can be asked for, "first_similarity" of the first's.

    Pictures, a row each: source, first, the source laid on it, result, target.
    """
    device = next(network.parameters()).device
    encoder = load_encoder().to(device)
    found: dict[str, list[float]] = {
        name: []
        for name in ("gain", "psnr", "around_psnr", "similarity", "target_similarity", "first_similarity")
    }
    rows: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            frame, laid, target, changed = (batch[key] for key in ("frame", "laid", "target", "changed"))
            source = encoder(batch["source"])
            made = network(frame, laid, source)[0].float().clamp(0.0, 1.0)
            psnr = masked_psnr(made, target, changed)
            found["psnr"] += psnr.tolist()
            found["gain"] += (psnr - masked_psnr(laid, target, changed)).tolist()
            found["around_psnr"] += masked_psnr(made, frame, 1.0 - changed).tolist()
            for name, picture in (
                ("similarity", made),
                ("target_similarity", target),
                ("first_similarity", frame),
            ):
                found[name] += (encoder(picture) * source).sum(1).tolist()
            shown = (batch["source"], frame, laid, made, target)
            rows.append(torch.cat([picture[0] for picture in shown], dim=2).cpu())
    metrics: dict[str, float | None] = {name: sum(v) / max(len(v), 1) for name, v in found.items()}
    return Validation(float(metrics["gain"] or 0.0), metrics, torch.cat(rows[:_PICTURES], dim=1))


def examples(
    recipe: SwapRecipe, photos: Sequence[Path], height: int, width: int, count: int, seed: int
) -> Iterator[tuple[str, Sample]]:
    """The faces of photos with the bundled identity's laid on them.

    The ground truth is known of NAME_first beside which NAME_target lies, rendered for the bundled identity; of several
    photos those are taken, if there are any.

    Raises UserError where the size is not square, or no photo has a face.
    """
    if height != width:
        raise UserError(f"{width}x{height}: faces are aligned in squares; give a square size")
    answers = {photo: photo.with_name(photo.name.replace("_first.", "_target.")) for photo in photos}
    known = [photo for photo, answer in answers.items() if answer != photo and answer.is_file()]
    identity, records = read_identity(TASK.pretrained), index_portraits(known or photos)
    for number in range(count):
        record = records[number % len(records)]
        light = 1.0 + 0.3 * (number // len(records))  # of the same photo again
        frame, landmarks = aligned_square(record, height)
        frame = frame**light
        laid, _ = lay(identity.picture, identity.landmarks, frame, landmarks)
        sample = {"frame": as_picture(frame), "laid": as_picture(laid)}
        if known:
            target, _ = aligned_square(replace(record, photo=answers[record.photo]), height)
            sample["target"] = as_picture(target**light)
        yield f"{record.photo.stem} {number}", sample


def deployable(network: nn.Module, height: int, width: int) -> Deployable:
    """An aligned face and the same with the source laid on it in; the swapped face, and where it was changed."""
    shape = (1, 3, height, width)
    unit = (0.0, 1.0)
    return Deployable(
        module=_for_one_identity(network, height, width).eval(),
        task=TASK.name,
        title=TASK.title,
        version="1.0.0",
        inputs=(
            Port("frame", shape, unit, meaning="face, aligned: eyes and mouth at fixed places"),
            Port(
                "laid", shape, unit, meaning="the same, with the identity's face laid on it by its landmarks"
            ),
        ),
        outputs=(
            Port("result", shape, unit, meaning="the face of the identity, in the frame's pose and light"),
            Port("mask", shape, unit, meaning="where the face was changed: grey, 1 = there"),
        ),
    )


def _for_one_identity(network: nn.Module, height: int = 256, width: int = 256) -> SwapGraph:
    assert isinstance(network, SwapNetwork)
    return SwapGraph(network, enrolled(network).vector, height, width)


TASK = Task(
    name="swap",
    title="Identity swap",
    recipe_type=SwapRecipe,
    recipe_path=_FOLDER / "recipe.toml",
    pretrained=_FOLDER.parent / "pretrained" / "swap.safetensors",
    default_sizes=((256, 256),),
    inputs=("frame", "laid"),
    ports=("frame", "laid"),
    build_network=build_network,
    index=index,
    training_set=training_set,
    validation_set=validation_set,
    objective=objective,
    validate=validate,
    restorer=_for_one_identity,
    deployable=deployable,
    examples=examples,
    faces="identity",
)
