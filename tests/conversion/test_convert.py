"""The bundle as a whole: its files, golden vectors and figures, and that nothing else is touched."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import afterlens.conversion.convert
from afterlens.conversion.bundle.contract import (
    CONTRACT_FILE,
    Bundle,
    CameraFrame,
    integrity_fault,
    read_bundle,
)
from afterlens.conversion.convert import convert, fit, parameters_and_macs
from afterlens.conversion.examples import plain_examples
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed, UserError

PROVENANCE = {"checkpoint_sha256": "0" * 64, "recipe": {"steps": 1}, "data_licence": "CC BY 4.0"}


class _Tint(nn.Module):
    """Two outputs that a swap would show: the picture through a 3x3 convolution, and its negative."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.rand(3, 3, 3, 3, generator=generator) / 27)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        tinted = torch.relu(torch.conv2d(image, self.weight, padding=1))
        return tinted.clamp(0.0, 1.0), (1 - tinted).clamp(0.0, 1.0)


def _tint(height: int, width: int) -> Deployable:
    shape = (1, 3, height, width)
    ports = [Port(name, shape, (0.0, 1.0), meaning=name) for name in ("image", "tinted", "negative")]
    return Deployable(_Tint().eval(), "tint", "Tint", "1.2", (ports[0],), (ports[1], ports[2]))


class _Deep(nn.Module):
    """Its middle layer has enough weights to be compressed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            *(nn.Conv2d(*sides, 3, padding=1) for sides in ((3, 16), (16, 16), (16, 3)))
        )

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (torch.sigmoid(self.layers(image)),)


def _files(folder: Path) -> Iterator[str]:
    """Files and packages below a folder."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.suffix != ".mlpackage":
            yield from (f"{path.name}/{name}" for name in _files(path))
        else:
            yield path.name


def test_the_bundle_holds_exactly_what_its_contract_names(bundle: Bundle) -> None:
    contract = bundle.contract
    named = [artifact.file for artifact in contract.artifacts] + [golden.file for golden in contract.golden]
    assert sorted(_files(bundle.folder)) == sorted([*named, CONTRACT_FILE])
    assert {artifact.file for artifact in contract.artifacts} == {
        "reflection_256x256_float32.tflite",
        "reflection_256x256_float16.tflite",
        "reflection_256x256_float16.mlpackage",
    }
    assert [integrity_fault(bundle.folder, artifact) for artifact in contract.artifacts] == [None] * 3
    assert [integrity_fault(bundle.folder, golden) for golden in contract.golden] == [None] * 5
    assert contract.provenance["tools"]["onnx2tf"] == "1.29.16"


def test_golden_outputs_are_what_pytorch_makes_of_the_golden_input(
    bundle: Bundle, deployable: Deployable
) -> None:
    golden = {(entry.tensor, entry.encoding): bundle.path(entry) for entry in bundle.contract.golden}
    image = np.asarray(Image.open(golden["image", "png"]), np.float32) / 255
    with torch.no_grad():
        outputs = deployable.module(torch.from_numpy(image).permute(2, 0, 1)[None])
    for port, output in zip(deployable.outputs, outputs, strict=True):
        expected = output[0].permute(1, 2, 0).numpy()
        raw = np.fromfile(golden[port.name, "float32"], "<f4").reshape(256, 256, 3)
        np.testing.assert_allclose(raw, expected, atol=1e-6)
        picture = np.asarray(Image.open(golden[port.name, "png"]), np.float32) / 255
        np.testing.assert_allclose(picture, expected, atol=0.5 / 255 + 1e-6)
    assert image.std() > 0.1  # a real photo, not a blank


