"""Resizing: positions from the tables in coremltools' documentation of resize_bilinear, and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from afterlens.conversion.mil.ops.resize import RESIZE
from tests.conversion.mil.programs import Cases, Computed, X, names_of


def cases(mb: Any) -> Cases:
    cases = Cases()
    add = cases.add
    given: dict[str, Any]

    for mode, five, six in [
        ("STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("DEFAULT", [0, 0.4, 0.8, 1, 1], [0, 1 / 3, 2 / 3, 1, 1, 1]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9], [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
        ("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1], [0, 0, 1 / 3, 2 / 3, 1, 1]),
    ]:
        for positions in (five, six):
            add(
                f"resize_bilinear {mode} {len(positions)}",
                lambda pair, mode=mode, positions=positions, **v: mb.resize_bilinear(
                    x=pair, target_size_height=1, target_size_width=len(positions), sampling_mode=mode
                ),
                lambda positions=positions: [[positions]],
            )
        add(
            f"resize LINEAR {mode}",
            lambda pair, mode=mode, **v: mb.resize(
                x=pair, shape=[1, 5], resized_dims=np.uint32(2), sampling_mode=mode
            ),
            lambda five=five: [[five]],
        )
    for mode, position in (("STRICT_ALIGN_CORNERS", 0.0), ("ALIGN_CORNERS", 0.5)):
        add(
            f"resize_bilinear {mode} to one",
            lambda pair, mode=mode, **v: mb.resize_bilinear(
                x=pair, target_size_height=1, target_size_width=1, sampling_mode=mode
            ),
            lambda position=position: [[[position]]],
        )
    for name, given, aligned in [
        ("aligned", {"align_corners": True}, True),
        ("half pixels", {"align_corners": False}, False),
    ]:
        add(
            f"upsample_bilinear {name}",
            lambda x, given=given, **v: mb.upsample_bilinear(
                x=x, scale_factor_height=2.5, scale_factor_width=2.0, **given
            ),
            lambda aligned=aligned: F.interpolate(
                X["x"], size=(15, 10), mode="bilinear", align_corners=aligned
            ),
        )
    add(
        "upsample_bilinear neither",
        lambda pair, **v: mb.upsample_bilinear(
            x=pair,
            scale_factor_height=1.0,
            scale_factor_width=2.5,
            align_corners=False,
            half_pixel_centers=False,
        ),
        lambda: [[[0, 0.4, 0.8, 1, 1]]],
    )
    add(
        "upsample_nearest_neighbor",
        lambda x, **v: mb.upsample_nearest_neighbor(x=x, scale_factor_height=3.0, scale_factor_width=1.5),
        lambda: F.interpolate(X["x"], size=(18, 7), mode="nearest"),
    )
    add(
        "resize_nearest_neighbor",
        lambda x, **v: mb.resize_nearest_neighbor(x=x, target_size_height=18, target_size_width=15),
        lambda: F.interpolate(X["x"], size=(18, 15), mode="nearest"),
    )
    add(
        "resize NEAREST_NEIGHBOR",
        lambda x, **v: mb.resize(
            x=x,
            shape=[0, 15, 7],
            resized_dims=np.uint32(2),
            interpolation_mode="NEAREST_NEIGHBOR",
            sampling_mode="UNALIGN_CORNERS",
        ),
        lambda: F.interpolate(X["x"], size=(15, 7), mode="nearest-exact"),
    )
    add(
        "crop",
        lambda x, **v: mb.crop(x=x, crop_height=[1, 2], crop_width=[0, 3]),
        lambda: X["x"][:, :, 1:4, :2],
    )
    return cases


@pytest.mark.parametrize("name", names_of(cases))
def test_operator_agrees_with_its_definition(computed: Computed, name: str) -> None:
    computed.check(name)


def test_no_operator_is_left_untested(computed: Computed) -> None:
    assert set(RESIZE) - computed.operators == set()
