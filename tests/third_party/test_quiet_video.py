"""Another team's network through the whole command line: two frames in, none of our blocks, a folder of its own."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from afterlens.conversion.bundle.contract import read_bundle
from afterlens.training.media.images import write_png
from afterlens.training.metrics import psnr
from tests.third_party.quiet_video.network import deployables
from tests.third_party.quiet_video.train import noisy_pair

Cli = Callable[..., Any]  # the fixture `cli`: arguments -> code, stdout, stderr

FUNCTION = "quiet_video.network:deployables"


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "quiet_video"]:
        del sys.modules[name]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The team's own folder, which is the current directory; its `benchmarks` is none of ours."""
    shutil.copytree(Path(__file__).parent / "quiet_video", tmp_path / "quiet_video")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise RuntimeError('the wrong benchmarks')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    forget()


def small(photo_path: Path) -> torch.Tensor:
    """(1, 3, 64, 64)"""
    with Image.open(photo_path) as photo:
        pixels = np.asarray(photo.convert("RGB").resize((64, 64)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def film(folder: Path, photo_path: Path) -> None:
    """One scene: two noisy frames of a photo and the photo itself."""
    clean = small(photo_path)
    frames = noisy_pair(clean, torch.Generator().manual_seed(6))
    for name, picture in zip(("current", "previous", "target"), (*frames, clean), strict=True):
        write_png(folder / name / "scene.png", picture[0].permute(1, 2, 0).numpy())


def test_the_network_is_worth_proving(photo_path: Path) -> None:
    clean = small(photo_path)
    frames = noisy_pair(clean, torch.Generator().manual_seed(5))
    with torch.no_grad():
        (restored,) = deployables().module(*frames)
    before, after = psnr(frames[0], clean), psnr(restored, clean)
    print(f"{before:.2f} -> {after:.2f} dB")
    assert after > before + 2.5


def test_it_is_converted_proven_timed_and_reported(cli: Cli, workshop: Path, photo_path: Path) -> None:
    converted = cli("convert", FUNCTION, "-o", "bundle", "--json")
    assert converted.code == 0, converted.stderr
    contract = read_bundle(workshop / "bundle").contract
    assert (contract.task, contract.provenance["reference"]) == ("quiet_video", FUNCTION)
    assert {(a.format, a.variant) for a in contract.artifacts} == {
        ("tflite", "float32"),
        ("tflite", "float16"),
        ("coreml", "float16"),
    }
    assert [port.name for port in contract.artifacts[0].inputs] == ["current", "previous"]
    frames = [g.sha256 for g in contract.golden if g.role == "input"]
    assert len(set(frames)) == 2, "equal frames would hide that an app mixes them up"

    # A bundle says where it comes from; that is not enough to run it.
    forget()
    for verb in ("verify", "bench"):
        unnamed = cli(verb, "bundle")
        assert unnamed.code == 2 and len(unnamed.stderr.splitlines()) == 1
        assert (
            "--reference package.module:function (a bundle never decides what code is run)" in unnamed.stderr
        )
    assert not any(name.startswith("quiet_video") for name in sys.modules)

    film(workshop / "film", photo_path)
    proven = cli("verify", "bundle", "--reference", FUNCTION, "--pairs", "film", "--json")
    assert proven.code == 0, proven.stderr
    proof = json.loads(proven.stdout)
    assert proof["passed"] and len(proof["artifacts"]) == 3
    for artifact in proof["artifacts"]:
        print(artifact["file"], artifact["max_error"], artifact["psnr"])
        quality = artifact["quality"]
        assert quality["psnr"] > quality["input_psnr"] + 2.5, "judged by the pictures of the team"
        assert abs(quality["drop"]) < 0.05
    lossy = cli("verify", "bundle", "--reference", FUNCTION, "--ground-truth", photo_path)
    assert lossy.code == 2 and "give real pairs instead: --pairs DIR" in lossy.stderr

    timed = cli(
        "bench", "bundle", "--reference", FUNCTION, "--runs", "2", "--warmup", "1", "-o", "bench.json"
    )
    assert timed.code == 0, timed.stderr
    results = json.loads((workshop / "bench.json").read_text())["results"]
    assert [result["runtime"]["name"] for result in results] == ["tflite", "tflite", "onnxruntime", "pytorch"]
    for result in results:
        # Two frames that change places make a difference of more than this.
        assert result["max_error"] < 1e-3, result["id"]
        assert result["timing"]["init_ms"] > 0

    reported = cli("report", "bundle", "--bench", "bench.json", "-o", "report.html")
    assert reported.code == 0, reported.stderr
    page = (workshop / "report.html").read_text()
    assert "Video denoising" in page and FUNCTION in page and "the frame before it" in page

    # Other weights under the same name are not what the bundle was made from.
    weights = load_file("quiet_video/weights.safetensors")
    weights["noise.bias"][1] += 1e-3
    save_file(weights, "quiet_video/weights.safetensors")
    forget()
    for verb in ("verify", "bench"):
        refused = cli(verb, "bundle", "--reference", FUNCTION)
        assert refused.code == 2 and "the bundle was converted from" in refused.stderr, refused.stderr
    both = cli("verify", "bundle", "--reference", FUNCTION, "-c", "quiet_video/weights.safetensors")
    assert both.code == 2 and "expected one of them" in both.stderr
