"""A studio with procedural assets."""

from __future__ import annotations

from pathlib import Path

import pytest

from afterlens.training.faces.heads.assets import read_assets
from afterlens.training.faces.heads.render import Studio
from tests.training.faces.procedural import write_assets, write_base


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(assets, base)"""
    folder = tmp_path_factory.mktemp("heads")
    return write_assets(folder / "assets"), write_base(folder / "base")


@pytest.fixture(scope="module")
def studio(folders: tuple[Path, Path]) -> Studio:
    return Studio(read_assets(*folders))
