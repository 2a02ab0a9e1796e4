"""A task's deployable graphs -> a bundle folder with TFLite files, Core ML packages, contract and golden vectors.

    deployables = [task.deployable(network, height, width) for height, width in task.default_sizes]
    bundle = convert(deployables, Path("build/bundle"), provenance, golden_photo=Path("room.jpg"))

Works offline, in a temporary folder; the bundle appears whole or not at all.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from afterlens.conversion.bundle.contract import (
    CONTRACT_FILE,
    Artifact,
    Bundle,
    Contract,
    Format,
    GoldenFile,
    digest,
    read_bundle,
    write_contract,
)
from afterlens.conversion.bundle.layout import (
    array_shape,
    first_image,
    from_torch,
    made_up,
    tensor_spec,
    to_torch,
)
from afterlens.conversion.bundle.runtimes import open_model, port_faults, to_levels
from afterlens.conversion.bundle.variants import VARIANTS
from afterlens.conversion.coreml.check import compress_and_check
from afterlens.conversion.coreml.convert import convert_coreml, minimum_coreml
from afterlens.conversion.coreml.plan import MEASURED_PICTURES, plan_mixed
from afterlens.conversion.examples import Example, refuse_unreal
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.tflite.check import quantization_faults
from afterlens.conversion.tflite.onnx2tf import Onnx2tf, Reference, finish_tflite, minimum_tflite
from afterlens.conversion.tflite.onnx_export import export_onnx
from afterlens.conversion.tflite.quantizer import Quantizer
from afterlens.conversion.tflite.self_test import self_test_floor
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import atomic_path, fit, read_photo, write_png

FLOAT_VARIANTS = tuple(variant.file_ending for variant in VARIANTS if variant.is_float)
"""What can be made without pictures and proved without a ground truth."""

CALIBRATION = (36, 12)
"""Examples that the ranges of the smallest size are taken from, and of each larger one."""

TOOLS = ("torch", "onnx", "onnxsim", "onnx2tf", "tensorflow", "ai-edge-litert", "coremltools", "numpy")
MAX_RAW_BYTES = 1 << 20  # larger golden outputs are kept as PNG only


def convert(
    deployables: Sequence[Deployable],
    out: Path,
    provenance: Mapping[str, Any],
    *,
    golden_photo: Path,
    earlier: Sequence[Path] = (),
    variants: Collection[str] = FLOAT_VARIANTS,
    examples: Callable[[Deployable, int], Sequence[Example]] | None = None,
    mixed_budget: float = 0.1,
) -> Bundle:
    """Convert the same network at one or more sizes and write the bundle folder `out`.

    Args:
        deployables: one a size, all of the same task.
        out: a new or empty folder, or an older bundle, which is replaced.
        provenance: `checkpoint_sha256`, `recipe`, `data_licence`, and what else is worth knowing; the tools' versions
            are added.
        golden_photo: a real photo; cropped and scaled to each size it becomes the golden input.
        earlier: for a network of several inputs, one photo for each further input: the frames before it.
        variants: their file endings, such as "float16.tflite"; see `afterlens.conversion.bundle.variants`.
        examples: gives so many real pictures for a graph, with the truth where it is known; the integer variants take
            their ranges from them, and Core ML's mixed variant is decided on them (without any, on the golden input).
        mixed_budget: dB that `mixed` may lose on each of them.

    Raises UserError where a tool fails, the input or `out` is not usable, or examples are wanted and missing or noise.
    """
    sizes = [_size(deployable) for deployable in deployables]
    if not deployables or len(set(sizes)) < len(sizes) or len({d.task for d in deployables}) > 1:
        raise ValueError(f"expected graphs of one task and of different sizes, got {sizes}")
    chosen = [variant for variant in VARIANTS if variant.file_ending in variants]
    unknown = sorted(set(variants) - {variant.file_ending for variant in VARIANTS})
    if unknown or not chosen:
        known = ", ".join(variant.file_ending for variant in VARIANTS)
        raise UserError(f"unknown variant {', '.join(unknown) or '(none)'}, expected {known}")
    calibrated = [variant.name for variant in chosen if variant.calibrated]
    if calibrated and examples is None:
        raise UserError(f"{calibrated[0]} takes its ranges from real pictures, and none were given")
    quantized = [v.name for v in chosen if v.format == "tflite" and not v.is_float]
    packages = [v.name for v in chosen if v.format == "coreml"]
    _refuse_other_folder(out)
    photos = [read_photo(path).rgb for path in (golden_photo, *earlier)]
    console = Console(stderr=True)
    first = deployables[0]
    with (
        atomic_path(out) as folder,
        tempfile.TemporaryDirectory(prefix="afterlens-") as scratch,
        ExitStack() as running,
    ):
        (folder / "golden").mkdir(parents=True)
        work = Path(scratch)
        references, tools = {}, {}
        for size, deployable in zip(sizes, deployables, strict=True):
            with _step(console, f"PyTorch and ONNX {size}"):
                references[size] = reference(deployable, photos)
                export_onnx(deployable, work / f"{size}.onnx")
            if any(variant.endswith(".tflite") for variant in variants):
                # Started first and waited for last: the other steps fit into its time.
                tools[size] = running.enter_context(
                    Onnx2tf(work / f"{size}.onnx", work / size, keep=_keep(deployable))
                )
        artifacts: list[Artifact] = []
        golden: list[GoldenFile] = []
        plan: dict[str, str] | None = None  # of the mixed package; all sizes have the same weights
        for size, deployable in zip(sizes, deployables, strict=True):
            exact = (folder if "float16" in packages else work) / f"{first.task}_{size}_float16.mlpackage"
            if packages:
                with _step(console, f"coremltools {size}"):
                    convert_coreml(deployable, exact)
            for variant in packages:
                with _step(console, f"Core ML {size} {variant}"):
                    path = folder / f"{first.task}_{size}_{variant}.mlpackage"
                    if variant == "mixed" and plan is None:
                        plan = _package_plan(exact, deployable, examples, references[size], mixed_budget)
                    if variant != "float16":
                        compress_and_check(exact, variant, path, plan if variant == "mixed" else None)
                    artifacts.append(_artifact(path, deployable, "coreml", variant, minimum_coreml(path)))
            golden += _write_golden(folder, deployable, references[size])
        smallest: Quantizer | None = None
        for size, deployable in sorted(
            zip(sizes, deployables, strict=True), key=lambda pair: _pixels(pair[1])
        ):
            if size not in tools:
                continue
            with _step(console, f"onnx2tf {size}, beside the above", tools[size].started):
                files = tools[size].finish()
            for variant in ("float32", "float16"):
                if f"{variant}.tflite" not in variants and not (variant == "float32" and quantized):
                    continue
                with _step(console, f"TFLite {size} {variant}"):
                    wanted = f"{variant}.tflite" in variants
                    path = (folder if wanted else work) / f"{first.task}_{size}_{variant}.tflite"
                    finish_tflite(files[variant], path, deployable, references[size], variant)
                    if wanted:
                        artifacts.append(_tflite_artifact(path, deployable, variant, references[size]))
            if not quantized:
                continue
            source = (
                folder if "float32.tflite" in variants else work
            ) / f"{first.task}_{size}_float32.tflite"
            with _step(console, f"calibration {size}"):
                quantizer = _quantizer(source, deployable, examples, smallest)
                smallest = smallest or quantizer
            for variant in quantized:
                with _step(console, f"TFLite {size} {variant}"):
                    path = folder / f"{first.task}_{size}_{variant}.tflite"
                    path.write_bytes(quantizer.variant(variant, mixed_budget))
                    if faults := quantization_faults(path, source):
                        raise UserError(f"{path.name}: quantized wrongly: {faults[0]}")
                    artifacts.append(_tflite_artifact(path, deployable, variant, references[size]))
        versions = {"python": platform.python_version()} | {tool: version(tool) for tool in TOOLS}
        contract = Contract(
            task=first.task,
            title=first.title,
            version=first.version,
            artifacts=tuple(sorted(artifacts, key=lambda a: (sizes.index(f"{a.width}x{a.height}"), a.file))),
            golden=tuple(golden),
            provenance={**provenance, "tools": versions},
        )
        write_contract(folder, contract)
    return read_bundle(out)


def _quantizer(
    source: Path,
    deployable: Deployable,
    examples: Callable[[Deployable, int], Sequence[Example]] | None,
    smaller: Quantizer | None,
) -> Quantizer:
    chosen = [] if examples is None else list(examples(deployable, CALIBRATION[0 if smaller is None else 1]))
    if examples is not None:
        refuse_unreal(chosen)
    output = first_image(deployable.outputs) or deployable.outputs[0]
    return Quantizer(source, chosen, output.name, smaller)


def _package_plan(
    package: Path,
    deployable: Deployable,
    examples: Callable[[Deployable, int], Sequence[Example]] | None,
    golden: Reference,
    budget: float,
) -> dict[str, str]:
    """How Core ML's mixed package stores each weight, decided on examples; without any, on the golden input."""
    if examples is None:
        picture = {
            port.name: from_torch(port, torch.from_numpy(golden.inputs[port.name]))
            for port in deployable.inputs
        }
        return plan_mixed(package, [picture], None, budget)
    chosen = list(examples(deployable, MEASURED_PICTURES))
    refuse_unreal(chosen)
    truths = [example.truth for example in chosen if example.truth is not None]
    pictures = [example.inputs for example in chosen]
    return plan_mixed(package, pictures, truths if len(truths) == len(pictures) else None, budget)


