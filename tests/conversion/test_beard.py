"""The bundled beard network as a user converts it: the file computes what PyTorch does, the mark included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from afterlens.conversion.bundle.contract import read_bundle
from afterlens.conversion.bundle.runtimes import open_artifact
from afterlens.samples import DEGRADED, HELD_OUT_FACES
from afterlens.training.beard.task import TASK
from afterlens.training.faces.beards import AMOUNTS
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
        for kind in ("none", "full"):
            wanted = np.array(AMOUNTS[kind], np.float32)
            with torch.inference_mode():
                picture = torch.from_numpy(face.copy()).permute(2, 0, 1)[None]
                expected = graph(picture, torch.from_numpy(wanted)[None])[0][0].permute(1, 2, 0).numpy()
            changed.append(float(np.abs(expected - face).mean()) > 0.005)
            for artifact in bundle.contract.artifacts:
                made = open_artifact(bundle, artifact)(face, wanted)["result"]
                error = float(np.abs(made - expected).max())
                print(f"{path.stem}, {kind}, {artifact.file}: {error:.2g}")
                assert error < (1e-5 if artifact.format == "tflite" else 0.02)
                assert (mark_deviations(made) > FOUND) == changed[-1]
    assert changed == [True, False, False, True]
