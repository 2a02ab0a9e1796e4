"""Clamps whose range leaves zero out: the same numbers, in files that TFLite's CPU kernels can run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.conversion.functions import rewritten
from tests.conversion.tflite.float32 import run_float32

SHAPE = (1, 3, 16, 12)
PICTURE = 4 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) - 2


ABOVE: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.clamp(min=0.1),
    lambda x: torch.clamp_min(x, 0.1),
    lambda x: torch.maximum(x, torch.tensor(0.1)),
    lambda x: torch.maximum(torch.tensor([[0.1]]), x),
]
BELOW: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.clamp(max=-0.1),
    lambda x: torch.clamp_max(x, 0.0),
    lambda x: torch.minimum(x, torch.tensor(-0.1)),
]
BOTH: list[Callable[[Tensor], Tensor]] = [lambda x: x.clamp(0.1, 0.9), lambda x: F.hardtanh(x, 0.1, 0.9)]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        *((function, ["sub", "relu", "add"]) for function in ABOVE),
        *((function, ["rsub", "relu", "rsub"]) for function in BELOW),
        *((function, ["sub", "relu", "add", "clamp"]) for function in BOTH),
        (lambda x: x.clamp(-0.9, -0.1), ["rsub", "relu", "rsub", "clamp"]),
    ],
)
def test_a_range_without_zero_is_written_with_a_relu(
    function: Callable[[Tensor], Tensor], expected: list[str]
) -> None:
    assert rewritten(function, PICTURE, for_onnx=True) == expected
    assert "relu" not in rewritten(function, PICTURE)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clamp(min=0.0),
        lambda x: x.clamp(max=1e-3),
        lambda x: x.clamp(-0.1, 0.9),
        F.hardtanh,
        lambda x: torch.maximum(x, torch.tensor([0.1, 0.2, 0.3])[:, None, None]),
        lambda x: torch.maximum(x, x.flip(3)),
        lambda x: (x * 9).long().clamp(min=1),
    ],
    ids=["from zero", "to above zero", "around zero", "hardtanh", "by channel", "of two pictures", "places"],
)
def test_other_clamps_are_left_alone(function: Callable[[Tensor], Tensor]) -> None:
    assert not {"relu", "sub", "rsub"} & set(rewritten(function, PICTURE, for_onnx=True))


class _Behind(nn.Module):
    """Clamps behind what XNNPACK joins them with, beside each other as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 3, 3, padding=1)
        self.depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.larger = nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        larger = self.larger(x).clamp(min=0.1)
        parts = [
            self.plain(x).clamp(min=1e-6),
            F.relu(self.depthwise(x)).clamp(0.05, 0.9),
            self.plain(x).clamp(max=0.0),
            F.max_pool2d(x, 3, 1, 1).clamp(min=0.1),
            F.avg_pool2d(larger, 2),
        ]
        return (torch.cat(parts, 1),)


def test_a_tflite_file_with_such_clamps_runs_and_is_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = _Behind()
    got = run_float32(network, PICTURE, (1, 15, *SHAPE[2:]), tmp_path)
    with torch.no_grad():
        np.testing.assert_allclose(got, network(PICTURE)[0].numpy(), atol=1e-5)
