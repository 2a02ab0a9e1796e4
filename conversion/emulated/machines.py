"""Processors that this machine lacks, by emulation: a command that runs `run_file.py` there, made ready on first use.

    machine = gpu(Path("build/emulated"))          # LiteRT's GPU accelerator, on SwiftShader in the place of a GPU
    machine = arm64(Path("build/emulated"))        # LiteRT's CPU kernels for ARM, in QEMU

Both need packages of Debian (named where they are missing) and, the first time, the network. What they download stays
in the folder: 60 MB for the GPU, 500 MB for ARM.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afterlens.training.media.errors import UserError

SWIFTSHADER = Path("/usr/lib/chromium/libvk_swiftshader.so")
VULKAN = "*/libvulkan.so.1"
DEBIAN = "bookworm"  # its Python is 3.11, as ours
GPU_WHEELS = ("ai-edge-litert==2.1.6",)  # the first with a GPU accelerator in it
# Newer ones crash in QEMU. NumPy and what LiteRT imports come with it: nothing of this machine's can be used there.
ARM64_WHEELS = (
    "ai-edge-litert==2.1.0",
    "numpy==1.26.4",
    "flatbuffers==25.12.19",
    "protobuf==4.25.5",
    "tqdm==4.70.1",
    "typing_extensions==4.16.0",
    "backports.strenum==1.2.8",
)


@dataclass(frozen=True)
class Machine:
    """How to run a file elsewhere.

    Attributes:
        name: for people.
        python: the interpreter's command line.
        environment: beside this process's own.
        processor: the argument of `run_file.py`.
        evidence: a regular expression that finds, in what LiteRT says on stderr, what it ran on.
        floats_only: whether files with integers are left out.
    """

    name: str
    python: Sequence[str]
    environment: Mapping[str, str]
    processor: str
    evidence: str
    floats_only: bool


def gpu(folder: Path) -> Machine:
    """LiteRT's `CompiledModel(GPU)`, which has no fall-back, by WebGPU on Vulkan. Raises UserError for what is missing."""
    _require({"chromium": SWIFTSHADER.exists(), "libvulkan1": any(Path("/usr/lib").glob(VULKAN))})
    packages = _packages(folder / "gpu", GPU_WHEELS)
    driver = folder / "gpu" / "swiftshader.json"
    driver.write_text(
        json.dumps(
            {
                "file_format_version": "1.0.0",
                "ICD": {"library_path": str(SWIFTSHADER), "api_version": "1.3.0"},
            }
        )
    )
    return Machine(
        "GPU: WebGPU on SwiftShader",
        [sys.executable],
        {"PYTHONPATH": str(packages), "VK_ICD_FILENAMES": str(driver)},
        "gpu",
        r"Selected adapter: (SwiftShader[^,]*)",
        floats_only=True,
    )


def arm64(folder: Path) -> Machine:
    """Debian's Python for ARM64 and LiteRT's wheel for it, on a Cortex-A76. Raises UserError for what is missing."""
    qemu, debootstrap = "qemu-aarch64-static", "debootstrap"
    _require({"qemu-user-static": shutil.which(qemu), "debootstrap": shutil.which(debootstrap)})
    packages = _packages(
        folder / "arm64", ARM64_WHEELS, *(f"--platform=manylinux_2_{glibc}_aarch64" for glibc in (17, 27, 28))
    )
    root = folder / "arm64" / "root"
    if not (root / "complete").exists():
        shutil.rmtree(root, ignore_errors=True)
        # It only downloads and unpacks: setting the packages up would need an ARM kernel, and QEMU needs the files alone.
        options = ["--foreign", "--arch=arm64", "--variant=minbase", "--include=python3,libstdc++6"]
        _run(debootstrap, *options, DEBIAN, str(root))
        for package in sorted((root / "var" / "cache" / "apt" / "archives").glob("*.deb")):
            _run("dpkg-deb", "-x", str(package), str(root))
        (root / "complete").touch()
    return Machine(
        "ARM64: Cortex-A76 in QEMU",
        [qemu, "-cpu", "cortex-a76", "-L", str(root), str(root / "usr" / "bin" / "python3.11")],
        {"PYTHONPATH": str(packages)},
        "cpu",
        r"Created TensorFlow Lite (XNNPACK) delegate",
        floats_only=False,
    )


def _packages(folder: Path, wheels: Sequence[str], *platform: str) -> Path:
    """A folder with these wheels and nothing else, to be put before this environment's own."""
    packages = folder / "packages"
    key = hashlib.sha256(f"{wheels}{platform}".encode()).hexdigest()
    stamp = folder / "wheels"
    if not stamp.exists() or stamp.read_text() != key:
        shutil.rmtree(packages, ignore_errors=True)
        options = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", *platform]
        _run(sys.executable, "-m", "pip", "install", "-q", "--target", str(packages), *options, *wheels)
        stamp.write_text(key)
    return packages


def _require(there: Mapping[str, object]) -> None:
    if missing := [package for package, found in there.items() if not found]:
        raise UserError(f"not installed (Debian's names): {', '.join(missing)}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(f"{' '.join(command[:3])} failed: {' '.join(last)}")
