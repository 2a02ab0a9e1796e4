"""How much does `verify` see? Damages every artifact of a bundle in every way of `mutations` and says what it finds.

    python -m tests.conversion.tflite.sensitivity BUNDLE CHECKPOINT PHOTO...

Prints the tables of docs/proof.md, of the bundle's smallest size. Takes minutes, and is no test: how much a lost weight
matters depends on the weights.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from afterlens.conversion.bundle.contract import Artifact, Bundle, digest, read_bundle
from afterlens.conversion.bundle.reference import compute, with_float16_weights
from afterlens.conversion.verify.subject import Size, Subject, open_subject, test_picture
from afterlens.conversion.verify.test_images import Inputs as Pictures
from afterlens.conversion.verify.test_images import pictures as _pictures
from afterlens.training.deployable import Deployable
from afterlens.training.tasks import find_task
from afterlens.training.trained import load_network
from tests.conversion.verify import mutations

Case = tuple[str, Pictures, Pictures, Pictures]  # name, input, PyTorch, PyTorch with float16 weights


def main(folder: Path, checkpoint: Path, photos: list[Path]) -> None:
    bundle = read_bundle(folder)
    task = find_task(bundle.contract.task)
    size = min((a.height, a.width) for a in bundle.contract.artifacts)
    deployable = task.deployable(load_network(task, checkpoint)[0], *size)
    rounded = with_float16_weights(deployable)
    cases = [
        (name, inputs, compute(deployable, inputs), compute(rounded, inputs))
        for name, inputs in _pictures(bundle, photos, deployable)
    ]
    artifacts = [a for a in bundle.contract.artifacts if (a.height, a.width) == size]
    columns = [study(bundle, artifact, {size: deployable}, cases) for artifact in artifacts]
    print("| fault |", " | ".join(f"{a.variant} {a.format}" for a in artifacts), "|")
    print("|---" * (len(artifacts) + 1) + "|")
    for fault in dict.fromkeys(fault for column in columns for fault in column):
        print(f"| {fault} |", " | ".join(column.get(fault, "–") for column in columns), "|")


def study(
    bundle: Bundle, artifact: Artifact, deployables: dict[Size, Deployable], cases: Sequence[Case]
) -> dict[str, str]:
    """By fault, what `verify` says of it in short."""
    console = Console(stderr=True)
    with damaged(bundle, artifact, lambda path: None) as (copy, entry):
        assert check(copy, entry, deployables, cases).failures() == []
    said = {}
    own = mutations.COREML_ONLY if artifact.format == "coreml" else mutations.TFLITE_ONLY
    for mutation in (*mutations.EVERYWHERE, *own):
        with damaged(bundle, artifact, mutation) as (copy, entry):
            failures = check(copy, entry, deployables, cases).failures()
        console.print(failures[0] if failures else f"{mutation.__name__} MISSED", highlight=False)
        said[str(mutation.__doc__).splitlines()[0].removesuffix(".")] = in_short(failures)
    said["One weight tensor is lost, each in turn"] = lose_each(
        bundle, artifact, deployables, cases, whole=True
    )
    said["One channel of it is lost"] = lose_each(bundle, artifact, deployables, cases, whole=False)
    return said


def in_short(failures: list[str]) -> str:
    """The gate that a failure names, without file, image and place."""
    if not failures:
        return "**missed**"
    gate = re.search(r"image \S+: ([^,;]+)", failures[0])
    return gate.group(1) if gate else "not opened" if "cannot be loaded" in failures[0] else "refused"


def lose_each(
    bundle: Bundle,
    artifact: Artifact,
    deployables: dict[Size, Deployable],
    cases: Sequence[Case],
    whole: bool,
) -> str:
    """Sets each weight tensor in turn to zero, or its first output channel only, and counts what is caught."""

    def change(weight: NDArray[Any]) -> NDArray[Any]:
        weight = weight.copy()
        weight[slice(None) if whole else 0] = 0
        return weight

    lost, caught, plainly = 0, 0, 0
    console = Console(stderr=True)
    for name in track(mutations.weights(bundle.path(artifact)), artifact.file, console=console):

        def lose(path: Path, name: str = name) -> None:
            mutations.change_weight(path, name, change)

        try:
            with damaged(bundle, artifact, lose) as (copy, entry):
                subject = check(copy, entry, deployables, cases)
        except AssertionError:  # it was zero already
            continue
        lost += 1
        caught += bool(subject.failures())
        plainly += plainly_wrong(subject)
        if not subject.failures():
            worst = max(row.stored_error or row.max_error for row in subject.rows)
            console.print(f"missed: {name}, max error {worst:.1e}", highlight=False)
    return f"{caught} of {lost} ({plainly})"


@contextmanager
def damaged(
    bundle: Bundle, artifact: Artifact, mutation: mutations.Mutation
) -> Iterator[tuple[Bundle, Artifact]]:
    """A bundle with a damaged copy of one artifact, sealed as if the converter had made it so."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Bundle(Path(folder), bundle.contract)
        source, target = bundle.path(artifact), copy.path(artifact)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        mutation(target)
        sha256, size = digest(target)
        yield copy, replace(artifact, sha256=sha256, bytes=size)


def check(
    bundle: Bundle, artifact: Artifact, deployables: dict[Size, Deployable], cases: Sequence[Case]
) -> Subject:
    """What `verify` does with one artifact, up to the first picture that shows that it is wrong."""
    subject = open_subject(bundle, artifact, deployables, threads=1)
    for name, inputs, expected, stored in cases:
        test_picture(subject, deployables[artifact.height, artifact.width], name, inputs, expected, stored)
        if plainly_wrong(subject):
            break
    return subject


def plainly_wrong(subject: Subject) -> bool:
    """Whether any gate failed beside the one against PyTorch with the stored weights."""
    return any("against PyTorch with" not in failure for failure in subject.failures())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(photo) for photo in sys.argv[3:]])
