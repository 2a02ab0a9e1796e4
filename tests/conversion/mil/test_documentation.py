"""docs/executor.md: its list of operators is the code's, and its example works as pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from afterlens.conversion.mil.ops import OPERATORS
from tests.conversion.mil.programs import Save

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "executor.md").read_text("utf-8")


def test_the_list_of_operators_is_the_code_s() -> None:
    listed = TEXT.split("-->")[1]
    names = re.findall(r"`(\w+)`", listed)
    assert sorted(names) == sorted(OPERATORS)
    counts = [int(count) for count in re.findall(r"\*\* \((\d+)\):", listed)]
    assert sum(counts) == len(OPERATORS)


class _Restore(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return 255.0 - image


def test_the_example_runs_as_pasted(coremltools: ModuleType, save_network: Save, tmp_path: Path) -> None:
    ct = coremltools
    rgb = ct.colorlayout.RGB
    package = save_network(
        _Restore(),
        torch.zeros(1, 3, 24, 32),
        inputs=[ct.ImageType(name="image", shape=(1, 3, 24, 32), color_layout=rgb)],
        outputs=[ct.ImageType(name="restored", color_layout=rgb)],
    )
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    wanted = re.findall(r'Path\("([^"]+\.mlpackage)"\)', code)
    (tmp_path / wanted[0]).parent.mkdir(parents=True)
    (tmp_path / wanted[0]).symlink_to(package)
    (tmp_path / "afterlens").symlink_to(ROOT / "afterlens")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and "operators; the largest value is" in done.stdout
    assert (tmp_path / "build" / "restored.png").stat().st_size > 100


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
    for name in re.findall(r"`(\w+\.py)`", TEXT):
        assert list((ROOT / "tests" / "conversion" / "mil").rglob(name)), name
