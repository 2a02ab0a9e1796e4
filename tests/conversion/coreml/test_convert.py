"""coremltools' packages: pictures in and out, float16, what they compute, and graphs that cannot be converted."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.bundle.runtimes import CoremlModel
from afterlens.conversion.convert import reference
from afterlens.conversion.coreml.convert import (
    _suspect,
    convert_coreml,
    minimum_coreml,
    prove_package,
)
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import read_package
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo


@pytest.fixture(scope="module")
def package(bundle: Bundle) -> Path:
    return bundle.folder / "reflection_256x256_float16.mlpackage"


def test_inputs_and_outputs_are_rgb_pictures_with_names_and_meanings(
    package: Path, deployable: Deployable
) -> None:
    description = read_package(package).model.description
    for features, ports in (
        (description.input, deployable.inputs),
        (description.output, deployable.outputs),
    ):
        assert [(f.name, f.shortDescription) for f in features] == [(p.name, p.meaning) for p in ports]
        for feature in features:
            image = feature.type.imageType
            assert (image.width, image.height, image.colorSpace) == (
                256,
                256,
                20,
            )  # 20 is RGB in FeatureTypes.proto
    assert description.metadata.shortDescription == deployable.title
    assert description.metadata.versionString == deployable.version
    assert minimum_coreml(package) == "iOS 16, macOS 13"


@pytest.mark.parametrize(
    ("version", "systems"),
    [
        (6, "iOS 15, macOS 12"),
        (7, "iOS 16, macOS 13"),
        (8, "iOS 17, macOS 14"),
        (9, "iOS 18, macOS 15"),
        (5, None),  # no ML programs yet
        (10, None),
    ],
)
def test_the_specification_version_tells_the_oldest_systems(
    own_bundle: Bundle, version: int, systems: str | None
) -> None:
    path = own_bundle.folder / "reflection_256x256_float16.mlpackage"
    package = read_package(path)
    package.model.specificationVersion = version
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(package.model.SerializeToString())
    if systems is None:
        with pytest.raises(
            UserError, match=rf"specification version {version}, expected one of \[6, 7, 8, 9\]"
        ):
            minimum_coreml(path)
    else:
        assert minimum_coreml(path) == systems


def test_everything_between_the_pictures_is_float16(package: Path) -> None:
    operators = MilProgram.load(package).operators()
    float32 = [o for o in operators if any(kind.dtype.name == "float32" for _, kind in o.outputs)]
    assert sorted(name for o in float32 for name, _ in o.outputs) == ["layer", "restored"]
    assert {o.op_type for o in float32} == {"cast"}


def test_the_saved_package_computes_what_pytorch_computes(
    package: Path, deployable: Deployable, photo_paths: list[Path]
) -> None:
    values = reference(deployable, [read_photo(photo_paths[0]).rgb])
    photo = np.rint(values.inputs["image"][0].transpose(1, 2, 0) * 255).astype(np.uint8)
    program = MilProgram.load(package)
    pictures, exact = (program.run({"image": photo}, eight_bit=eight_bit) for eight_bit in (True, False))
    for name, expected in values.outputs.items():
        levels = expected[0].transpose(1, 2, 0) * 255
        psnr = -10 * np.log10(np.mean(((exact[name] - levels) / 255).astype(np.float64) ** 2))
        step = np.abs(pictures[name].astype(np.float64) - np.rint(levels)).max()
        print(f"{name}: {psnr:.1f} dB, {step} levels at most")
        assert psnr > 60
        assert step <= 1


class _Determinant(nn.Module):
    """Core ML has no determinant."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image * torch.linalg.det(image)[..., None, None],)


class _DataDependent(nn.Module):
    """What it computes depends on the picture, in Python."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image if image.mean() > 0.5 else 1 - image,)


def _deployable(module: nn.Module) -> Deployable:
    shape = (1, 3, 32, 32)
    return Deployable(
        module, "odd", "Odd", "1", (Port("image", shape, (0.0, 1.0)),), (Port("restored", shape, (0.0, 1.0)),)
    )


@pytest.mark.parametrize("module", [_Determinant(), _DataDependent()])
def test_a_graph_that_cannot_be_converted_is_one_line(module: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^odd: ") as caught:
        convert_coreml(_deployable(module), tmp_path / "odd.mlpackage")
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


class _Logarithm(nn.Module):
    """Of the light plus a number: where the picture is black, the number decides."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (((image + self.least).log() / 20 + 1).clamp(0.0, 1.0),)


