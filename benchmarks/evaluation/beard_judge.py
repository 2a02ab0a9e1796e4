"""A network that says which class of beard a face wears: the judge of the beard task, which never trains with it.

    python -m afterlens.benchmarks.evaluation.beard_judge FACES -o judge.safetensors

    judge = load_judge()
    classes = judge(faces).argmax(1)             # (N, 3, 128, 128) RGB [0, 1] -> numbers of CLASSES

FACES are bare portraits of other people than the beard network has seen (`afterlens heads --first`). Beards are drawn on
them with other random numbers, and the pictures are blurred, compressed, recoloured, shifted and marked, so that the judge
looks at hair and not at traces. It reads aligned squares of any size, scaled to 128 pixels.
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

from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.training.checkpoint import load_frozen, save_checkpoint
from afterlens.training.command import answer
from afterlens.training.data import seeded
from afterlens.training.faces.beards import CLASSES, draw_beard
from afterlens.training.faces.mark import FaceMark
from afterlens.training.faces.portraits import aligned_square, hair_of, index_portraits
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import find_photos
from afterlens.training.media.progress import progress_bar
from afterlens.training.task import Record

BUNDLED = Path(__file__).parent / "beard_judge.safetensors"

SIDE = 128
"""Of what the judge sees, in pixels."""

_DRAWN = 256  # pixels: beards are drawn at the size at which they are evaluated
_SEED = 7_000_000  # far from the seeds of training


class BeardJudge(nn.Module):
    """``(N, 3, 128, 128)`` RGB [0, 1] -> ``(N, 5)`` logits of `CLASSES`; 0.28 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(
            *layers, nn.Conv2d(128, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU()
        )
        # Where on the face the hair is decides: the map of 8x8 places is kept.
        self.classes = nn.Sequential(
            nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(96 * 16, len(CLASSES))
        )

    def forward(self, faces: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.classes(self.features(faces * 2.0 - 1.0))
        return logits


def load_judge(path: Path = BUNDLED) -> BeardJudge:
    """The judge in eval mode. Raises UserError for a file that does not hold one."""
    return load_frozen(BeardJudge(), path)


def seen(faces: Tensor) -> Tensor:
    """Aligned faces ``(N, 3, side, side)`` as the judge sees them: areas averaged to 128 pixels."""
    return F.adaptive_avg_pool2d(faces, SIDE)


def drawn(records: Sequence[Record], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` faces with drawn beards, ``(count, 3, 128, 128)`` uint8, and their classes, which take turns."""
    pictures = torch.zeros(count, 3, SIDE, SIDE, dtype=torch.uint8)
    labels = torch.arange(count) % len(CLASSES)
    with progress_bar() as progress:
        bar = progress.add_task("drawing beards", total=count)
        for number in range(count):
            record = records[(number // len(CLASSES)) % len(records)]
            rng = np.random.default_rng([_SEED + seed, number])
            square, landmarks = aligned_square(record, _DRAWN)
            hair = hair_of(record.photo)
            if hair is not None and rng.random() < 0.5:
                hair = None
            worn = draw_beard(square, landmarks, CLASSES[int(labels[number])], rng, hair).over(square)
            small = cv2.resize(worn, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            pictures[number] = torch.from_numpy(to_levels(np.asarray(small, np.float32))).permute(2, 0, 1)
            progress.advance(bar)
    return pictures, labels


def varied(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """``(N, 3, 128, 128)`` uint8 -> float [0, 1], each in another light, place and quality, half of them marked."""
    mark = FaceMark(SIDE, SIDE)
    results = []
    for picture in pictures:
        face = picture.permute(1, 2, 0).numpy()
        if rng.random() < 0.5:
            face = face[:, ::-1]
        turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), rng.uniform(-6, 6), rng.uniform(0.94, 1.06))
        pose = np.asarray(turn, np.float64)
        pose[:, 2] += rng.uniform(-4.0, 4.0, 2)
        face = cv2.warpAffine(np.ascontiguousarray(face), pose, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        if rng.random() < 0.5:
            face = cv2.GaussianBlur(face, (0, 0), rng.uniform(0.3, 1.0))
        if rng.random() < 0.5:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 95))]
            face = np.asarray(cv2.imdecode(cv2.imencode(".jpg", face, quality)[1], cv2.IMREAD_COLOR))
        light = (face / 255.0) ** 2.0 ** rng.uniform(-0.5, 0.5) * rng.normal(1.0, 0.06, 3)
        noisy = light + rng.normal(0.0, rng.uniform(0.0, 0.02), light.shape)
        results.append(torch.from_numpy(noisy.clip(0.0, 1.0).astype(np.float32)).permute(2, 0, 1))
    faces = torch.stack(results)
    marked = mark(faces, torch.ones(len(faces), 1, SIDE, SIDE)).clamp(0.0, 1.0)
    return torch.where(torch.from_numpy(rng.random((len(faces), 1, 1, 1)) < 0.5), marked, faces)


def train_judge(faces: Sequence[Path], out: Path, *, drawings: int, steps: int) -> dict[str, Any]:
    """Trains a judge and writes it; a tenth of the people is held out.

    Returns: ``{"judge", "faces", "drawings", "steps", "accuracy"}``; "accuracy" of the held-out people's drawings by class.

    Raises UserError where there are too few people.
    """
    records = index_portraits(faces)
    people = sorted({record.group for record in records})
    held_out = set(people[: max(1, len(people) // 10)])
    kept = [record for record in records if record.group not in held_out]
    if not kept:
        raise UserError(f"{len(people)} person is too few; give portraits of at least two")
    pictures, labels = drawn(kept, drawings, seed=0)
    tests, wanted = drawn(
        [r for r in records if r.group in held_out], max(len(CLASSES), drawings // 10), seed=1
    )
    torch.manual_seed(0)
    judge = BeardJudge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = np.random.default_rng(_SEED)
    with progress_bar() as progress:
        bar = progress.add_task("training the judge", total=steps)
        for step in range(steps):
            chosen = torch.randint(len(pictures), (32,), generator=seeded(_SEED, step))
            loss = F.cross_entropy(judge(varied(pictures[chosen], rng)), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update(
                bar, advance=1, description=f"training the judge, loss {float(loss.detach()):.3f}"
            )
    judge.eval()
    with torch.no_grad():
        right = torch.cat([judge(part.float() / 255.0).argmax(1) for part in tests.split(50)]) == wanted
    accuracy = {name: float(right[wanted == number].float().mean()) for number, name in enumerate(CLASSES)}
    result = {
        "judge": str(out),
        "faces": len(records),
        "drawings": drawings,
        "steps": steps,
        "accuracy": accuracy,
    }
    save_checkpoint(out, judge.state_dict(), {key: result[key] for key in ("faces", "drawings", "steps")})
    return result


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", nargs="+", type=Path, metavar="FACES", help="portraits and folders of them")
    parser.add_argument("-o", "--out", type=Path, required=True, help="file for the judge's weights")
    parser.add_argument("--drawings", type=int, default=4000, help="faces with beards to draw")
    parser.add_argument("--steps", type=int, default=1200, help="of training, 32 faces each")
    chosen = parser.parse_args()
    return answer(
        lambda: train_judge(
            find_photos(chosen.faces), chosen.out, drawings=chosen.drawings, steps=chosen.steps
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
