"""The bundled swap as a user converts it: photos come out as from PyTorch, marked, and of no other identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from afterlens.conversion.bundle.contract import read_bundle
from afterlens.samples import DEGRADED, HELD_OUT_FACES
from afterlens.training.checkpoint import save_checkpoint
from afterlens.training.faces.mark import FOUND, mark_deviations
from afterlens.training.media.images import read_photo
from afterlens.training.swap.enrolled import enroll, identity_of
from afterlens.training.swap.task import TASK
from afterlens.training.trained import load_trainable
from tests.conftest import Result
from tests.training.swap.triplets import portrait


def test_both_formats_show_the_bundled_identity(cli: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    done = cli("convert", "swap", "-o", folder, "--variants", "float32.tflite,float16.mlpackage")
    assert done.code == 0, done.stderr
    contract = read_bundle(folder).contract
    assert [port.name for port in contract.artifacts[0].inputs] == ["frame", "laid"]
    for number, photo in enumerate((DEGRADED / "swap.jpg", HELD_OUT_FACES[0])):
        restored = {}
        for runtime in ("torch", "tflite", "coreml"):
            out = tmp_path / f"{number}_{runtime}.png"
            by = () if runtime == "torch" else ("--runtime", runtime, "--bundle", folder)
            done = cli("restore", "swap", photo, "-o", out, *by)
            assert done.code == 0, done.stderr
            restored[runtime] = read_photo(out).rgb
        assert np.abs(restored["torch"] - read_photo(photo).rgb).max() > 0.1
        for runtime, levels in (("tflite", 1), ("coreml", 4)):
            error = float(np.abs(restored[runtime] - restored["torch"]).max() * 255)
            print(f"{photo.stem}, {runtime}: {error:.0f} levels")
            assert error <= levels + 0.01
        assert mark_deviations(restored["tflite"]) > FOUND

    # A bundle shows the identity that it was made for, and takes no other's portrait.
    network, metadata = load_trainable(TASK, TASK.pretrained)
    with torch.no_grad():
        enroll(network, identity_of(*portrait(1)[:2]))
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, network.state_dict(), metadata)
    refused = cli(
        "restore", "swap", HELD_OUT_FACES[0], "-o", tmp_path / "no.png", "--runtime", "tflite", "--bundle", folder,
        "-c", other,
    )  # fmt: skip
    assert refused.code == 2 and "was not converted from" in refused.stderr