def test_macs_are_those_of_the_convolutions(bundle: Bundle, deployable: Deployable) -> None:
    counted = []

    def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        # Each input value of a transposed convolution, each output value of a plain one, meets a kernel.
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        pairs = layer.in_channels * layer.out_channels // layer.groups
        counted.append(pairs * int(np.prod(layer.kernel_size)) * int(np.prod(places.shape[2:])))

    hooks = [
        layer.register_forward_hook(count)
        for layer in deployable.module.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        deployable.module(torch.zeros(1, 3, 256, 256))
    for hook in hooks:
        hook.remove()
    parameters = sum(int(np.prod(value.shape)) for value in deployable.module.state_dict().values())
    assert (parameters, sum(counted)) == parameters_and_macs(deployable)
    for artifact in bundle.contract.artifacts:
        assert (artifact.parameters, artifact.macs) == (parameters, sum(counted))


def test_conversion_works_offline_and_leaves_nothing_behind(photo_path: Path, tmp_path: Path) -> None:
    """In a process of its own, whose every attempt to connect (its children's too) is refused and recorded."""
    cwd, scratch, site = tmp_path / "cwd", tmp_path / "scratch", tmp_path / "site"
    for folder in (cwd, scratch, site):
        folder.mkdir()
    (site / "sitecustomize.py").write_text(
        "import socket\n"
        "def refuse(self, address):\n"
        f"    open({str(tmp_path / 'connections')!r}, 'a').write(f'{{address}}\\n')\n"
        "    raise OSError(101, 'Network is unreachable')\n"
        "socket.socket.connect = refuse\n"
        "socket.socket.connect_ex = refuse\n"
    )
    script = (
        "import sys; from pathlib import Path\n"
        "from afterlens.conversion.convert import convert\n"
        "from tests.conversion.test_convert import PROVENANCE, _tint\n"
        "convert([_tint(64, 96), _tint(96, 64)], Path('bundle'), PROVENANCE, golden_photo=Path(sys.argv[1]))\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{root}", "TMPDIR": str(scratch)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # most people do not have it
    done = subprocess.run(
        [sys.executable, "-c", script, str(photo_path.resolve())],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""
    assert "onnx2tf 96x64" in done.stderr
    assert not (tmp_path / "connections").exists()
    assert list(cwd.iterdir()) == [cwd / "bundle"]
    # PyTorch makes itself a cache folder there, which is its own affair.
    assert [path for path in scratch.iterdir() if not path.name.startswith("torchinductor")] == []
    artifacts = json.loads((cwd / "bundle" / CONTRACT_FILE).read_text("utf-8"))["artifacts"]
    assert [(a["width"], a["height"], a["format"], a["variant"]) for a in artifacts] == [
        (width, height, *kind)
        for width, height in ((96, 64), (64, 96))
        for kind in (("coreml", "float16"), ("tflite", "float16"), ("tflite", "float32"))
    ]


def _convert(out: Path, photo: Path, **options: Any) -> Bundle:
    tint = replace(_tint(32, 48), camera_frame=(720, 1280))
    return convert([tint], out, PROVENANCE, golden_photo=photo, variants=["float16.mlpackage"], **options)


def test_an_older_bundle_is_replaced_and_the_same_graph_gives_the_same_files(
    photo_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    first = _convert(out, photo_path)
    assert first.contract.camera_frame == CameraFrame(width=1280, height=720)
    (out / "proof.json").write_text("{}")
    assert _convert(out, photo_path) == first  # digests and all
    assert not (out / "proof.json").exists()

    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        _convert(out, photo_path)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_no_bundle_is_left_alone(photo_path: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not a bundle"):
        _convert(tmp_path, photo_path)
    with pytest.raises(UserError, match="is a file"):
        _convert(tmp_path / "thesis.txt", photo_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failure_leaves_neither_bundle_nor_scratch(
    photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(deployable: Deployable, path: Path) -> None:
        path.mkdir()
        raise UserError("no more room")

    monkeypatch.setattr(afterlens.conversion.convert, "convert_coreml", fail)
    with pytest.raises(UserError, match="no more room"):
        _convert(tmp_path / "bundle", photo_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_breaks_its_promise_is_not_shipped(
    photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A converter that writes another size than asked for, and says nothing."""
    honest = afterlens.conversion.convert.convert_coreml
    monkeypatch.setattr(
        afterlens.conversion.convert, "convert_coreml", lambda _, path: honest(_tint(48, 32), path)
    )
    with pytest.raises(UserError, match="converter wrote it wrongly"):
        _convert(tmp_path / "bundle", photo_path)
    assert list(tmp_path.iterdir()) == []


def test_one_formats_failure_does_not_lose_the_other(
    photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(deployable: Deployable, path: Path) -> None:
        raise UserError(f"{path}: no such operator")

    monkeypatch.setattr(afterlens.conversion.convert, "export_onnx", fail)
    wanted = ["float16.tflite", "float32.tflite", "float16.mlpackage", "int8.mlpackage"]
    deep = replace(_tint(32, 48), module=_Deep().eval(), outputs=_tint(32, 48).outputs[:1])
    with pytest.raises(GateFailed) as caught:
        convert([deep], tmp_path / "b", PROVENANCE, golden_photo=photo_path, variants=wanted)
    said = str(caught.value)
    print(said)
    assert "written without float32.tflite, float16.tflite: 48x32.onnx: no such operator" in said
    assert said.endswith("; what is there: --variants float16.mlpackage,int8.mlpackage")
    assert "afterlens-" not in said and "\n" not in said
    files = [artifact.file for artifact in read_bundle(tmp_path / "b").contract.artifacts]
    assert files == ["tint_48x32_float16.mlpackage", "tint_48x32_int8.mlpackage"]


def test_a_wrong_core_ml_graph_is_found_when_only_compressed_packages_are_made(
    photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = afterlens.conversion.convert.convert_coreml

    def wrong(deployable: Deployable, path: Path) -> None:
        module = _Tint().eval()
        module.weight.data[0, 0, 1, 1] += 0.01
        honest(replace(deployable, module=module), path)

    monkeypatch.setattr(afterlens.conversion.convert, "convert_coreml", wrong)
    with pytest.raises(UserError, match="coremltools translated an operator wrongly"):
        convert(
            [_tint(32, 48)], tmp_path / "b", PROVENANCE, golden_photo=photo_path, variants=["int8.mlpackage"]
        )
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_compress_is_no_error(
    photo_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["float16.mlpackage", "int8.mlpackage", "palettized6.mlpackage"]
    bundle = convert([_tint(32, 48)], tmp_path / "b", PROVENANCE, golden_photo=photo_path, variants=wanted)
    assert [artifact.variant for artifact in bundle.contract.artifacts] == ["float16"]
    assert "48x32 palettized6.mlpackage left out: no weight has 2048 values" in capsys.readouterr().err
    with pytest.raises(UserError, match="no weight has 2048 values"):
        convert([_tint(32, 48)], tmp_path / "c", PROVENANCE, golden_photo=photo_path, variants=wanted[1:])


def test_a_mixed_file_whose_layers_all_stay_in_float_is_left_out(
    photo_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = convert(
        [_tint(32, 48)],
        tmp_path / "b",
        PROVENANCE,
        golden_photo=photo_path,
        variants=["mixed.tflite", "dynamic_range_quant.tflite"],
        examples=lambda graph, count: plain_examples([photo_path], graph),
        mixed_budget=-1.0,  # as for a network that any rounding ruins
    )
    assert [artifact.variant for artifact in bundle.contract.artifacts] == ["dynamic_range_quant"]
    assert sorted(path.suffix for path in bundle.folder.iterdir()) == ["", ".json", ".tflite"]
    assert "mixed.tflite left out: no layer bears int8" in " ".join(capsys.readouterr().err.split())


def test_nan_is_the_networks_own_fault(photo_path: Path, tmp_path: Path) -> None:
    module = _Tint().eval()
    module.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="the network itself computes NaN"):
        convert([replace(_tint(32, 48), module=module)], tmp_path / "b", PROVENANCE, golden_photo=photo_path)


def test_unknown_variants_are_named(photo_path: Path, tmp_path: Path) -> None:
    for variants in (["int8.tflite"], []):
        with pytest.raises(UserError, match=r"float16\.mlpackage"):
            convert([_tint(32, 48)], tmp_path / "b", PROVENANCE, golden_photo=photo_path, variants=variants)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (720, 1280), (100, 30), (7, 500)])
def test_a_photo_is_fitted_by_its_middle_without_distortion(height: int, width: int) -> None:
    """On a photo whose red is the row and whose green is the column, the crop can be read off the values."""
    rows, columns = np.mgrid[0:432, 0:768]
    photo = np.stack([rows / 431, columns / 767, np.zeros_like(rows)], axis=2).astype(np.float32)
    fitted = fit(photo, height, width)
    assert fitted.shape == (height, width, 3)
    step = (
        np.ptp(fitted[..., 0]) * 431 / max(height - 1, 1),
        np.ptp(fitted[..., 1]) * 767 / max(width - 1, 1),
    )
    print(f"{width}x{height}: {step[0]:.3f} rows and {step[1]:.3f} columns a pixel")
    assert step[0] == pytest.approx(step[1], rel=0.15)
    assert fitted[..., 0].mean() == pytest.approx(0.5, abs=0.01)
    assert fitted[..., 1].mean() == pytest.approx(0.5, abs=0.01)


def test_halving_a_photo_averages_its_pixels(photo: np.ndarray) -> None:
    expected = photo.reshape(216, 2, 384, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(fit(photo, 216, 384), expected, atol=1e-6)
