"""Runs the artifacts of a bundle on pictures, whatever runtime they are for.

    bundle = read_bundle(Path("build/bundle"))
    restore = open_artifact(bundle, bundle.contract.artifacts[0], threads=1)
    restored = restore(photo)["restored"]         # (H, W, 3) float32 RGB [0, 1] in and out, at the artifact's size

TFLite files run on the LiteRT interpreter with its XNNPACK delegate, as in an Android app that uses no GPU; Core ML
packages on our own executor (conversion/mil/), since Apple's needs a Mac. Tensors are bound by name: the converters
keep no order.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import SIGNATURE, Artifact, Bundle, integrity_fault
from afterlens.conversion.mil.features import FeatureSpec
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.training.media.errors import UserError

Picture = NDArray[np.float32]  # (H, W, 3), RGB, [0, 1]


@dataclass(frozen=True)
class FileTensor:
    """What a file itself says of one input or output, in the contract's words."""

    name: str
    shape: tuple[int | None, ...]
    layout: str | None  # None: the file does not record it
    dtype: str


class TfliteSession:
    """A TFLite file in memory; faults are raised as LiteRT raises them."""

    def __init__(self, data: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=data, num_threads=threads)
        self._interpreter.allocate_tensors()
        self.signature = self._interpreter.get_signature_runner(SIGNATURE)

    def run(self, pictures: Mapping[str, Picture]) -> dict[str, Picture]:
        """(H, W, 3) by input name -> (H, W, 3) by output name."""
        batch = {name: np.ascontiguousarray(picture[None], np.float32) for name, picture in pictures.items()}
        outputs = self.signature(**batch)
        return {name: np.array(value[0]) for name, value in outputs.items()}


class TfliteModel:
    """A TFLite file in the LiteRT interpreter.

    Raises:
        UserError: if LiteRT cannot load it.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self.runtime = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
        try:
            # Given a path, LiteRT maps the file unchecked, and a truncated one kills the process with a bus error.
            # Given the bytes, it checks the flatbuffer first.
            self._session = TfliteSession(path.read_bytes(), threads)
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{path}: cannot be loaded by LiteRT ({_line(error)})") from error
        signature = self._session.signature
        self.inputs = [_tflite_tensor(name, d) for name, d in signature.get_input_details().items()]
        self.outputs = [_tflite_tensor(name, d) for name, d in signature.get_output_details().items()]

    def run(self, pictures: Mapping[str, Picture]) -> dict[str, Picture]:
        """(H, W, 3) by input name -> (H, W, 3) by output name."""
        try:
            return self._session.run(pictures)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{self.path}: LiteRT failed ({_line(error)})") from error


_EXACT_INPUT = 1 / (255 * float(np.float16(1 / 255)))
"""Makes up for the rounding of 1/255 to float16, 1.5e-5 of every pixel. Networks that round, or divide by differences,
enlarge it to more than any fault of a file, so that no gate could tell them apart."""


class CoremlModel:
    """A Core ML package in our executor. Its pictures have 8 bits: what goes in is rounded to them first.

    Raises:
        UserError: if the package is damaged or holds an operator that the executor does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = "conversion.mil"
        self._program = MilProgram.load(path)
        self.inputs = [_coreml_tensor(feature) for feature in self._program.inputs]
        self.outputs = [_coreml_tensor(feature) for feature in self._program.outputs]

    def run(
        self, pictures: Mapping[str, Picture], *, eight_bit: bool = True, round_storage: bool = True
    ) -> dict[str, Picture]:
        """(H, W, 3) by input name -> (H, W, 3) by output name.

        Args:
            pictures: [0, 1].
            eight_bit: round the outputs to steps of 1/255 and clip them, as an app gets them; off, as computed.
            round_storage: round what the package declares as float16 after every operator; off, all is float32, and
                the factor 1/255 of the input is that of float32 too.
        """
        factor = np.float32(1.0 if round_storage else _EXACT_INPUT)
        given = {
            feature.name: to_levels(pictures[feature.name]) * factor
            if feature.is_image
            else np.asarray(pictures[feature.name], np.float32)[None]
            for feature in self._program.inputs
        }
        outputs = self._program.run(given, eight_bit=eight_bit, round_storage=round_storage)
        return {
            feature.name: np.divide(outputs[feature.name], np.float32(255), dtype=np.float32)
            if feature.is_image
            else np.asarray(outputs[feature.name][0], np.float32)
            for feature in self._program.outputs
        }


