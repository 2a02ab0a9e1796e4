"""The proof that a bundle computes what the trained network computes: every artifact against PyTorch, on real photos.

    proof = verify(Path("build/bundle"), {(256, 256): deployable}, [Path("room.jpg")])

PyTorch runs in float32; TFLite files run in the LiteRT interpreter, Core ML packages, as saved, in our own executor.
All get the very same 8-bit pictures: the photos given, the bundle's golden ones, and test pictures made of the first
photo. docs/proof.md says what a pass proves and what it does not.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    GoldenFile,
    Proof,
    ProofResult,
    digest,
    integrity_fault,
    read_bundle,
    write_contract,
)
from afterlens.conversion.bundle.proof import EXECUTED, MEASURED, PROOF_FILE
from afterlens.conversion.bundle.runtimes import (
    CoremlModel,
    Model,
    Picture,
    open_model,
    port_faults,
    to_levels,
)
from afterlens.conversion.bundle.variants import RANGE_SLACK, VARIANTS, gate
from afterlens.conversion.coreml.check import compression_faults
from afterlens.conversion.coreml.compress import COMPRESSED_VARIANTS
from afterlens.conversion.examples import Example
from afterlens.conversion.verify.gates import Row, check_output
from afterlens.conversion.verify.quality import evaluate_quality, measure, over_budget, write_heatmap
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.images import atomic_path, fit, read_photo
from afterlens.training.media.progress import progress_bar

HEATMAPS = "heatmaps"
EXACT = gate("tflite", "float32")
GOLDEN = "golden"  # name of the bundle's own input among the images

Levels = NDArray[np.uint8]  # (H, W, 3), RGB
Size = tuple[int, int]  # height, width
Pictures = Mapping[str, Picture]  # (H, W, 3) by input or output name


@dataclass
class Subject:
    """An artifact under test and what was found."""

    artifact: Artifact
    model: Model | None  # None: not opened
    faults: list[str]
    rows: list[Row] = field(default_factory=list)
    quality: dict[str, Any] | None = None  # against the truth, for proof.json; None: not judged

    def failures(self) -> list[str]:
        """All that is wrong with it, one line each, the worst picture first."""
        rows = sorted(self.rows, key=lambda row: -row.max_error)
        lines = [*self.faults]
        if self.quality is not None and (fault := over_budget(self.quality)) is not None:
            lines.append(fault)
        for row in rows:
            lines += [f"output {row.output!r}, image {row.image}: {fault}" for fault in row.faults]
        return [f"{self.artifact.file}: {line}" for line in lines]


def verify(
    folder: Path,
    deployables: Mapping[Size, Deployable],
    images: Sequence[Path],
    *,
    checkpoint: Path | None = None,
    examples: Mapping[Size, Sequence[Example]] | None = None,
    budgets: Mapping[str, float] | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Prove the bundle in `folder`; what was found goes to its `proof.json` and, in short, to its `model.json`.

    Args:
        folder: a bundle of `convert`.
        deployables: what the artifacts should compute, by (height, width), built from the bundle's checkpoint.
        images: real photos, at least one. They are cropped and scaled to each artifact's size.
        checkpoint: the file that the deployables were built from; its sha256 must be the bundle's.
        examples: by (height, width), pictures whose truth is known, to judge every artifact's first output by. None of
            them should have been calibrated on.
        budgets: by variant, the dB that the mean over the examples may lose to PyTorch.
        threads: for the LiteRT interpreter.

    Returns: what proof.json holds.

    Raises:
        GateFailed: where an artifact or golden file is damaged or wrong, after proof.json is written. The message
            names the file, the output, the image, and the value that is furthest off.
        UserError: without photos, for a folder that is no whole bundle, and for deployables of another model.
    """
    if not images:
        raise UserError("no photos to verify with, expected at least one")
    # Before the work: a photo that is renamed during it must not end it.
    photos = [
        {"name": name, "sha256": digest(path)[0]} for name, path in zip(_names(images), images, strict=True)
    ]
    bundle = read_bundle(folder)
    _refuse_other_model(bundle, deployables, checkpoint)
    subjects = [_open(bundle, artifact, deployables, threads) for artifact in bundle.contract.artifacts]
    faults = [
        fault.removeprefix(f"{folder}/")
        for golden in bundle.contract.golden
        if (fault := integrity_fault(folder, golden)) is not None
    ]
    for subject in subjects:
        subject.faults += _compression_faults(bundle, subject)
    sizes = sorted({_size(artifact) for artifact in bundle.contract.artifacts})
    with progress_bar() as progress:
        bar = progress.add_task("verify", total=len(sizes) * (len(images) + 6))
        for size in sizes:
            deployable = deployables[size]
            rounded = with_float16_weights(deployable)
            own = [subject for subject in subjects if _size(subject.artifact) == size]
            for name, inputs in _pictures(bundle, images, deployable):
                progress.update(bar, description=f"verify {size[1]}x{size[0]} on {name}")
                expected, stored = compute(deployable, inputs), compute(rounded, inputs)
                faults += _reference_faults(deployable, name, expected)
                if name == GOLDEN:
                    faults += _golden_faults(bundle, deployable, expected)
                test = partial(
                    _test, deployable=deployable, name=name, inputs=inputs, expected=expected, stored=stored
                )
                _at_once(test, own)
                progress.advance(bar)
            judged = [example for example in (examples or {}).get(size, ()) if example.truth is not None]
            for example in judged:
                progress.update(bar, description=f"verify {size[1]}x{size[0]} on {example.name}")
            _evaluate(bundle.folder, deployable, judged, own, budgets or {})
    return _conclude(bundle, photos, subjects, faults, budgets or {}, examples or {})


