"""One artifact under test: opened, run on pictures, and what was found.

subject = open_subject(bundle, artifact, deployables, threads=1)
test_picture(subject, deployable, "room.jpg", inputs, expected, expected_with_float16_weights)
print(subject.failures() or "as PyTorch")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from afterlens.conversion.bundle.contract import Artifact, Bundle, digest, integrity_fault
from afterlens.conversion.bundle.layout import Value, first_image, tensor_spec
from afterlens.conversion.bundle.proof import EXECUTED, MEASURED, OutputRow, ProvenArtifact, Quality
from afterlens.conversion.bundle.reference import compute
from afterlens.conversion.bundle.runtimes import CoremlModel, Model, open_model, port_faults
from afterlens.conversion.bundle.variants import gate
from afterlens.conversion.examples import Example
from afterlens.conversion.verify.gates import check_output
from afterlens.conversion.verify.quality import (
    evaluate_quality,
    measure,
    over_budget,
    with_heatmap,
    write_heatmap,
)
from afterlens.conversion.verify.test_images import Inputs
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

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


def open_subject(
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
    faults = port_faults(model, artifact) + _range_faults(artifact, deployables[size_of(artifact)])
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


def test_picture(
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


def evaluate(
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
            if outputs is None or example.ground_truth is None:
                return
            made[example.name] = (outputs[port], reference)
            rows.append(
                measure(example.name, outputs[port], reference, example.inputs[given], example.ground_truth)
            )
        quality = evaluate_quality(rows, budgets.get(subject.artifact.variant))
        name = f"{HEATMAPS}/{subject.artifact.file}.png"
        (folder / HEATMAPS).mkdir(exist_ok=True)
        write_heatmap(folder / name, *made[quality.worst.image])
        subject.quality = with_heatmap(quality, name)

    at_once(evaluate_one, subjects)


def at_once(work: Callable[[Subject], None], subjects: Sequence[Subject]) -> None:
    """Do the work for each artifact, side by side: the runtimes compute outside Python's lock."""
    # More than four pictures of 50 layers each at once would fill a small machine's memory.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, subjects):
            pass


def proven(bundle: Bundle, subject: Subject) -> ProvenArtifact:
    """What proof.json says of it."""
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


def size_of(artifact: Artifact) -> Size:
    """By which the reference of an artifact is found."""
    return artifact.height, artifact.width