def reference(deployable: Deployable, photos: Sequence[NDArray[np.float32]]) -> Reference:
    """What PyTorch computes from photos (H, W, 3) in [0, 1] that are cropped, scaled and rounded to 8 bits first.

    A lone photo is turned upside down for every second image input: nobody could tell equal ones from each other. Inputs
    that are not images get made-up values.
    """
    inputs = {}
    for index, port in enumerate(deployable.inputs):
        value = made_up(port, 0)
        if port.kind == "image":
            pixels = to_levels(fit(photos[index % len(photos)], port.shape[2], port.shape[3]))
            turned = pixels[:: (-1) ** (index if len(photos) == 1 else 0)]
            value = turned.astype(np.float32) / np.float32(255)
        inputs[port.name] = to_torch(port, value).numpy()
    with torch.inference_mode():
        results = deployable.module(*(torch.from_numpy(value) for value in inputs.values()))
    outputs = {}
    for port, result in zip(deployable.outputs, results, strict=True):
        if tuple(result.shape) != port.shape:
            raise ValueError(
                f"port {port.name}: the module gives {tuple(result.shape)}, declared is {port.shape}"
            )
        outputs[port.name] = result.numpy()
    return Reference(inputs, outputs)


def parameters_and_macs(deployable: Deployable) -> tuple[int, int]:
    """Trained numbers, and multiply-accumulates of one run.

    The multiply-accumulates are those of convolutions and matrix products, as the field counts them (half of the
    FLOPs that PyTorch counts). Element-wise operations, pooling and resizing are not in it: at 1280x720 they take
    more time than this number suggests.
    """
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        deployable.module(*(torch.zeros(port.shape) for port in deployable.inputs))
    return sum(p.numel() for p in deployable.module.parameters()), counter.get_total_flops() // 2