def test_in_float32_white_is_white_and_a_number_that_float16_lacks_is_named(tmp_path: Path) -> None:
    """The factor 1/255 of a package is a float16 number, 1.5e-5 too small, for which float32 runs make up."""
    graph = _deployable(_Logarithm(1e-8))
    convert_coreml(graph, tmp_path / "logarithm.mlpackage")
    white = np.ones((32, 32, 3), np.float32)
    made = CoremlModel(tmp_path / "logarithm.mlpackage").run(
        {"image": white}, eight_bit=False, round_storage=False
    )["restored"]
    assert float(np.abs(made - 1).max()) < 1e-7 * 20
    half_black = np.concatenate([white[:16], 0 * white[:16]])
    values = reference(graph, [half_black])
    with pytest.raises(
        UserError, match=r"1e-08 \(add, .*line \d+\) becomes 6e-08, the smallest number of float16"
    ):
        prove_package(tmp_path / "logarithm.mlpackage", graph, values)


def test_ports_that_are_no_rgb_pictures_are_a_programming_error(tmp_path: Path) -> None:
    good = _deployable(nn.Identity())
    for port in (
        replace(good.inputs[0], range=(-1.0, 1.0)),
        replace(good.inputs[0], shape=(1, 4, 32, 32)),
    ):
        with pytest.raises(ValueError, match="RGB"):
            convert_coreml(replace(good, inputs=(port,)), tmp_path / "odd.mlpackage")


class _Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.function(image).clamp(0.0, 1.0),)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.tensordot(torch.eye(3) / 2, x[0], dims=1)[None],
        lambda x: torch.addcmul(x, x, x, value=0.5),
        lambda x: torch.xlogy(x, x + 0.5) + 0.5,
    ],
    ids=["tensordot", "addcmul", "xlogy"],
)
def test_operators_that_coremltools_lacks_are_written_in_others(
    function: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    graph = _deployable(_Called(function))
    convert_coreml(graph, tmp_path / "net.mlpackage")
    noise = np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)
    prove_package(tmp_path / "net.mlpackage", graph, reference(graph, [noise]))


def test_a_failure_that_names_nothing_is_told_with_its_place(tmp_path: Path) -> None:
    def function(x: Tensor) -> Tensor:
        return F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), mode="bicubic", align_corners=False)

    with pytest.raises(UserError, match=r"\(2\): grid_sampler in .*line \d+; write it with other operators"):
        convert_coreml(_deployable(_Called(function)), tmp_path / "net.mlpackage")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("function", "suspect"),
    [
        (lambda x: x * 1e-9 * 1e9, r"1e-09 \(mul, .*the smallest number of float16; take a larger one"),
        (lambda x: x.sum((1, 2, 3), keepdim=True) / 3e8 + x, r"1 / 3e\+08 \(div, .*take a smaller divisor"),
        (lambda x: x * 1e6 - x, r"1e\+06 \(mul, .*is beyond 65504, where float16 ends"),
        (lambda x: torch.floor(x * 16) / 16, r"where the network jumps \(floor, .*line \d+\)"),
        (lambda x: x * 0.5, r"^coremltools translated an operator wrongly$"),
        # The ends of float16 themselves, and just beyond.
        (lambda x: x * 65504.0, r"^coremltools translated an operator wrongly$"),
        (lambda x: x * -65505.0, r"-65505 \(mul, .*is beyond 65504"),
        (lambda x: x * 2.0**-24, r"^coremltools translated an operator wrongly$"),
        (lambda x: x * -(2.0**-25), r"-2.98023e-08 \(mul, .*becomes 6e-08"),
        (lambda x: x / 2.0**24, r"^coremltools translated an operator wrongly$"),
        (lambda x: x / 2.0**25, r"1 / 3.35544e\+07 \(div, .*take a smaller divisor"),
        (lambda x: x / 1e-6, r"1e-06 \(div, .*is beyond 65504"),
        (lambda x: x * 0, r"^coremltools translated an operator wrongly$"),
        (lambda x: x + 1e-9, r"1e-09 \(add, .*becomes 6e-08"),
        (lambda x: 1e6 - x, r"1e\+06 \(rsub, .*is beyond 65504"),
        (lambda x: F.leaky_relu(x, 1e-9), r"^coremltools translated an operator wrongly$"),  # no arithmetic
        (lambda x: torch.floor(x * 16) / torch.ceil(x + 1), r"jumps \(floor, "),  # the first of them
        (lambda x: torch.floor(x * 16) * 1e-9, r"1e-09 \(mul, .*becomes 6e-08"),  # a number explains more
    ],
)
def test_what_float16_lacks_and_what_jumps_is_suspected(
    function: Callable[[Tensor], Tensor], suspect: str
) -> None:
    assert re.search(suspect, _suspect(_deployable(_Called(function))))


def test_a_weight_beyond_float16_is_suspected() -> None:
    conv = nn.Conv2d(3, 3, 1)
    assert conv.bias is not None
    network = _deployable(_Called(nn.Sequential(conv, nn.Tanh())))
    nn.init.constant_(conv.bias, -65504.0)
    assert _suspect(network) == "coremltools translated an operator wrongly"
    nn.init.constant_(conv.bias, -70000.0)
    assert "70000 in function.0.bias is beyond 65504, where float16 ends" in _suspect(network)
