"""The float files that smaller ones were made of: their weights, and their graph where the bundle does not hold it.

    originals = convert_originals(bundle, deployables, scratch)       # (height, width) -> its Subject

A compressed package is compared with a float16 package: that proves the compression, not the graph. So the graph must
be proved itself. Where the bundle holds no float16 package of a size, it is converted again for the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from afterlens.conversion.bundle.contract import Artifact, Bundle, digest, integrity_fault
from afterlens.conversion.bundle.variants import find
from afterlens.conversion.coreml.check import compression_faults
from afterlens.conversion.coreml.convert import convert_coreml, minimum_coreml
from afterlens.conversion.tflite.check import quantization_faults
from afterlens.conversion.verify.subject import Size, Subject, open_subject, size_of
from afterlens.training.deployable import Deployable

_TOOLS = ("coremltools", "torch")


def convert_originals(
    bundle: Bundle, deployables: Mapping[Size, Deployable], folder: Path
) -> dict[Size, Subject]:
    """Float16 packages, written to `folder`, of the sizes that have compressed packages and no intact float16 one.

    Raises UserError where coremltools fails.
    """
    found: dict[Size, Subject] = {}
    for artifact in bundle.contract.artifacts:
        size = size_of(artifact)
        if not is_compressed(artifact) or size in found or _whole(bundle, size) is not None:
            continue
        name = f"{artifact.width}x{artifact.height}_float16.mlpackage"
        convert_coreml(deployables[size], folder / name)
        sha256, count = digest(folder / name)
        own = replace(
            artifact,
            file=name,
            variant="float16",
            sha256=sha256,
            bytes=count,
            minimum_runtime=minimum_coreml(folder / name),
        )
        found[size] = open_subject(Bundle(folder, bundle.contract), own, deployables, threads=1)
    return found


def is_compressed(artifact: Artifact) -> bool:
    """Whether the artifact is a Core ML package with compressed weights."""
    variant = find(artifact.format, artifact.variant)
    return artifact.format == "coreml" and variant is not None and not variant.is_float


def weight_faults(bundle: Bundle, subject: Subject, originals: Mapping[Size, Subject]) -> list[str]:
    """Weights that differ from those of the float file that a smaller one was made of by more than its form allows.

    One wrong weight of a million is seen here, where no picture would show it. Core ML packages are compared as a
    whole; quantized TFLite files only if the bundle holds the float32 file.
    """
    artifact = subject.artifact
    variant, size = find(artifact.format, artifact.variant), size_of(artifact)
    if subject.model is None or variant is None or variant.is_float:
        return []
    if artifact.format == "tflite":
        source = _whole(bundle, size, "tflite", "float32")
        return [] if source is None else quantization_faults(bundle.path(artifact), bundle.path(source))
    if (whole := _whole(bundle, size)) is not None:
        return compression_faults(bundle.path(whole), bundle.path(artifact), artifact.variant)
    if (original := originals[size]).model is None:
        return []  # its own faults say why
    faults = compression_faults(original.model.path, bundle.path(artifact), artifact.variant)
    return [f"{fault}{_other_tools(bundle)}" for fault in faults]


def original_faults(original: Subject) -> list[str]:
    """What is wrong with a float16 graph that is not in the bundle, as a fault of each package that was made of it."""
    prefix = f"{original.artifact.file}: "
    return [
        f"the float16 graph it was made of is wrong: {line.removeprefix(prefix)}"
        for line in original.failures()
    ]


def _whole(bundle: Bundle, size: Size, format_: str = "coreml", variant: str = "float16") -> Artifact | None:
    """The bundle's own float file of a size, if it is there undamaged."""
    for other in bundle.contract.artifacts:
        wanted = (other.format, other.variant, size_of(other)) == (format_, variant, size)
        if wanted and integrity_fault(bundle.folder, other) is None:
            return other
    return None


def _other_tools(bundle: Bundle) -> str:
    """A hint where the float16 package was converted again by other versions than the bundle."""
    recorded = bundle.contract.provenance["tools"]
    changed = [
        f"{tool} {recorded[tool]}" for tool in _TOOLS if recorded.get(tool, version(tool)) != version(tool)
    ]
    return f" (the bundle was converted with {', '.join(changed)}: convert again)" if changed else ""