Model = TfliteModel | CoremlModel


def open_artifact(bundle: Bundle, artifact: Artifact, threads: int = 1) -> Callable[..., dict[str, Picture]]:
    """Opens one artifact of a bundle -> a function of its input pictures, in the contract's order.

    The function takes (H, W, 3) float32 RGB [0, 1] of the artifact's own size, or an array without its batch dimension for
    an input that is not an image, and returns the outputs by name, alike.

    Raises:
        UserError: if the file is missing, not the one that was converted, not readable, or not what the contract says.
    """
    fault = integrity_fault(bundle.folder, artifact)
    if fault is not None:
        raise UserError(f"{fault}; convert again")
    path = bundle.path(artifact)
    model = open_model(artifact, path, threads)
    faults = port_faults(model, artifact)
    if faults:
        raise UserError(f"{path}: {faults[0]}; convert again")
    names = [spec.name for spec in artifact.inputs]
    # Core ML images have no batch dimension; everything else has one.
    expected = {s.name: s.shape if s.layout == "image" else s.shape[1:] for s in artifact.inputs}

    def run(*pictures: Picture) -> dict[str, Picture]:
        for name, picture in zip(names, pictures, strict=True):
            if picture.shape != expected[name]:
                raise UserError(
                    f"{path}: input {name!r} got shape {picture.shape}, expected {expected[name]}"
                )
        return model.run(dict(zip(names, pictures, strict=True)))

    return run


def open_model(artifact: Artifact, path: Path, threads: int = 1) -> Model:
    """Loads an artifact's file as it is, whatever the contract says of it; UserError where that fails."""
    return TfliteModel(path, threads) if artifact.format == "tflite" else CoremlModel(path)


def port_faults(model: Model, artifact: Artifact) -> list[str]:
    """How the inputs and outputs that a file has differ from those that the contract promises, one line each."""
    faults = []
    for side, own, promised in (
        ("input", model.inputs, artifact.inputs),
        ("output", model.outputs, artifact.outputs),
    ):
        found = {tensor.name: tensor for tensor in own}
        wanted = {spec.name: FileTensor(spec.name, spec.shape, spec.layout, spec.dtype) for spec in promised}
        for name in sorted({*found, *wanted}):
            got, expected = found.get(name), wanted.get(name)
            if got is not None and expected is not None and got.layout is None:
                # TFLite records none: axes in another order show in the shape, if they show at all.
                got = replace(got, layout=expected.layout if expected.layout in ("NHWC", "array") else "NHWC")
            if got != expected:
                faults.append(
                    f"{side} {name!r} is {_described(got)}, the contract says {_described(expected)}"
                )
    return faults


def to_levels(picture: Picture) -> NDArray[np.uint8]:
    """[0, 1] -> the nearest of 256 levels, as every image coder here rounds."""
    return np.rint(np.clip(picture, 0.0, 1.0) * np.float32(255)).astype(np.uint8)


def _tflite_tensor(name: str, details: Mapping[str, Any]) -> FileTensor:
    shape = tuple(int(side) for side in np.asarray(details["shape_signature"]))
    return FileTensor(
        name, tuple(None if side < 0 else side for side in shape), None, np.dtype(details["dtype"]).name
    )


def _coreml_tensor(feature: FeatureSpec) -> FileTensor:
    if not feature.is_image or feature.colour != "RGB":
        layout = f"image {feature.colour}" if feature.is_image else "array"
        return FileTensor(feature.name, feature.shape, layout, feature.dtype)
    _, channels, height, width = feature.shape
    return FileTensor(feature.name, (height, width, channels), "image", feature.dtype)


def _described(tensor: FileTensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {tensor.layout} {tensor.shape}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
