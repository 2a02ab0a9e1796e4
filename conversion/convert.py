"""A task's deployable graphs -> a bundle folder with TFLite files, Core ML packages, contract and golden vectors.

    deployables = [task.deployable(network, height, width) for height, width in task.default_sizes]
    bundle = convert(deployables, Path("build/bundle"), provenance, golden_photo=Path("room.jpg"))

Works offline, in a temporary folder; the bundle appears whole or not at all.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
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
    CameraFrame,
    Contract,
    Format,
    GoldenFile,
    digest,
    read_bundle,
    write_contract,
)
from afterlens.conversion.bundle.layout import (
    Reference,
    array_shape,
    from_torch,
    made_up,
    tensor_spec,
    to_torch,
)
from afterlens.conversion.bundle.runtimes import open_model, port_faults, to_levels
from afterlens.conversion.bundle.variants import VARIANTS
from afterlens.conversion.coreml.check import compress_and_check
from afterlens.conversion.coreml.compress import nothing_to_compress
from afterlens.conversion.coreml.convert import convert_coreml, minimum_coreml, prove_package
from afterlens.conversion.coreml.plan import MEASURED_PICTURES, plan_mixed
from afterlens.conversion.examples import Example, refuse_unreal
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.tflite.check import NOTHING_QUANTIZED, quantization_faults
from afterlens.conversion.tflite.float16 import LARGEST_EXCEPTION
from afterlens.conversion.tflite.onnx2tf import Onnx2tf, finish_tflite, minimum_tflite
from afterlens.conversion.tflite.onnx_export import export_onnx
from afterlens.conversion.tflite.quantizer import Quantizer
from afterlens.conversion.tflite.self_test import self_test_floor
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import GateFailed, UserError
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
        examples: gives so many real pictures for a graph, with the ground truth where it is known; the integer variants take
            their ranges from them, and Core ML's mixed variant is decided on them (without any, on the golden input).
        mixed_budget: dB that `mixed` may lose on each of them.

    Raises:
        UserError: where nothing can be converted, the input or `out` is not usable, the network computes NaN, or
            examples are wanted and missing or noise.
        GateFailed: where some of the variants cannot be made or are not what PyTorch computes. The bundle is written
            without them.
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
    files = [v.file_ending for v in chosen if v.format == "tflite"]
    quantized = [v.name for v in chosen if v.format == "tflite" and not v.is_float]
    packages = [v.name for v in chosen if v.format == "coreml"]
    _refuse_other_folder(out)
    photos = [read_photo(path).rgb for path in (golden_photo, *earlier)]
    console = Console(stderr=True)
    first = deployables[0]
    job = _Job(sizes, {})
    with (
        atomic_path(out) as folder,
        tempfile.TemporaryDirectory(prefix="afterlens-") as scratch,
        ExitStack() as running,
    ):
        (folder / "golden").mkdir(parents=True)
        work = Path(scratch)
        job.hidden = (f"{folder}/", f"{work}/")
        references, tools = {}, {}
        for size, deployable in zip(sizes, deployables, strict=True):
            with _step(console, f"PyTorch {size}"):
                references[size] = reference(deployable, photos)
            with job.part(size, files), _step(console, f"ONNX {size}"):
                if files:
                    export_onnx(deployable, work / f"{size}.onnx")
                    # Started first and waited for last: the other steps fit into its time.
                    tools[size] = running.enter_context(
                        Onnx2tf(work / f"{size}.onnx", work / size, keep=_keep(deployable))
                    )
        artifacts: list[Artifact] = []
        golden: list[GoldenFile] = []
        plan: dict[str, str] | None = None  # of the mixed package; all sizes have the same weights
        for size, deployable in zip(sizes, deployables, strict=True):
            golden += _write_golden(folder, deployable, references[size])
            exact = (folder if "float16" in packages else work) / f"{first.task}_{size}_float16.mlpackage"
            with job.part(size, [f"{variant}.mlpackage" for variant in packages], exact):
                if packages:
                    with _step(console, f"coremltools {size}"):
                        convert_coreml(deployable, exact)
                    with _step(console, f"Core ML {size}, run on the golden picture"):
                        whole = _artifact(exact, deployable, "coreml", "float16", minimum_coreml(exact))
                        prove_package(exact, deployable, references[size])
            for variant in packages:
                ending = f"{variant}.mlpackage"
                if job.lacks(size, ending):
                    continue
                if reason := nothing_to_compress(exact, variant):
                    job.spare(size, ending, reason)
                    continue
                path = folder / f"{first.task}_{size}_{ending}"
                with job.part(size, [ending], path), _step(console, f"Core ML {size} {variant}"):
                    if variant == "mixed" and plan is None:
                        plan = _package_plan(exact, deployable, examples, references[size], mixed_budget)
                    if variant == "float16":
                        artifacts.append(whole)
                        continue
                    compress_and_check(exact, variant, path, plan if variant == "mixed" else None)
                    artifacts.append(_artifact(path, deployable, "coreml", variant, minimum_coreml(path)))
        smallest: Quantizer | None = None
        for size, deployable in sorted(
            zip(sizes, deployables, strict=True), key=lambda pair: _pixels(pair[1])
        ):
            if size not in tools:
                continue
            written: dict[str, Path] = {}
            source = work / f"{first.task}_{size}_float32.tflite"
            as_source = partial(
                finish_tflite,
                target=source,
                deployable=deployable,
                reference=references[size],
                variant="float32",
            )
            with (
                job.part(size, files),
                _step(
                    console,
                    f"onnx2tf {size}, beside the above, run on the golden picture",
                    tools[size].started,
                ),
            ):
                written = tools[size].finish(as_source)
            if job.lacks(size, *files):
                continue
            for variant in ("float32", "float16"):
                path = folder / f"{first.task}_{size}_{variant}.tflite"
                if f"{variant}.tflite" not in files:
                    continue
                with job.part(size, [f"{variant}.tflite"], path), _step(console, f"TFLite {size} {variant}"):
                    if variant == "float32":
                        shutil.copyfile(source, path)
                    else:
                        finish_tflite(written[variant], path, deployable, references[size], variant)
                    artifacts.append(_tflite_artifact(path, deployable, variant, references[size]))
            if not quantized:
                continue
            quantizer: Quantizer | None = None
            with (
                job.part(size, [f"{variant}.tflite" for variant in quantized]),
                _step(console, f"calibration {size}"),
            ):
                quantizer = _quantizer(source, deployable, examples, smallest)
                smallest = smallest or quantizer
            for variant in quantized if quantizer is not None else ():
                path = folder / f"{first.task}_{size}_{variant}.tflite"
                with job.part(size, [f"{variant}.tflite"], path), _step(console, f"TFLite {size} {variant}"):
                    assert quantizer is not None
                    path.write_bytes(quantizer.variant(variant, mixed_budget))
                    faults = quantization_faults(path, source)
                    if variant == "mixed" and faults == [NOTHING_QUANTIZED]:
                        path.unlink()
                        reason = "no layer bears int8 without more loss than is allowed, so it would be the float32 file"
                        job.spare(size, f"{variant}.tflite", reason)
                        continue
                    if faults:
                        raise UserError(f"{path.name}: quantized wrongly: {faults[0]}")
                    artifacts.append(_tflite_artifact(path, deployable, variant, references[size]))
        if not artifacts:
            raise UserError(job.summary())
        versions = {"python": platform.python_version()} | {tool: version(tool) for tool in TOOLS}
        contract = Contract(
            task=first.task,
            title=first.title,
            version=first.version,
            artifacts=tuple(sorted(artifacts, key=lambda a: (sizes.index(f"{a.width}x{a.height}"), a.file))),
            golden=tuple(golden),
            provenance={**provenance, "tools": versions},
            camera_frame=None if first.camera_frame is None else CameraFrame(*reversed(first.camera_frame)),
        )
        write_contract(folder, contract)
    for line in job.spared:
        console.print(line, highlight=False)
    if job.missing:
        made = ",".join(
            v.file_ending
            for v in chosen
            if any((a.format, a.variant) == (v.format, v.name) for a in artifacts)
        )
        raise GateFailed(f"{out} was written without {job.summary()}; what is there: --variants {made}")
    return read_bundle(out)


@dataclass
class _Job:
    """What could not be made, and why: one format's failure must not lose the other."""

    sizes: Sequence[str]
    missing: dict[tuple[str, str], str]  # (size, file ending) -> reason
    hidden: tuple[str, ...] = ()  # folders that are gone afterwards, and not to be named
    spared: list[str] = field(default_factory=list)  # what was left out because it would be no smaller

    @contextmanager
    def part(self, size: str, endings: Sequence[str], path: Path | None = None) -> Iterator[None]:
        """A step of the conversion: if it fails, these files are missing, and what it left at `path` goes."""
        try:
            yield
        except UserError as error:
            reason = str(error).removeprefix(f"{endings[0]}: ")
            for folder in self.hidden:
                reason = reason.replace(folder, "")
            self.missing |= {(size, ending): reason for ending in endings}
            if path is not None and path.is_dir():
                shutil.rmtree(path)
            elif path is not None:
                path.unlink(missing_ok=True)

    def lacks(self, size: str, *endings: str) -> bool:
        return all((size, ending) in self.missing for ending in endings)

    def spare(self, size: str, ending: str, reason: str) -> None:
        self.spared.append(f"{size} {ending} left out: {reason}")

    def summary(self) -> str:
        """The missing files by reason, in one line."""
        by_reason: dict[str, list[str]] = {}
        for (size, ending), reason in self.missing.items():
            name = ending if len(self.sizes) == 1 else f"{size} {ending}"
            by_reason.setdefault(reason, []).append(name)
        parts = [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
        return "; ".join([*parts, *([] if parts else self.spared)])


def _quantizer(
    source: Path,
    deployable: Deployable,
    examples: Callable[[Deployable, int], Sequence[Example]] | None,
    smaller: Quantizer | None,
) -> Quantizer:
    chosen = [] if examples is None else list(examples(deployable, CALIBRATION[0 if smaller is None else 1]))
    if examples is not None:
        refuse_unreal(chosen)
    return Quantizer(source, deployable, chosen, smaller)


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
    ground_truths = [example.ground_truth for example in chosen if example.ground_truth is not None]
    pictures = [example.inputs for example in chosen]
    return plan_mixed(
        package, pictures, ground_truths if len(ground_truths) == len(pictures) else None, budget
    )


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
        if not bool(result.isfinite().all()):
            raise UserError(
                f"{deployable.task}: the network itself computes NaN or infinity on the golden picture (output "
                f"{port.name}); mend it before converting: is there a division by zero, or a root of a negative number?"
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
    small = 4 * LARGEST_EXCEPTION * 8
    if stored[variant] > 0 and sum(stored.values()) - stored[variant] <= max(small, stored[variant] // 99):
        return []
    if not any(stored.values()):  # a network without weights
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
