"""The bundled beard network as a user converts it: the file computes what PyTorch does, the mark included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from afterlens.conversion.bundle.contract import read_bundle
from afterlens.conversion.bundle.runtimes import open_artifact, to_levels
from afterlens.samples import DEGRADED, HELD_OUT_FACES
from afterlens.training.beard.task import TASK
from afterlens.training.data import as_picture
from afterlens.training.faces.beards import AMOUNTS
from afterlens.training.faces.detect import find_faces
from afterlens.training.faces.laid_beards import lay_beard
from afterlens.training.faces.mark import FOUND, mark_deviations
from afterlens.training.media.images import read_photo
from afterlens.training.trained import load_network
from tests.conftest import Result


def test_both_formats_compute_what_pytorch_does(cli: Callable[..., Result], tmp_path: Path) -> None:
    done = cli(
        "convert", "beard", "-o", tmp_path / "bundle", "--variants", "float32.tflite,float16.mlpackage"
    )
    assert done.code == 0, done.stderr
    bundle = read_bundle(tmp_path / "bundle")
    graph = TASK.deployable(load_network(TASK, TASK.pretrained)[0], 256, 256).module
    changed = []
    for path in (DEGRADED / "beard.jpg", HELD_OUT_FACES[1]):
        face = read_photo(path).rgb
        (found,) = find_faces(to_levels(face))
        for kind in ("none", "full"):
            wanted = np.array(AMOUNTS[kind], np.float32)
            # Nothing is laid on the bearded one: asked for the beard that it wears, it stays as it is.
            laid = face if path.stem == "beard" else lay_beard(face, found.landmarks, AMOUNTS[kind])
            with torch.inference_mode():
                inputs = (as_picture(face)[None], torch.from_numpy(wanted)[None], as_picture(laid)[None])
                expected = graph(*inputs)[0][0].permute(1, 2, 0).numpy()
            changed.append(float(np.abs(expected - face).mean()) > 0.005)
            for artifact in bundle.contract.artifacts:
                made = open_artifact(bundle, artifact)(face, wanted, laid)["result"]
                error = float(np.abs(made - expected).max())
                print(f"{path.stem}, {kind}, {artifact.file}: {error:.2g}")
                assert error < (1e-5 if artifact.format == "tflite" else 0.02)
                assert (mark_deviations(made) > FOUND) == changed[-1]
    assert changed == [True, False, False, True]
