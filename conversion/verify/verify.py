"""The proof that a bundle computes what the trained network computes: every artifact against PyTorch, on real photos.

    proof = verify(Path("build/bundle"), {(256, 256): deployable}, [Path("room.jpg")])

PyTorch runs in float32; TFLite files run in the LiteRT interpreter, Core ML packages, as saved, in our own executor.
All get the same 8-bit pictures (`test_images.py`) and are checked against the gate of their variant (`gates.py`) and, by
what they lose against ground truth, against its budget (`quality.py`). docs/proof.md says what a pass proves and what not.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    GoldenFile,
    ProofResult,
    ProofSummary,
    digest,
    integrity_fault,
    read_bundle,
    write_contract,
)
from afterlens.conversion.bundle.layout import Value, first_image, tensor_spec
from afterlens.conversion.bundle.network import compute, with_float16_weights
from afterlens.conversion.bundle.proof import (
    EXECUTED,
    MEASURED,
    PROOF_FILE,
    Gates,
    GroundTruth,
    OutputRow,
    Photo,
    Proof,
    ProvenArtifact,
    Quality,
    write_proof,
)
from afterlens.conversion.bundle.runtimes import CoremlModel, Model, open_model, port_faults
from afterlens.conversion.bundle.variants import RANGE_SLACK, VARIANTS, find, gate
from afterlens.conversion.coreml.check import compression_faults
from afterlens.conversion.examples import Example
from afterlens.conversion.verify.gates import check_output
from afterlens.conversion.verify.golden import GOLDEN, golden_faults
from afterlens.conversion.verify.quality import (
    evaluate_quality,
    measure,
    over_budget,
    with_heatmap,
    write_heatmap,
)
from afterlens.conversion.verify.test_images import Inputs, names, pictures
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.progress import progress_bar

HEATMAPS = "heatmaps"

Size = tuple[int, int]  # height, width
Values = Mapping[str, Value]  # by output name, laid out as in `afterlens.conversion.bundle.layout`


@dataclass
class Subject:
    """An artifact under test and what was found."""

    artifact: Artifact
    model: Model | None  # None: not opened
    faults: list[str]
    rows: list[OutputRow] = field(default_factory=list)
    quality: Quality | None = None  # None: not evaluated

    def failures(self) -> list[str]:
        """All that is wrong with it, one line each, the worst picture first."""
        lines = [*self.faults]
        if self.quality is not None and (fault := over_budget(self.quality)) is not None:
            lines.append(fault)
        for row in sorted(self.rows, key=lambda row: -row.max_error):
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
) -> Proof:
    """Prove the bundle in `folder`; what was found goes to its `proof.json` and, in short, to its `model.json`.

    Args:
        folder: a bundle of `convert`.
        deployables: what the artifacts should compute, by (height, width), built from the bundle's checkpoint.
        images: real photos, at least one. They are cropped and scaled to each artifact's size.
        checkpoint: the file that the deployables were built from; its sha256 must be the bundle's.
        examples: by (height, width), pictures with ground truth, on which every artifact's first image output is
            evaluated. None of them should have been calibrated on.
        budgets: by variant name, the dB that the mean over the examples may lose to PyTorch.
        threads: for the LiteRT interpreter.

    Raises:
        GateFailed: where an artifact or golden file is damaged or wrong, after proof.json is written. The message
            names the file, the output, the image, and the value that is furthest off.
        UserError: without photos, for a folder that is not a whole bundle, and for deployables of another model.
    """
    if not images:
        raise UserError("no photos to verify with, expected at least one")
    # Before the work: a photo that is renamed during it must not end it.
    photos = [Photo(name, digest(path)[0]) for name, path in zip(names(images), images, strict=True)]
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
            for name, inputs in pictures(bundle, images, deployable):
                progress.update(bar, description=f"verify {size[1]}x{size[0]} on {name}")
                expected, stored = compute(deployable, inputs), compute(rounded, inputs)
                faults += _reference_faults(deployable, name, expected)
                if name == GOLDEN:
                    faults += golden_faults(bundle, deployable, expected)
                test = partial(
                    _test, deployable=deployable, name=name, inputs=inputs, expected=expected, stored=stored
                )
                _at_once(test, own)
                progress.advance(bar)
            known = [example for example in (examples or {}).get(size, ()) if example.truth is not None]
            for example in known:
                progress.update(bar, description=f"verify {size[1]}x{size[0]} on {example.name}")
            _evaluate(bundle.folder, deployable, known, own, budgets or {})
    return _conclude(bundle, photos, subjects, faults, budgets or {}, examples or {})


# --- one artifact ---------------------------------------------------------------------------------------------


def _open(
    bundle: Bundle, artifact: Artifact, deployables: Mapping[Size, Deployable], threads: int
) -> Subject:
    """Open an artifact, if its bytes are the ones that were converted: no others are worth running."""
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


def _range_faults(artifact: Artifact, deployable: Deployable) -> list[str]:
    """Ranges and kinds that the contract promises and the graph does not have."""
    ports = {port.name: port for port in (*deployable.inputs, *deployable.outputs)}
    faults = []
    for spec in (*artifact.inputs, *artifact.outputs):
        actual = tensor_spec(ports[spec.name], artifact.format)
        if spec.range != actual.range:
            faults.append(f"the contract says that {spec.name!r} is in {spec.range}, it is in {actual.range}")
        if spec.kind != actual.kind:
            faults.append(f"the contract says that {spec.name!r} is of kind {spec.kind}, it is {actual.kind}")
    return faults


def _compression_faults(bundle: Bundle, subject: Subject) -> list[str]:
    """What a compressed package changed besides its weights, if the package that it was made of is there, undamaged.

    One wrong weight of a million is seen here, where no picture would show it.
    """
    artifact = subject.artifact
    variant = find(artifact.format, artifact.variant)
    if subject.model is None or artifact.format != "coreml" or variant is None or variant.is_float:
        return []
    for other in bundle.contract.artifacts:
        whole = other.format == "coreml" and other.variant == "float16" and _size(other) == _size(artifact)
        if whole and integrity_fault(bundle.folder, other) is None:
            return compression_faults(bundle.path(other), bundle.path(artifact), artifact.variant)
    return []


def _test(
    subject: Subject, deployable: Deployable, name: str, inputs: Inputs, expected: Values, stored: Values
) -> None:
    """Run an artifact on one picture and add what was found, unless it could not be opened."""
    artifact = subject.artifact
    outputs = in_float32 = _run(subject, name, inputs)
    # LiteRT widens float16 weights and computes in float32 anyway.
    if isinstance(subject.model, CoremlModel) and artifact.variant == "float16":
        in_float32 = _run(subject, name, inputs, round_storage=False)
    if outputs is None or in_float32 is None:
        return
    limits = gate(artifact.format, artifact.variant)
    for port in deployable.outputs:
        pair = (in_float32[port.name], stored[port.name]) if artifact.variant == "float16" else None
        subject.rows.append(check_output(limits, port, name, outputs[port.name], expected[port.name], pair))


def _run(subject: Subject, name: str, inputs: Inputs, round_storage: bool = True) -> dict[str, Value] | None:
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


def _evaluate(
    folder: Path,
    deployable: Deployable,
    examples: Sequence[Example],
    subjects: Sequence[Subject],
    budgets: Mapping[str, float],
) -> None:
    """Evaluate the subjects' pictures against ground truth, and draw where the worst of each differs from PyTorch."""
    output, source = first_image(deployable.outputs), first_image(deployable.inputs)
    if output is None or source is None or not examples:
        return
    port, given = output.name, source.name
    references = [compute(deployable, example.inputs)[port] for example in examples]

    def evaluate_one(subject: Subject) -> None:
        if subject.model is None:
            return
        rows, made = [], {}
        for example, reference in zip(examples, references, strict=True):
            outputs = _run(subject, example.name, example.inputs)
            if outputs is None or example.truth is None:
                return
            made[example.name] = (outputs[port], reference)
            rows.append(measure(example.name, outputs[port], reference, example.inputs[given], example.truth))
        quality = evaluate_quality(rows, budgets.get(subject.artifact.variant))
        name = f"{HEATMAPS}/{subject.artifact.file}.png"
        (folder / HEATMAPS).mkdir(exist_ok=True)
        write_heatmap(folder / name, *made[quality.worst.image])
        subject.quality = with_heatmap(quality, name)

    _at_once(evaluate_one, subjects)


