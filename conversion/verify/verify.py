"""The proof that a bundle computes what the trained network computes: every artifact against PyTorch, on real photos.

    proof = verify(Path("build/bundle"), {(256, 256): deployable}, [Path("room.jpg")])

PyTorch runs in float32; TFLite files run in the LiteRT interpreter, Core ML packages, as saved, in our own executor.
All get the same 8-bit pictures (`test_images.py`) and are checked against the gate of their variant (`gates.py`) and, by
what they lose against ground truth, against its budget (`quality.py`). docs/proof.md says what a pass proves and what not.
"""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from afterlens.conversion.bundle.contract import (
    Artifact,
    Bundle,
    GoldenFile,
    ProofResult,
    ProofSummary,
    add_proof,
    digest,
    integrity_fault,
    read_bundle,
)
from afterlens.conversion.bundle.proof import (
    PROOF_FILE,
    Gates,
    GroundTruth,
    Photo,
    Proof,
    write_proof,
)
from afterlens.conversion.bundle.reference import compute, with_float16_weights
from afterlens.conversion.bundle.variants import RANGE_SLACK, VARIANTS, gate
from afterlens.conversion.examples import Example
from afterlens.conversion.verify.golden import GOLDEN, golden_faults
from afterlens.conversion.verify.original import (
    convert_originals,
    is_compressed,
    original_faults,
    weight_faults,
)
from afterlens.conversion.verify.subject import (
    HEATMAPS,
    Size,
    Subject,
    Values,
    at_once,
    evaluate,
    open_subject,
    proven,
    size_of,
    test_picture,
)
from afterlens.conversion.verify.test_images import EXTREMES, names, pictures
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import GateFailed, UserError
from afterlens.training.media.progress import progress_bar
from afterlens.training.metrics import SSIM_WINDOW


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
    _refuse_tiny(examples or {})
    # Before the work: a photo that is renamed during it must not end it.
    photos = [Photo(name, digest(path)[0]) for name, path in zip(names(images), images, strict=True)]
    bundle = read_bundle(folder)
    _refuse_other_model(bundle, deployables, checkpoint)
    _refuse_link(folder / HEATMAPS)
    subjects = [
        open_subject(bundle, artifact, deployables, threads) for artifact in bundle.contract.artifacts
    ]
    faults = [
        fault.removeprefix(f"{folder}/")
        for golden in bundle.contract.golden
        if (fault := integrity_fault(folder, golden)) is not None
    ]
    with tempfile.TemporaryDirectory(prefix="afterlens-") as scratch:
        originals = convert_originals(bundle, deployables, Path(scratch))
        for subject in subjects:
            subject.faults += weight_faults(bundle, subject, originals)
        faults += _run_all(bundle, deployables, images, subjects, originals, examples or {}, budgets or {})
    for subject in subjects:
        original = originals.get(size_of(subject.artifact))
        if original is not None and is_compressed(subject.artifact):
            subject.faults += original_faults(original)
    return _conclude(bundle, photos, subjects, faults, budgets or {}, examples or {})


def _run_all(
    bundle: Bundle,
    deployables: Mapping[Size, Deployable],
    images: Sequence[Path],
    subjects: Sequence[Subject],
    originals: Mapping[Size, Subject],
    examples: Mapping[Size, Sequence[Example]],
    budgets: Mapping[str, float],
) -> list[str]:
    """Run every artifact on every picture; what was found goes to the subjects. Returns faults of the reference."""
    faults: list[str] = []
    sizes = sorted({size_of(artifact) for artifact in bundle.contract.artifacts})
    with progress_bar() as progress:
        bar = progress.add_task("verify", total=len(sizes) * (len(images) + len(EXTREMES) + 1))
        for size in sizes:
            deployable = deployables[size]
            rounded = with_float16_weights(deployable)
            own = [subject for subject in subjects if size_of(subject.artifact) == size]
            run = [*own, originals[size]] if size in originals else own
            for name, inputs in pictures(bundle, images, deployable):
                progress.update(bar, description=f"verify {size[1]}x{size[0]} on {name}")
                expected, stored = compute(deployable, inputs), compute(rounded, inputs)
                faults += _reference_faults(deployable, name, expected)
                if name == GOLDEN:
                    faults += golden_faults(bundle, deployable, expected)
                test = partial(
                    test_picture,
                    deployable=deployable,
                    name=name,
                    inputs=inputs,
                    expected=expected,
                    stored=stored,
                )
                at_once(test, run)
                progress.advance(bar)
            known = [example for example in examples.get(size, ()) if example.ground_truth is not None]
            for example in known:
                progress.update(bar, description=f"verify {size[1]}x{size[0]} on {example.name}")
            evaluate(bundle.folder, deployable, known, own, budgets)
    return faults


def _refuse_link(path: Path) -> None:
    """What is written into the bundle must stay in it."""
    if path.is_symlink():
        raise UserError(f"{path}: is a link; a bundle holds its own files only, remove it")


def _refuse_tiny(examples: Mapping[Size, Sequence[Example]]) -> None:
    """UserError for pictures with ground truth that SSIM's window does not fit into."""
    for height, width in (size for size, chosen in examples.items() if chosen):
        if min(height, width) < SSIM_WINDOW:
            raise UserError(
                f"{width}x{height}: pictures of less than {SSIM_WINDOW}x{SSIM_WINDOW} cannot be evaluated against ground "
                "truth; convert the network at a larger size"
            )


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
        deployable = deployables.get(size_of(artifact))
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
            max_flat_levels={name: g.max_flat_levels for name, g in gates.items() if g.max_flat_levels < 255},
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
        artifacts=tuple(proven(bundle, subject) for subject in subjects),
    )
    write_proof(bundle.folder / PROOF_FILE, proof)
    results = tuple(
        ProofResult(found.file, found.passed, found.max_error, found.psnr)
        for found in proof.artifacts
        if found.max_error is not None and found.psnr is not None
    )
    summary = ProofSummary(proof.passed, len(photos), results)
    add_proof(bundle, summary)
    if failures:
        more = (
            f" (and {len(failures) - 1} more, see {bundle.folder / PROOF_FILE})" if len(failures) > 1 else ""
        )
        raise GateFailed(failures[0] + more)
    return proof
