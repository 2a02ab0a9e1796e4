"""Who a face is, as a vector: a small network that learned it from rendered people, who do not exist.

    python -m afterlens.training.swap.identity TRIPLETS -o identity_encoder.safetensors

    encoder = load_encoder()
    similarity = (encoder(faces) * encoder(others)).sum(1)   # (N, 3, S, S) RGB [0, 1], aligned -> cosine, (N,)

TRIPLETS is a folder of `afterlens heads --triplets`. Source and target show one person under another's hair, in another
pose and light; first and target differ in nothing but the person. So hair, clothes, light and backdrop tell nothing, and
the encoder must look at the face. It is no recogniser of real people, and was never shown one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.training.checkpoint import load_frozen, save_checkpoint
from afterlens.training.command import answer
from afterlens.training.data import seeded
from afterlens.training.faces.portraits import CIRCLE, read_labels
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos, read_photo
from afterlens.training.media.progress import progress_bar

BUNDLED = Path(__file__).parents[1] / "pretrained" / "identity_encoder.safetensors"

NUMBERS = 128
"""Of an identity's vector, whose length is 1."""

_SIDE = 84  # pixels of the face that the encoder sees
_FROM, _TO = 11 / 64, 53 / 64  # of the aligned square: without most of the hair, the ears and the collar
_SCALE, _MARGIN = 24.0, 0.25  # of the training's loss
_SEED = 4_000_000