def _artifact(
    path: Path, deployable: Deployable, format_: Format, variant: str, minimum_runtime: str
) -> Artifact:
    """The contract's entry of a finished file, which is read again for it and checked."""
    sha256, size = digest(path)
    parameters, macs = parameters_and_macs(deployable)
    height, width = deployable.size
    artifact = Artifact(
        file=path.name,
        format=format_,
        variant=variant,
        width=width,
        height=height,
        sha256=sha256,
        bytes=size,
        minimum_runtime=minimum_runtime,
        inputs=tuple(tensor_spec(port, format_) for port in deployable.inputs),
        outputs=tuple(tensor_spec(port, format_) for port in deployable.outputs),
        parameters=parameters,
        macs=macs,
    )
    faults = port_faults(open_model(artifact, path), artifact)
    if variant in ("float32", "float16"):
        faults += _weight_faults(path, variant)
    if faults:
        raise UserError(f"{path.name}: the converter wrote it wrongly: {faults[0]}")
    return artifact


def _tflite_artifact(path: Path, deployable: Deployable, variant: str, golden: Reference) -> Artifact:
    artifact = _artifact(path, deployable, "tflite", variant, minimum_tflite(path))
    return replace(artifact, self_test_floor_db=self_test_floor(path, deployable, golden))


