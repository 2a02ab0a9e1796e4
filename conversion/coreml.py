"""PyTorch -> coremltools -> Core ML program package (`.mlpackage`), float16, pictures in and pictures out.

    convert_coreml(deployable, Path("reflection_256x256_float16.mlpackage"))

The app hands over and receives 8-bit RGB pictures. The graph turns them into [0, 1] and back itself.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from conversion.census import census_of
from conversion.mil.package import read_package
from conversion.onnx_export import export, quiet
from training.deployable import Deployable, Port
from training.errors import UserError

# ML Programs exist since iOS 15; iOS 16 still reaches every iPhone since the iPhone 8, and newer targets would bring us
# no operator that we use.
MINIMUM_RUNTIME = "iOS 16, macOS 13"
_SPECIFICATION = 7  # what a package for iOS 16 declares
_RGB = 20  # FeatureTypes.proto: ImageFeatureType.ColorSpace


class _Pictures(nn.Module):
    """Outputs in [0, 255]: an 8-bit picture that leaves Core ML has no scale of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(output * 255.0 for output in self.module(*inputs))


def convert_coreml(deployable: Deployable, path: Path) -> None:
    """Write the package to `path`, then read it again and check it.

    The ports must be RGB in [0, 1]; the outputs clipped to it by the graph.

    Raises UserError where coremltools fails or the package is not as declared.
    """
    for port in (*deployable.inputs, *deployable.outputs):
        if port.shape[:2] != (1, 3) or port.range != (0.0, 1.0):
            raise ValueError(f"port {port.name}: expected RGB in [0, 1], got {port.shape} in {port.range}")
    program = export(_Pictures(deployable.module).eval(), deployable)
    # coremltools draws progress bars over ours, and warns of every torch version newer than its last test.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        import coremltools as ct

        rgb = ct.colorlayout.RGB
        try:
            model = ct.convert(
                program.run_decompositions({}),
                inputs=[
                    ct.ImageType(p.name, p.shape, scale=1 / 255, color_layout=rgb) for p in deployable.inputs
                ],
                outputs=[ct.ImageType(p.name, color_layout=rgb) for p in deployable.outputs],
                convert_to="mlprogram",
                minimum_deployment_target=ct.target.iOS16,
                compute_precision=ct.precision.FLOAT16,
                skip_model_load=True,  # loading needs a Mac
            )
            model.short_description, model.version = deployable.title, deployable.version
            for port in deployable.inputs:
                model.input_description[port.name] = port.meaning
            for port in deployable.outputs:
                model.output_description[port.name] = port.meaning
            model.save(str(path))
        except Exception as error:  # coremltools raises nearly anything on a graph it does not know
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{deployable.task}: coremltools cannot convert it ({reason[:300]})") from error
    check_coreml(path, deployable)


def check_coreml(path: Path, deployable: Deployable) -> None:
    """Raise UserError unless the saved package is float16 and takes and gives RGB pictures as the ports say."""
    package = read_package(path)
    description = package.model.description
    for features, ports in (
        (description.input, deployable.inputs),
        (description.output, deployable.outputs),
    ):
        found = {feature.name: _picture(feature) for feature in features}
        expected = {port.name: _size(port) for port in ports}
        if found != expected:
            raise UserError(f"{path.name}: has {found}, expected {expected}")
    if package.model.specificationVersion != _SPECIFICATION:
        version = package.model.specificationVersion
        raise UserError(f"{path.name}: specification version {version}, expected {_SPECIFICATION} (iOS 16)")
    weights = census_of(path).weight_bytes
    if not weights["float16"] or weights["float32"] > 0.01 * weights["float16"]:
        raise UserError(f"{path.name}: expected float16 weights, got {weights} bytes")


def _picture(feature: Any) -> str:
    kind = feature.type.WhichOneof("Type")
    if kind != "imageType":
        return str(kind)
    image = feature.type.imageType
    return f"{image.width}x{image.height} {'RGB' if image.colorSpace == _RGB else image.colorSpace}"


def _size(port: Port) -> str:
    return f"{port.shape[3]}x{port.shape[2]} RGB"