class IdentityEncoder(nn.Module):
    """Aligned faces ``(N, 3, S, S)`` RGB [0, 1], S at least 64 -> unit vectors ``(N, 128)``; 0.5 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 160)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [*_layer(before, after, 2), *_layer(after, after, 1)]
        self.features = nn.Sequential(*layers)
        self.project = nn.Linear(160 * 9, NUMBERS)

    def forward(self, faces: Tensor) -> Tensor:
        """See the class."""
        side = faces.shape[-1]
        low, high = round(_FROM * side), round(_TO * side)
        seen = F.adaptive_avg_pool2d(faces[:, :, low:high, low:high], _SIDE)
        places = F.adaptive_avg_pool2d(self.features(seen * 2.0 - 1.0), 3)
        return F.normalize(self.project(places.flatten(1)), dim=1)


def _layer(before: int, after: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]


def load_encoder(path: Path = BUNDLED) -> IdentityEncoder:
    """The encoder, frozen and in eval mode. Raises UserError for a file that does not hold one."""
    return load_frozen(IdentityEncoder(), path)


def train_encoder(photos: Sequence[Path], out: Path, *, steps: int) -> dict[str, Any]:
    """Trains an encoder and writes it; a tenth of the circles of people is held out.

    The loss is a softmax over the people with a margin between cosines (CosFace; Wang et al., CVPR 2018).

    Returns: ``{"encoder", "people", "pictures", "steps", "held_out"}``, the last as `recognised` gives it.

    Raises UserError where the photos are no triplets, or show too few people.
    """
    pictures, people, circles = _read(photos)
    chosen = sorted(set(circles.tolist()))
    held_out = torch.isin(circles, torch.tensor(chosen[:: max(10, len(chosen) // 10)][: len(chosen) // 2]))
    names, labels = people[~held_out].unique(return_inverse=True)
    if len(names) < 2 or not held_out.any():
        raise UserError(f"{len(names)} people in {len(chosen)} circles are too few; render more triplets")
    kept = pictures[~held_out]
    torch.manual_seed(0)
    encoder, centres = IdentityEncoder(), nn.Parameter(torch.randn(len(names), NUMBERS))
    optimizer = torch.optim.AdamW([*encoder.parameters(), centres], lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    with progress_bar() as progress:
        bar = progress.add_task("training the encoder", total=steps)
        for step in range(steps):
            generator = seeded(_SEED, step)
            chosen_ones = torch.randint(len(kept), (48,), generator=generator)
            cosines = encoder(_varied(kept[chosen_ones], generator)) @ F.normalize(centres, dim=1).T
            wanted = labels[chosen_ones]
            margin = _MARGIN * F.one_hot(wanted, len(names))
            loss = F.cross_entropy(_SCALE * (cosines - margin), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update(
                bar, advance=1, description=f"training the encoder, loss {float(loss.detach()):.2f}"
            )
    encoder.eval()
    result = {
        "encoder": str(out),
        "people": len(names),
        "pictures": len(kept),
        "steps": steps,
        "held_out": recognised(encoder, pictures[held_out], people[held_out]),
    }
    save_checkpoint(out, encoder.state_dict(), {key: result[key] for key in ("people", "pictures", "steps")})
    return result


def recognised(encoder: nn.Module, pictures: Tensor, people: Tensor) -> dict[str, float]:
    """How well identities are told apart, pictures ``(N, 3, S, S)`` uint8 of people ``(N,)``.

    Returns: "same" and "other", the mean cosine of pictures of one person and of two; "nearest", the share of pictures
        whose nearest other one shows the same person.
    """
    with torch.no_grad():
        vectors = torch.cat([encoder(part.float() / 255.0) for part in pictures.split(64)])
    cosines = vectors @ vectors.T
    same = people[:, None] == people[None]
    itself = torch.eye(len(people), dtype=torch.bool)
    nearest = cosines.masked_fill(itself, -2.0).argmax(dim=1)
    return {
        "same": float(cosines[same & ~itself].mean()),
        "other": float(cosines[~same].mean()),
        "nearest": float((people[nearest] == people).float().mean()),
    }


def _read(photos: Sequence[Path]) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures ``(N, 3, 128, 128)`` uint8, who each shows, and their circles."""
    pictures, people, circles = [], [], []
    with progress_bar() as progress:
        bar = progress.add_task("reading portraits", total=len(photos))
        for photo in photos:
            progress.advance(bar)
            labels = read_labels(photo)
            if labels is None:
                raise UserError(
                    f"{photo}: no labels beside it; give a folder of `afterlens heads --triplets`"
                )
            small = cv2.resize(read_photo(photo).rgb, (128, 128), interpolation=cv2.INTER_AREA)
            pictures.append(torch.from_numpy(np.rint(small * 255.0).astype(np.uint8)).permute(2, 0, 1))
            people.append(labels.person)
            circles.append(labels.person // CIRCLE)
    return torch.stack(pictures), torch.tensor(people), torch.tensor(circles)


def _varied(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 -> float [0, 1]: each perhaps mirrored, in another light, a little shifted, blurred and noisy."""
    faces = pictures.float() / 255.0
    count, side = len(faces), faces.shape[-1]

    def uniform(low: float, high: float, *more: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *more, 1, 1, generator=generator)

    turn = torch.zeros(count, 2, 3)
    scale = uniform(0.94, 1.06)[:, 0, 0]
    turn[:, 0, 0] = scale * torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, -1.0)
    turn[:, 1, 1] = scale
    turn[:, :, 2] = 0.06 * (torch.rand(count, 2, generator=generator) - 0.5)
    grid = F.affine_grid(turn, list(faces.shape), align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    soft = F.interpolate(F.avg_pool2d(faces, 2), size=side, mode="bilinear", align_corners=False)
    share = uniform(0.0, 1.0, 1)
    faces = share * soft + (1.0 - share) * faces
    light = faces.clamp(1e-4, 1.0) ** (2.0 ** uniform(-0.6, 0.6, 1)) * (1.0 + 0.15 * (uniform(0, 1, 3) - 0.5))
    noise = torch.randn(faces.shape, generator=generator) * uniform(0.0, 0.03, 1)
    return (light + noise).clamp(0.0, 1.0)


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("triplets", nargs="+", type=Path, metavar="TRIPLETS", help="folders of triplets")
    parser.add_argument("-o", "--out", type=Path, required=True, help="file for the encoder's weights")
    parser.add_argument("--steps", type=int, default=2500, help="of training, 48 faces each")
    chosen = parser.parse_args()
    return answer(lambda: train_encoder(find_photos(chosen.triplets), chosen.out, steps=chosen.steps))


if __name__ == "__main__":
    raise SystemExit(main())
