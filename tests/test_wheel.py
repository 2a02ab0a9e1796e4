"""What installing puts into an environment: one name, `afterlens`, with everything it needs without the repository."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("training", "conversion", "benchmarks")

# A user's network, in a package that is called like a folder of ours.
NETWORK = """
import torch
from torch import nn

from afterlens.training.deployable import Deployable, Port


class Brighten(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image):
        return (torch.clamp(image + 0.1 * self.conv(image), 0.0, 1.0),)


def make():
    port = (1, 3, 32, 48), (0.0, 1.0)
    return Deployable(Brighten().eval(), "night", "Night", "1", (Port("image", *port),), (Port("restored", *port),))
"""

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("setuptools", "pip")),
    reason="the wheel's build backend, setuptools, or pip is not installed here",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without the network, from a copy: setuptools writes beside what it builds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("afterlens", *FOLDERS):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "PATENTS.md"):
        shutil.copy(ROOT / name, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", "dist")
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = (source / "dist").iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to put on the path, as site-packages would be."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(site: Path, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # -P: nothing is imported from the current directory but what a verb asks for.
    command = [sys.executable, "-P", "-m", "afterlens", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_only_name_at_the_top_is_afterlens(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"afterlens", "afterlens-0.1.0.dist-info"}


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("afterlens/")}
    files = {
        Path(
            "afterlens", *(() if folder == "afterlens" else (folder,)), file.relative_to(ROOT / folder)
        ).as_posix()
        for folder in ("afterlens", *FOLDERS)
        for file in (ROOT / folder).rglob("*")  # does not enter the links
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert len(files) > 100
    assert packed == files


def test_without_the_repository_it_finds_its_weights_and_pictures(installed: Path, tmp_path: Path) -> None:
    help_text = run(installed, tmp_path, "restore", "--help").stdout
    example = help_text.splitlines()[0].split()
    photo = tmp_path / example[example.index("reflection") + 1]
    assert photo.resolve() == (installed / "afterlens/samples/degraded/shadow.jpg").resolve()
    restored = run(installed, tmp_path, "restore", "reflection", photo, "-o", "shadow.png", "--json")
    assert restored.returncode == 0, restored.stderr
    assert (tmp_path / "shadow.png").stat().st_size > 100_000
    described = json.loads(run(installed, tmp_path, "info", "deblur", "--json").stdout)
    assert Path(described["checkpoint"]["file"]).is_relative_to(installed)


@pytest.mark.parametrize("package", FOLDERS)
def test_a_users_package_may_be_called_like_a_folder_of_ours(
    installed: Path, tmp_path: Path, package: str
) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "network.py").write_text(NETWORK)
    function = f"{package}.network:make"
    variants = "float32.tflite" if package == "training" else "float16.mlpackage"
    converted = run(
        installed, tmp_path, "convert", function, "-o", "bundle", "--variants", variants, "--json"
    )
    assert converted.returncode == 0, converted.stderr
    contract = json.loads(converted.stdout)
    assert contract["provenance"]["reference"] == function
    assert len(contract["artifacts"]) == 1
    if package == "training":  # in processes of their own, too
        options = ("--reference", function, "--runs", "1", "--warmup", "0")
        timed = run(installed, tmp_path, "bench", "bundle", *options)
        assert timed.returncode == 0, timed.stderr