def _at_once(work: Callable[[Subject], None], subjects: Sequence[Subject]) -> None:
    """Does the work for each artifact, side by side: the runtimes compute outside Python's lock."""
    # More than four pictures of 50 layers each at once would fill a small machine's memory.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, subjects):
            pass


def _evaluate(
    folder: Path,
    deployable: Deployable,
    examples: Sequence[Example],
    subjects: Sequence[Subject],
    budgets: Mapping[str, float],
) -> None:
    """Judges the subjects' pictures against the truth, and draws where the worst of each differs from PyTorch."""
    port = deployable.outputs[0].name
    given = deployable.inputs[0].name
    references = [compute(deployable, example.inputs)[port] for example in examples]

    def evaluate_one(subject: Subject) -> None:
        if subject.model is None or not examples:
            return
        rows, pictures = [], {}
        for example, reference in zip(examples, references, strict=True):
            outputs = _run(subject, example.name, example.inputs)
            if outputs is None or example.truth is None:
                break
            pictures[example.name] = outputs[port]
            rows.append(measure(example.name, outputs[port], reference, example.inputs[given], example.truth))
        else:
            subject.quality = evaluate_quality(rows, budgets.get(subject.artifact.variant))
            worst = subject.quality["worst"]
            name = f"{HEATMAPS}/{subject.artifact.file}.png"
            place = next(i for i, example in enumerate(examples) if example.name == worst["image"])
            (folder / HEATMAPS).mkdir(exist_ok=True)
            write_heatmap(folder / name, pictures[worst["image"]], references[place])
            worst["heatmap"] = name

    _at_once(evaluate_one, subjects)


def _run(
    subject: Subject, name: str, inputs: Pictures, round_storage: bool = True
) -> dict[str, Picture] | None:
    """What an artifact makes of a picture, as computed; None, and a fault, where it fails."""
    model = subject.model
    if model is None:
        return None
    try:
        if isinstance(model, CoremlModel):
            return model.run(inputs, eight_bit=False, round_storage=round_storage)
        return model.run(inputs)
    except UserError as error:
        subject.faults.append(f"image {name}: {str(error).removeprefix(f'{model.path}: ')}")
        subject.model = None
        return None


def compute(deployable: Deployable, inputs: Pictures) -> dict[str, Picture]:
    """What PyTorch computes in float32: (H, W, 3) by input name -> (H, W, 3) by output name."""
    tensors = [torch.from_numpy(inputs[port.name]).permute(2, 0, 1)[None] for port in deployable.inputs]
    with torch.inference_mode():
        results = deployable.module(*(tensor.contiguous() for tensor in tensors))
    return {
        port.name: result[0].permute(1, 2, 0).numpy()
        for port, result in zip(deployable.outputs, results, strict=True)
    }


