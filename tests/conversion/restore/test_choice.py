"""Which artifact restores a photo, and how the photo is fitted into it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from afterlens.conversion.bundle.variants import VARIANTS, precision_rank
from afterlens.conversion.restore import photo as photo_module
from afterlens.conversion.restore.photo import choose_artifact, restore_by_artifact
from tests.conversion.restore.test_photo import artifact

# The most precise first, as measured: float16 weights cost nothing in LiteRT, int16 activations hardly anything.
ORDER = {
    "tflite": [
        *("float32", "float16", "integer_quant_with_int16_act", "dynamic_range_quant", "mixed"),
        "full_integer_quant",
    ],
    "coreml": ["float16", "int8", "palettized6", "palettized4", "mixed"],
}


@pytest.mark.parametrize("format_", ["tflite", "coreml"])
def test_the_most_precise_variant_that_is_there_is_used(
    format_: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_module, "integrity_fault", lambda folder, entry: None)
    names = ORDER[format_]
    assert sorted(names) == sorted(variant.name for variant in VARIANTS if variant.format == format_)
    assert sorted(names, key=lambda name: precision_rank(format_, name)) == names
    for first in range(len(names)):
        of_format: Any = [
            replace(artifact(64, 64), format=format_, variant=name) for name in names[first:][::-1]
        ]
        bundle: Any = SimpleNamespace(folder=Path("b"), contract=SimpleNamespace(artifacts=of_format))
        (chosen,) = photo_module._usable(bundle, format_)
        assert chosen.variant == names[first]


def seen_by(rgb: Any, width: int, height: int) -> Any:
    """What the network is given of a photo."""
    given = []

    def run(*pictures: Any) -> dict[str, Any]:
        given.append(pictures[0])
        return {"restored": pictures[0]}

    small = artifact(width, height)
    result = restore_by_artifact(rgb, choose_artifact([small], *rgb.shape[:2]), run)
    np.testing.assert_allclose(result, rgb, atol=1e-6)  # nothing was changed, so nothing may be lost
    return given[0]


def test_a_photo_is_shrunk_without_aliases() -> None:
    """Stripes one pixel wide are grey from afar, and not stripes of another width."""
    stripes = np.zeros((256, 256, 3), np.float32)
    stripes[:, ::2] = 1.0
    small = seen_by(stripes, 64, 64)
    assert np.abs(small - 0.5).max() < 1e-5


def test_what_is_left_over_is_filled_with_the_mirror_image() -> None:
    rgb = np.random.default_rng(0).random((32, 64, 3), np.float32)
    filled = seen_by(rgb, 64, 64)
    assert np.array_equal(filled[16:48], rgb)
    assert np.array_equal(filled[:16], rgb[:16][::-1])
    assert np.array_equal(filled[48:], rgb[16:][::-1])