def _at_once(work: Callable[[Subject], None], subjects: Sequence[Subject]) -> None:
    """Do the work for each artifact, side by side: the runtimes compute outside Python's lock."""
    # More than four pictures of 50 layers each at once would fill a small machine's memory.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, subjects):
            pass


# --- the bundle as a whole ------------------------------------------------------------------------------------


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
        gate(artifact.format, artifact.variant)  # refuses combinations that do not exist
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


def _reference_faults(deployable: Deployable, name: str, expected: Values) -> list[str]:
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


def _conclude(
    bundle: Bundle,
    photos: Sequence[Photo],
    subjects: Sequence[Subject],
    faults: Sequence[str],
    budgets: Mapping[str, float],
    examples: Mapping[Size, Sequence[Example]],
) -> Proof:
    """Write proof.json and the summary in model.json -> the proof; GateFailed where anything is wrong."""
    failures = [line for subject in subjects for line in subject.failures()] + list(faults)
    contract = bundle.contract
    gates = {variant.name: variant.gate for variant in VARIANTS}
    proof = Proof(
        task=contract.task,
        version=contract.version,
        passed=not failures,
        failures=tuple(failures),
        checkpoint_sha256=contract.provenance["checkpoint_sha256"],
        gates=Gates(
            max_error={name: g.max_error for name, g in gates.items() if g.max_error is not None},
            max_stored_error={
                name: g.max_stored_error for name, g in gates.items() if g.max_stored_error is not None
            },
            min_psnr={name: g.min_psnr for name, g in gates.items() if g.min_psnr is not None},
            max_levels={name: g.max_levels for name, g in gates.items() if g.max_levels < 255},
            range_slack=RANGE_SLACK,
        ),
        photos=tuple(photos),
        images=tuple(dict.fromkeys(row.image for subject in subjects for row in subject.rows)),
        ground_truth=GroundTruth(
            pairs=tuple(sorted({example.name for chosen in examples.values() for example in chosen})),
            budgets=dict(budgets),
        ),
        golden_files=len(contract.golden),
        tools={
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{tool: importlib.metadata.version(tool) for tool in ("torch", "numpy", "ai-edge-litert")},
        },
        artifacts=tuple(_proven(bundle, subject) for subject in subjects),
    )
    write_proof(bundle.folder / PROOF_FILE, proof)
    results = tuple(
        ProofResult(found.file, found.passed, found.max_error, found.psnr)
        for found in proof.artifacts
        if found.max_error is not None and found.psnr is not None
    )
    summary = ProofSummary(proof.passed, len(photos), results)
    write_contract(bundle.folder, replace(contract, proof=summary))
    if failures:
        more = (
            f" (and {len(failures) - 1} more, see {bundle.folder / PROOF_FILE})" if len(failures) > 1 else ""
        )
        raise GateFailed(failures[0] + more)
    return proof


def _proven(bundle: Bundle, subject: Subject) -> ProvenArtifact:
    artifact = subject.artifact
    sha256, size = digest(bundle.path(artifact))
    return ProvenArtifact(
        file=artifact.file,
        format=artifact.format,
        variant=artifact.variant,
        width=artifact.width,
        height=artifact.height,
        sha256=sha256,
        bytes=max(1, size),
        runtime=subject.model.runtime if subject.model is not None else None,
        passed=not subject.failures(),
        faults=tuple(subject.faults),
        max_error=max((row.max_error for row in subject.rows), default=None),
        psnr=min((row.psnr for row in subject.rows), default=None),
        provenance=MEASURED if artifact.format == "tflite" else EXECUTED,
        quality=subject.quality,
        rows=tuple(subject.rows),
    )


def _size(artifact: Artifact) -> Size:
    return artifact.height, artifact.width
