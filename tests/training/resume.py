"""A run that was stopped after its first checkpoint and continued, against the whole one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conftest import Result

AFTER_TWO_STEPS = (
    "metrics.csv",
    "last.safetensors",
    "best.safetensors",
    "checkpoints/step_00000002.safetensors",
)
"""What lies in the folder of a run that was stopped there."""


def continues_exactly(
    cli: Callable[..., Result], task: str, data: Path, run: Path, half: Path, options: Sequence[str]
) -> None:
    """Continues ``run``, of four steps, in ``half`` from its second step: the same weights, bit for bit."""
    for name in AFTER_TWO_STEPS:
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        (half / name).write_bytes((run / name).read_bytes())
    resumed = cli("train", task, data, "-o", half, "--resume", *options)
    assert resumed.code == 0, resumed.stderr
    assert (half / "last.safetensors").read_bytes() == (run / "last.safetensors").read_bytes()