def with_float16_weights(deployable: Deployable) -> Deployable:
    """A copy that computes in float32 too, but with the weights rounded to float16, as a float16 file stores them."""
    module = copy.deepcopy(deployable.module)
    with torch.no_grad():
        for weight in (*module.parameters(), *module.buffers()):
            if weight.is_floating_point():
                weight.copy_(weight.half())
    return replace(deployable, module=module)


def extreme_pictures(photo: Levels) -> dict[str, Levels]:
    """Pictures made of a photo, (H, W, 3), that clean photos do not stand for: four ends of the range, and a fault.

    A network that removes faults leaves a clean photo as it is. Most of its weights could be lost, and nobody would
    see it; a double exposure gives it something to do.
    """
    return {
        "double": np.right_shift(photo, 1) + np.right_shift(photo[:, ::-1], 1),
        "dark": np.right_shift(photo, 4),  # the darkest sixteenth of the levels
        "bright": 255 - np.right_shift(255 - photo, 4),
        "flat": np.full_like(photo, 128),
        "noise": np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8),
    }


def _pictures(
    bundle: Bundle, images: Sequence[Path], deployable: Deployable
) -> Iterator[tuple[str, Pictures]]:
    """Names and inputs: the photos, the test pictures, the bundle's golden input if it has an undamaged one."""
    ports = deployable.inputs
    height, width = ports[0].shape[2:]

    def photo(index: int) -> Levels:
        return to_levels(fit(read_photo(images[index % len(images)]).rgb, height, width))

    # Several inputs get a photo and those before it: given a clip's frames in order, its neighbours. They never get the
    # same picture, or nobody would notice that they are mixed up: of a lone photo every second is upside down.
    turn = -1 if len(images) == 1 else 1
    for index, name in enumerate(_names(images)):
        yield name, {port.name: _unit(photo(index - i)[:: turn**i]) for i, port in enumerate(ports)}
    for name, picture in extreme_pictures(photo(0)).items():
        yield name, {port.name: _unit(picture[:: (-1) ** i]) for i, port in enumerate(ports)}
    golden = {entry.tensor: entry for entry in _golden(bundle, (height, width), "input")}
    if set(golden) == {port.name for port in ports}:
        yield GOLDEN, {name: _unit(to_levels(read_photo(bundle.path(e)).rgb)) for name, e in golden.items()}


def _names(images: Sequence[Path]) -> list[str]:
    """What the photos are called: by their file names, where these tell them apart."""
    names = [path.name for path in images]
    return names if len(set(names)) == len(names) else [str(path) for path in images]


def _unit(levels: Levels) -> Picture:
    return np.ascontiguousarray(levels, np.float32) / np.float32(255)


def _golden(bundle: Bundle, size: Size, role: str) -> list[GoldenFile]:
    """The undamaged golden files of one size of the graph and role; an output may be smaller than the graph's input."""
    return [
        entry
        for entry in bundle.contract.golden
        if entry.role == role
        and entry.file.startswith(f"golden/{size[1]}x{size[0]}_")
        and integrity_fault(bundle.folder, entry) is None
    ]


def _refuse_other_model(
    bundle: Bundle, deployables: Mapping[Size, Deployable], checkpoint: Path | None
) -> None:
    """UserError where files are missing, or the deployables can't be what the bundle was converted from."""
    contract = bundle.contract
    entries: list[Artifact | GoldenFile] = [*contract.artifacts, *contract.golden]
    for entry in entries:
        if not bundle.path(entry).exists():
            raise UserError(f"{bundle.path(entry)}: is missing, model.json lists it; convert again")
    recorded = contract.provenance["checkpoint_sha256"]
    if checkpoint is not None and (own := digest(checkpoint)[0]) != recorded:
        raise UserError(
            f"{checkpoint}: its sha256 is {own}, the bundle was converted from {recorded}; give that checkpoint"
        )
    for artifact in contract.artifacts:
        deployable = deployables.get(_size(artifact))
        if deployable is None:
            sizes = ", ".join(f"{width}x{height}" for height, width in deployables)
            raise UserError(f"{artifact.file}: no reference of its size, got {sizes or 'none'}")
        for specs, ports in ((artifact.inputs, deployable.inputs), (artifact.outputs, deployable.outputs)):
            promised, own_names = sorted(s.name for s in specs), sorted(p.name for p in ports)
            if deployable.task != contract.task or promised != own_names:
                raise UserError(
                    f"{artifact.file}: is of task {contract.task!r} with {', '.join(promised)}, "
                    f"the reference is of {deployable.task!r} with {', '.join(own_names)}"
                )