def _weight_faults(path: Path, variant: str) -> list[str]:
    stored = operator_counts(path).weight_bytes
    # Scalars such as the limit of a clamp may keep the other type.
    if stored[variant] >= 0.99 * sum(stored.values()) and stored[variant] > 0:
        return []
    return [f"expected {variant} weights, got {stored} bytes"]


def _write_golden(folder: Path, deployable: Deployable, values: Reference) -> list[GoldenFile]:
    """Images as PNG, and outputs of a moderate size as raw float32 too; everything that is not an image as raw float32."""
    entries = []
    for role, ports, tensors in (
        ("input", deployable.inputs, values.inputs),
        ("output", deployable.outputs, values.outputs),
    ):
        for port in ports:
            value = from_torch(port, torch.from_numpy(tensors[port.name])).astype("<f4")
            path = folder / "golden" / f"{_size(deployable)}_{role}_{port.name}.png"
            if port.kind == "image":
                write_png(path, value)
                entries.append(_golden(folder, path, role, port, "png"))
            if port.kind != "image" or (role == "output" and value.nbytes <= MAX_RAW_BYTES):
                raw = path.with_suffix(".float32")
                raw.write_bytes(value.tobytes())
                entries.append(_golden(folder, raw, role, port, "float32"))
    return entries


def _golden(folder: Path, path: Path, role: Any, port: Port, encoding: Any) -> GoldenFile:
    shape = array_shape(port) if port.kind == "image" else tuple(port.shape)
    return GoldenFile(path.relative_to(folder).as_posix(), role, port.name, encoding, shape, *digest(path))


def _keep(deployable: Deployable) -> list[str]:
    """Inputs whose axes onnx2tf must not reorder: it takes anything of three axes and more for an image."""
    return [port.name for port in deployable.inputs if port.kind != "image" and len(port.shape) > 2]


def _pixels(deployable: Deployable) -> int:
    height, width = deployable.size
    return height * width


def _size(deployable: Deployable) -> str:
    height, width = deployable.size
    return f"{width}x{height}"


def _refuse_other_folder(out: Path) -> None:
    """Writing a bundle replaces the folder: never one with other things in it."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise UserError(f"{out}: is a file, expected the name of a folder for the bundle")
    try:
        bundle = read_bundle(out)
    except UserError as error:
        raise UserError(
            f"{out}: is not empty and not a bundle; name a new folder, or remove this one"
        ) from error
    ours = {
        CONTRACT_FILE,
        "golden",
        "heatmaps",
        "proof.json",
        "report.html",
        *(a.file for a in bundle.contract.artifacts),
    }
    others = sorted(path.name for path in out.iterdir() if path.name not in ours)
    if others:
        raise UserError(
            f"{out}: holds more than a bundle ({others[0]}), which would be lost; name a new folder"
        )


@contextmanager
def _step(console: Console, name: str, started: float | None = None) -> Iterator[None]:
    """A spinner while a step runs, and a line with its time when it is done."""
    start = time.perf_counter() if started is None else started
    with console.status(name):
        yield
    console.print(f"{name}: {time.perf_counter() - start:.1f} s", highlight=False)
