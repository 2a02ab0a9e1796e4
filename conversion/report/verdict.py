"""What passed and what failed, one line each: the digests of the files, the comparison with PyTorch, the pictures.

    verdict = verdict_of(bundle, proof_of(bundle))
    print(verdict.state, [line.text for line in verdict.lines])

A file passes if its proof does and if it still is the file that was proved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afterlens.conversion.bundle.contract import Artifact, Bundle, integrity_fault
from afterlens.conversion.bundle.proof import Proof, ProvenArtifact
from afterlens.conversion.bundle.variants import FORMATS, label
from afterlens.conversion.report.templates import FAIL, OPEN, PASS

FLOAT_VARIANTS = ("float32", "float16")
"""These compute what PyTorch computes but for rounding; all others are evaluated by their pictures."""


@dataclass(frozen=True)
class Line:
    """One check and its outcome."""

    state: str  # PASS, FAIL or OPEN
    text: str


@dataclass(frozen=True)
class Verdict:
    """The outcome for one bundle."""

    state: str  # PASS, FAIL or OPEN
    lines: tuple[Line, ...]
    changed: frozenset[str]  # files that are missing or differ from what was converted or proved
    passed: frozenset[str]  # files


def verdict_of(bundle: Bundle, proof: Proof | None) -> Verdict:
    """Check the files of a bundle against their digests, and sum up its proof; None: it was not verified."""
    artifacts = bundle.contract.artifacts
    proved = {} if proof is None else {entry.file: entry for entry in proof.artifacts}
    changed = frozenset(
        artifact.file
        for artifact in artifacts
        if integrity_fault(bundle.folder, artifact) or _is_other(artifact, proved.get(artifact.file))
    )
    lines = [_files(bundle, changed, "conversion" if proof is None else "proof")]
    if proof is None:
        lines.append(Line(OPEN, "No file was compared with PyTorch: run afterlens verify."))
        return Verdict(FAIL if changed else OPEN, tuple(lines), changed, frozenset())
    passed = frozenset(
        artifact.file
        for artifact in artifacts
        if artifact.file not in changed and _passed(proved.get(artifact.file))
    )
    exact = [artifact for artifact in artifacts if artifact.variant in FLOAT_VARIANTS]
    reduced = [artifact for artifact in artifacts if artifact.variant not in FLOAT_VARIANTS]
    if exact:
        lines.append(_group("float files match PyTorch", exact, passed))
    if reduced:
        lines.append(_group("compressed files stay within their limits", reduced, passed))
    lines += _most_lost(artifacts, proved)
    lines += [Line(FAIL, failure) for failure in proof.failures]
    sound = proof.passed and len(passed) == len(artifacts)
    return Verdict(PASS if sound else FAIL, tuple(lines), changed, passed)


def overall(verdicts: Sequence[Verdict]) -> Line:
    """All bundles in one line: failed if one failed, not verified if one was not verified."""
    states = [verdict.state for verdict in verdicts]
    state = next((state for state in (FAIL, OPEN) if state in states), PASS)
    words = {FAIL: "failed", OPEN: "not verified", PASS: "passed"}[state]
    if len(verdicts) == 1:
        return Line(state, f"This bundle {'was ' if state == OPEN else ''}{words}.")
    count = states.count(state)
    if count == len(states):
        return Line(state, f"All {count} bundles {'were ' if state == OPEN else ''}{words}.")
    were = "" if state != OPEN else "was " if count == 1 else "were "
    return Line(state, f"{count} of {len(states)} bundles {were}{words}.")


def _is_other(artifact: Artifact, entry: ProvenArtifact | None) -> bool:
    return entry is not None and entry.sha256 != artifact.sha256


def _passed(entry: ProvenArtifact | None) -> bool:
    """A file that was never run passes nothing, whatever its proof says."""
    if entry is None or entry.max_error is None:
        return False
    return entry.passed and (entry.quality is None or entry.quality.passed)


def _files(bundle: Bundle, changed: frozenset[str], since: str) -> Line:
    count = len(bundle.contract.artifacts)
    if not changed:
        return Line(PASS, f"{count} file{'' if count == 1 else 's'} unchanged since the {since}.")
    words = []
    there = {file: (bundle.folder / file).exists() for file in sorted(changed)}
    for what, kept in (("Changed", True), ("Deleted", False)):
        files = [file for file, found in there.items() if found == kept]
        words += [f"{what} since the {since}: {', '.join(files)}."] if files else []
    return Line(FAIL, " ".join(words))


def _group(outcome: str, artifacts: Sequence[Artifact], passed: frozenset[str]) -> Line:
    failed = [artifact for artifact in artifacts if artifact.file not in passed]
    count = f"{len(artifacts) - len(failed)} of {len(artifacts)} {outcome}"
    if not failed:
        return Line(PASS, f"{count}.")
    return Line(FAIL, f"{count}; not {', '.join(_name(artifact) for artifact in failed)}.")


def _most_lost(artifacts: Sequence[Artifact], proved: Mapping[str, ProvenArtifact]) -> list[Line]:
    """The file whose pictures lost most against ground truth; empty if none was compared with it."""
    losses = [
        (quality.drop, quality.passed, _name(artifact))
        for artifact in artifacts
        if (entry := proved.get(artifact.file)) is not None and (quality := entry.quality) is not None
    ]
    if not losses:
        return []
    drop, passed, name = max(losses)
    return [
        Line(PASS if passed else FAIL, f"Largest loss against ground truth: {drop + 0.0:.2f} dB ({name}).")
    ]


def _name(artifact: Artifact) -> str:
    return f"{FORMATS[artifact.format]} {label(artifact.format, artifact.variant)} {artifact.width}x{artifact.height}"