def _open(
    bundle: Bundle, artifact: Artifact, deployables: Mapping[Size, Deployable], threads: int
) -> Subject:
    """Opens an artifact, if its bytes are the ones that were converted: no others are worth running."""
    path = bundle.path(artifact)
    fault = integrity_fault(bundle.folder, artifact)
    if fault is not None:
        return Subject(artifact, None, [fault.removeprefix(f"{path}: ")])
    try:
        model = open_model(artifact, path, threads)
    except UserError as error:
        return Subject(artifact, None, [str(error).removeprefix(f"{path}: ")])
    faults = port_faults(model, artifact) + _range_faults(artifact, deployables[_size(artifact)])
    return Subject(artifact, None if faults else model, faults)


def _compression_faults(bundle: Bundle, subject: Subject) -> list[str]:
    """What a compressed package changed beside its weights, if the package that it was made of is there, undamaged.

    One wrong weight of a million is seen here, where no picture would show it.
    """
    artifact = subject.artifact
    if subject.model is None or artifact.format != "coreml" or artifact.variant not in COMPRESSED_VARIANTS:
        return []
    for other in bundle.contract.artifacts:
        whole = other.format == "coreml" and other.variant == "float16" and _size(other) == _size(artifact)
        if whole and integrity_fault(bundle.folder, other) is None:
            return compression_faults(bundle.path(other), bundle.path(artifact), artifact.variant)
    return []


def _range_faults(artifact: Artifact, deployable: Deployable) -> list[str]:
    """Ranges that the contract promises and the graph does not have."""
    ranges = {port.name: port.range for port in (*deployable.inputs, *deployable.outputs)}
    faults = []
    for spec in (*artifact.inputs, *artifact.outputs):
        actual = (0.0, 255.0) if spec.dtype == "uint8" else ranges[spec.name]
        if spec.range != actual:
            faults.append(f"the contract says that {spec.name!r} is in {spec.range}, it is in {actual}")
    return faults


def _test(
    subject: Subject,
    deployable: Deployable,
    name: str,
    inputs: Pictures,
    expected: Pictures,
    stored: Pictures,
) -> None:
    """Runs an artifact on one picture and adds what was found, unless it could not be opened."""
    variant = subject.artifact.variant
    limits = gate(subject.artifact.format, variant)
    outputs = in_float32 = _run(subject, name, inputs)
    # LiteRT widens float16 weights and computes in float32 anyway.
    if isinstance(subject.model, CoremlModel) and variant == "float16":
        in_float32 = _run(subject, name, inputs, round_storage=False)
    if outputs is None or in_float32 is None:
        return
    for port in deployable.outputs:
        pair = (in_float32[port.name], stored[port.name]) if variant == "float16" else None
        subject.rows.append(check_output(limits, port, name, outputs[port.name], expected[port.name], pair))


def _reference_faults(deployable: Deployable, name: str, expected: Pictures) -> list[str]:
    """What is wrong with PyTorch's own results: nothing can be proved against them then."""
    faults = []
    for port in deployable.outputs:
        low, high = port.range
        slack = RANGE_SLACK * (high - low)
        lowest, highest = float(expected[port.name].min()), float(expected[port.name].max())
        if not (low - slack <= lowest and highest <= high + slack):  # NaN too
            faults.append(
                f"PyTorch: output {port.name!r}, image {name}: values in [{lowest:g}, {highest:g}], "
                f"declared is [{low:g}, {high:g}]"
            )
    return faults


def _golden_faults(bundle: Bundle, deployable: Deployable, expected: Pictures) -> list[str]:
    """Golden outputs that PyTorch does not reproduce from the golden input."""
    faults = []
    height, width = deployable.inputs[0].shape[2:]
    ranges = {port.name: port.range for port in deployable.outputs}
    for entry in _golden(bundle, (height, width), "output"):
        want = expected.get(entry.tensor)
        if want is None:
            faults.append(f"{entry.file}: the graph has no output {entry.tensor!r}")
        elif entry.encoding == "float32":
            low, high = ranges[entry.tensor]
            stored = np.fromfile(bundle.path(entry), "<f4")
            error = (
                np.abs(stored.reshape(want.shape) - want).max() / (high - low)
                if stored.size == want.size
                else np.inf
            )
            assert EXACT.max_error is not None
            if not error <= EXACT.max_error:
                faults.append(
                    f"{entry.file}: PyTorch differs by {error:.3g}, at most {EXACT.max_error:g} is allowed"
                )
        else:
            levels = to_levels(read_photo(bundle.path(entry)).rgb).astype(np.int16)
            off = int(np.abs(levels - to_levels(want)).max()) if levels.shape == want.shape else 255
            if off > EXACT.max_levels:
                faults.append(
                    f"{entry.file}: PyTorch differs by {off} levels of 255, at most {EXACT.max_levels} is allowed"
                )
    return faults


def _conclude(
    bundle: Bundle,
    photos: Sequence[Mapping[str, str]],
    subjects: Sequence[Subject],
    faults: Sequence[str],
    budgets: Mapping[str, float],
    examples: Mapping[Size, Sequence[Example]],
) -> dict[str, Any]:
    """Writes proof.json and the summary in model.json -> the proof; GateFailed where anything is wrong."""
    failures = [line for subject in subjects for line in subject.failures()] + list(faults)
    contract = bundle.contract
    document: dict[str, Any] = {
        "schema_version": 1,
        "task": contract.task,
        "version": contract.version,
        "passed": not failures,
        "failures": failures,
        "checkpoint_sha256": contract.provenance["checkpoint_sha256"],
        "gates": {
            "max_error": {v.name: v.gate.max_error for v in VARIANTS if v.gate.max_error is not None},
            "max_stored_error": {
                v.name: v.gate.max_stored_error for v in VARIANTS if v.gate.max_stored_error is not None
            },
            "min_psnr_db": {v.name: v.gate.min_psnr for v in VARIANTS if v.gate.min_psnr is not None},
            "max_levels": EXACT.max_levels,
            "range_slack": RANGE_SLACK,
        },
        "photos": list(photos),
        "images": list(dict.fromkeys(row.image for subject in subjects for row in subject.rows)),
        "quality": {
            "pairs": sorted({example.name for chosen in examples.values() for example in chosen}),
            "budgets": dict(budgets),
        },
        "golden_files": len(contract.golden),
        "tools": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{tool: importlib.metadata.version(tool) for tool in ("torch", "numpy", "ai-edge-litert")},
        },
        "artifacts": [_summary(bundle, subject) for subject in subjects],
    }
    with atomic_path(bundle.folder / PROOF_FILE) as temporary:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", "utf-8")
    results = tuple(
        ProofResult(s.artifact.file, not s.failures(), _max_error(s), _min_psnr(s))
        for s in subjects
        if s.rows
    )
    write_contract(bundle.folder, replace(contract, proof=Proof(not failures, len(photos), results)))
    if failures:
        more = (
            f" (and {len(failures) - 1} more, see {bundle.folder / PROOF_FILE})" if len(failures) > 1 else ""
        )
        raise GateFailed(failures[0] + more)
    return document


def _summary(bundle: Bundle, subject: Subject) -> dict[str, Any]:
    artifact = subject.artifact
    sha256, size = digest(bundle.path(artifact))
    return {
        "file": artifact.file,
        "format": artifact.format,
        "variant": artifact.variant,
        "width": artifact.width,
        "height": artifact.height,
        "sha256": sha256,
        "bytes": size,
        "runtime": subject.model.runtime if subject.model is not None else None,
        "passed": not subject.failures(),
        "faults": subject.faults,
        "max_error": _max_error(subject) if subject.rows else None,
        "psnr": _min_psnr(subject) if subject.rows else None,
        "provenance": MEASURED if artifact.format == "tflite" else EXECUTED,
        "quality": subject.quality,
        "rows": [asdict(row) for row in subject.rows],
    }


def _size(artifact: Artifact) -> Size:
    return artifact.height, artifact.width


def _max_error(subject: Subject) -> float:
    return max(row.max_error for row in subject.rows)


def _min_psnr(subject: Subject) -> float:
    return min(row.psnr for row in subject.rows)
