"""What became better or worse between two conversions: quality, size, time, operators, inputs and outputs.

    result = compare(Path("build/base"), Path("build/new"), limits=Limits(max_slowdown=0.05))
    print(markdown(result))             # of afterlens.benchmarks.compare_text
    require(result)                     # GateFailed where something is worse than the limits allow

Each side is a bundle, a document of `afterlens bench`, or a proof.json; what both sides know is compared. Milliseconds
of two runs say nothing, as the machine may have been busy in one of them. So each time is taken as a multiple of the
matrix product of the same round, the interval of the quotient of both sides' medians comes from resampling the rounds,
and only an interval that lies wholly beyond the limit is a regression. Two runs on one phone under the same conditions
are compared in milliseconds. docs/compare.md says more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.benchmarks.compare_phones import Timed, phone_times
from afterlens.benchmarks.compare_sides import Key, Side, plain, read_side
from afterlens.benchmarks.compare_text import CONFIDENCE, NAMES, allowed, in_words
from afterlens.conversion.bundle.contract import TensorSpec
from afterlens.conversion.bundle.proof import ProvenArtifact
from afterlens.conversion.operator_counts import operator_counts
from afterlens.training.media.errors import GateFailed, UserError

MIN_ROUNDS = 8
"""Fewer rounds say too little of how much a median wavers."""

CEILING = 90.0
"""dB against PyTorch: above it, the difference is the rounding of float32."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Limits:
    """How much worse the new side may be. Shares are fractions: 0.1 is 10 %."""

    max_psnr_drop: float = 0.05  # dB against the ground truth, mean over the pictures
    max_ssim_drop: float = 0.002
    max_fidelity_drop: float = 3.0  # dB against PyTorch, worst picture
    max_size_growth: float = 0.01
    max_slowdown: float = 0.1
    allow_breaking: bool = False  # removed artifacts, changed inputs and outputs


@dataclass(frozen=True)
class Change:
    """One number on both sides."""

    measure: str  # "psnr", "ssim", "fidelity", "bytes", "time" or "sustained"
    base: float
    new: float
    change: float  # dB or SSIM: the difference; bytes and times: the growth, as a fraction
    low: float  # of the interval of `change`; where nothing wavers, `change` itself
    high: float
    limit: float  # how much worse it may be
    verdict: (
        str  # "worse", "unclear" (the interval holds the limit), "same" or "better" by more than the limit
    )
    over: str  # what it was measured on, or against
    provenance: str


@dataclass
class Comparison:
    """One artifact on both sides."""

    id: str
    changes: list[Change] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # gates that passed before
    ports: list[str] = field(default_factory=list)  # what changed of inputs and outputs
    operators: dict[str, tuple[int, int]] = field(default_factory=dict)  # counts that changed
    not_evaluated: list[str] = field(default_factory=list)


def compare(
    base: Path,
    new: Path,
    *,
    bench: tuple[Path, Path] | None = None,
    limits: Limits = Limits(),
) -> dict[str, Any]:
    """Compare two bundles, benchmark documents or proofs.

    Args:
        base, new: a bundle folder, or a JSON file of `afterlens bench` or `afterlens verify`.
        bench: documents of `afterlens bench` of both bundles.
        limits: how much worse the new side may be.

    Returns: base, new, limits, passed, regressions (text, the first one first), added, removed, notes, and artifacts
    (each with id, changes, failed, ports, operators, not_evaluated; see `Comparison` and `Change`).

    Raises UserError for what cannot be read, is damaged, or has nothing in common.
    """
    for name, value in asdict(limits).items():
        if not math.isfinite(value):
            raise UserError(f"{name.replace('_', ' ')}: got {value}, expected a number")
    old, young = (
        read_side(path, given) for path, given in zip((base, new), bench or (None, None), strict=True)
    )
    if old.task and young.task and old.task != young.task:
        raise UserError(f"{base} is of task {old.task!r}, {new} of {young.task!r}: expected the same one")
    shared = sorted(old.items.keys() & young.items.keys())
    if not shared:
        raise UserError(f"{base} and {new} have no artifact in common, by format, variant and size")
    found = [_compare(key, old, young, limits) for key in shared]
    removed = [str(key) for key in sorted(old.items.keys() - young.items.keys())]
    added = [str(key) for key in sorted(young.items.keys() - old.items.keys())]
    bundles = old.kind == young.kind == "bundle"
    regressions = [line for one in found for line in _regressions(one, limits)]
    if bundles and not limits.allow_breaking:  # documents may be of a part of the artifacts
        regressions += [f"{name}: was removed" for name in removed]
    return {
        "base": {"name": old.name, "kind": old.kind},
        "new": {"name": young.name, "kind": young.kind},
        "limits": asdict(limits),
        "passed": not regressions,
        "regressions": regressions,
        "added": added,
        "removed": removed,
        "notes": _notes(old, young),
        "artifacts": [asdict(one) for one in found],
    }


def require(result: Mapping[str, Any]) -> None:
    """Raise GateFailed, naming the first regression, where there is one."""
    if regressions := result["regressions"]:
        more = f" (and {len(regressions) - 1} more)" if len(regressions) > 1 else ""
        raise GateFailed(regressions[0] + more)


def share(text: str) -> float:
    """'10%' -> 0.1. Raises UserError for anything but a percentage."""
    try:
        number = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        number = math.nan
    if not text.strip().endswith("%") or not math.isfinite(number):
        raise UserError(f"{text!r}: expected a percentage, for example 10%")
    return number


# --- comparing ------------------------------------------------------------------------------------------------


def _compare(key: Key, old: Side, young: Side, limits: Limits) -> Comparison:
    base, new = old.items[key], young.items[key]
    found = Comparison(str(key))
    if base.proven is not None and new.proven is not None:
        _compare_proofs(found, base.proven, new.proven, limits)
    if base.bytes is not None and new.bytes is not None:
        growth = new.bytes / base.bytes - 1
        change = _change("bytes", base.bytes, new.bytes, growth, (growth, growth), limits.max_size_growth)
        found.changes.append(Change(**change, over="the file", provenance="measured-host"))
    if base.timed is not None and new.timed is not None:
        assert old.benchmark is not None and young.benchmark is not None
        _compare_times(found, (old.benchmark, base.timed), (young.benchmark, new.timed), limits.max_slowdown)
    if base.path is not None and new.path is not None:
        before, after = (operator_counts(path).operators for path in (base.path, new.path))
        for name in sorted(before.keys() | after.keys()):
            if before.get(name, 0) != after.get(name, 0):
                found.operators[plain(name)] = (before.get(name, 0), after.get(name, 0))
    if base.ports is not None and new.ports is not None:
        found.ports += _port_changes(base.ports, new.ports)
    return found


def _change(
    measure: str, base: float, new: float, change: float, interval: tuple[float, float], limit: float
) -> dict[str, Any]:
    """The fields of a `Change` but for what it was measured on. More is better but for bytes and time."""
    costs = measure in ("bytes", "time", "sustained")
    best, worst = interval if costs else (-interval[1], -interval[0])  # how much worse it is
    slack = 1e-9  # 30.05 - 30.00 is a little more than 0.05
    verdict = "same"
    if best > limit + slack:
        verdict = "worse"
    elif worst > limit + slack:
        verdict = "unclear"
    elif worst < -max(limit, 0) - slack:
        verdict = "better"
    return {
        "measure": measure,
        "base": base,
        "new": new,
        "change": change,
        "low": interval[0],
        "high": interval[1],
        "limit": limit,
        "verdict": verdict,
    }


def _compare_proofs(found: Comparison, base: ProvenArtifact, new: ProvenArtifact, limits: Limits) -> None:
    if base.passed and not new.passed:
        found.failed.append("the proof against PyTorch")
    before, after = ({(row.image, row.output): row.psnr for row in side.rows} for side in (base, new))
    common = before.keys() & after.keys()
    if common:
        worst = [min(CEILING, *(side[one] for one in common)) for side in (before, after)]
        _evaluate(
            found, "fidelity", worst, limits.max_fidelity_drop, f"{len(common)} pictures", new.provenance
        )
    else:
        found.not_evaluated.append("numerics: no picture was run on both sides")
    if base.quality is None or new.quality is None:
        sides = [name for name, side in (("base", base), ("new", new)) if side.quality is None]
        if len(sides) == 1:
            found.not_evaluated.append(f"quality: the {sides[0]} side was not evaluated against ground truth")
        return
    if base.quality.passed and not new.quality.passed:
        found.failed.append("its quality budget")
    scores = [{row.image: row for row in side.rows} for side in (base.quality, new.quality)]
    images = sorted(scores[0].keys() & scores[1].keys())
    if not images:
        found.not_evaluated.append("quality: no picture was evaluated on both sides")
        return
    over = f"{len(images)} picture{'s' if len(images) > 1 else ''}"
    psnr = [float(np.mean([side[image].psnr for image in images])) for side in scores]
    _evaluate(found, "psnr", psnr, limits.max_psnr_drop, over, new.provenance)
    ssim = [float(np.mean([side[image].ssim for image in images])) for side in scores]
    _evaluate(found, "ssim", ssim, limits.max_ssim_drop, over, new.provenance)


def _evaluate(
    found: Comparison, measure: str, values: Sequence[float], limit: float, over: str, provenance: str
) -> None:
    base, new = values
    change = _change(measure, base, new, new - base, (new - base, new - base), limit)
    found.changes.append(Change(**change, over=over, provenance=provenance))


def _compare_times(found: Comparison, base: Timed, new: Timed, limit: float) -> None:
    """Times as multiples of a yardstick of the same rounds, on phones in milliseconds."""
    if any(document["provenance"] != "measured-host" for document, _ in (base, new)):
        _compare_phone_times(found, base, new, limit)
        return
    yardstick = _yardstick(base, new)
    if isinstance(yardstick, str):
        found.not_evaluated.append(f"time: {yardstick}")
        return
    name, *rulers = yardstick
    shares = [
        np.divide(result["timing"].get("samples_ms", ()), ruler)
        if len(result["timing"].get("samples_ms", ())) == len(ruler)
        else np.empty(0)
        for (_, result), ruler in zip((base, new), rulers, strict=True)
    ]
    if min(len(one) for one in shares) < MIN_ROUNDS:
        found.not_evaluated.append(
            f"time: fewer than {MIN_ROUNDS} rounds were recorded; run `afterlens bench` again"
        )
        return
    _evaluate_time(found, (shares[0], shares[1]), limit, name, "measured-host")


def _compare_phone_times(found: Comparison, base: Timed, new: Timed, limit: float) -> None:
    times = phone_times(base, new)
    if isinstance(times, str):
        found.not_evaluated.append(f"time: {times}")
        return
    if min(len(one) for one in times.runs) < MIN_ROUNDS:
        found.not_evaluated.append(f"time: fewer than {MIN_ROUNDS} runs were recorded; use more --runs")
    else:
        _evaluate_time(found, times.runs, limit, "ms", "measured-device")
    if times.sustained is not None:
        before, after = times.sustained
        growth = after / before - 1
        change = _change("sustained", before, after, growth, (growth, growth), limit)
        found.changes.append(Change(**change, over=f"minute {times.minutes}", provenance="measured-device"))
    if times.unknown is not None:
        found.not_evaluated.append(f"sustained time: {times.unknown}")


def _evaluate_time(
    found: Comparison,
    sides: tuple[NDArray[np.float64], NDArray[np.float64]],
    limit: float,
    over: str,
    provenance: str,
) -> None:
    before, after = (float(np.median(one)) for one in sides)
    change = _change("time", before, after, after / before - 1, slowdown_interval(*sides), limit)
    found.changes.append(Change(**change, over=over, provenance=provenance))


def slowdown_interval(base: NDArray[np.float64], new: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of `median(new) / median(base) - 1`, by resampling the rounds of each side.

    Both are times as multiples of their yardstick, one a round, or a phone's times. The same numbers always give the
    same interval.
    """
    rng = np.random.default_rng(0)
    medians = [
        np.median(side[rng.integers(0, len(side), (_RESAMPLES, len(side)))], axis=1) for side in (base, new)
    ]
    tail = (100 - CONFIDENCE) / 2
    low, high = np.percentile(medians[1] / medians[0] - 1, (tail, 100 - tail)).tolist()
    return low, high


def _yardstick(base: Timed, new: Timed) -> tuple[str, Sequence[float], Sequence[float]] | str:
    """What both times are measured against: its name and its times in each round of both sides; or why there is none.

    The matrix product, where both documents have its times. PyTorch, where it computed the same both times: a network
    that grew would slow it down as well.
    """
    documents, results = (base[0], new[0]), (base[1], new[1])
    if not all(document["conditions"]["interleaved"] for document in documents):
        return "the graphs did not take turns"
    cpus = [document["device"]["cpu"] for document in documents]
    if cpus[0] != cpus[1]:
        names = (plain(cpu or "not told") for cpu in cpus)
        return f"measured on other processors ({'; '.join(names)})"
    threads = [result["runtime"]["threads"] for result in results]
    if threads[0] != threads[1]:
        return f"{threads[0]} and {threads[1]} threads"
    machines = [document["machine"] or {} for document in documents]
    kinds = [tuple(machine.get(key) for key in ("matmul_size", "threads", "library")) for machine in machines]
    if all("samples_ms" in machine for machine in machines) and kinds[0] == kinds[1]:
        return "matrix product", machines[0]["samples_ms"], machines[1]["samples_ms"]
    eager = [_eager(document, result) for document, result in (base, new)]
    if eager[0] is None or eager[1] is None or _work(eager[0]) != _work(eager[1]):
        return "neither the matrix product nor the same network in PyTorch was timed in both"
    first, second = (one["timing"].get("samples_ms", ()) for one in eager if one is not None)
    return "PyTorch", first, second


def _eager(document: Mapping[str, Any], like: Mapping[str, Any]) -> Mapping[str, Any] | None:
    size = (like["artifact"]["width"], like["artifact"]["height"])
    for result in document["results"]:
        if result["runtime"]["name"] == "pytorch" and size == (
            result["artifact"]["width"],
            result["artifact"]["height"],
        ):
            return dict(result)
    return None


def _work(result: Mapping[str, Any]) -> tuple[object, ...]:
    return (result["runtime"]["version"], result["runtime"]["threads"], result["artifact"]["macs"])


def _port_changes(base: Sequence[tuple[str, TensorSpec]], new: Sequence[tuple[str, TensorSpec]]) -> list[str]:
    before, after = ({(role, port.name): port for role, port in ports} for ports in (base, new))
    lines = [f"{role} {name!r} was removed" for role, name in before.keys() - after.keys()]
    lines += [f"{role} {name!r} is new" for role, name in after.keys() - before.keys()]
    for role, name in before.keys() & after.keys():
        one, other = before[role, name], after[role, name]
        for key in ("kind", "shape", "layout", "dtype", "range", "colour_space"):  # the meaning is prose
            was, now = getattr(one, key), getattr(other, key)
            if was != now:
                lines.append(
                    plain(f"{role} {name!r}: {key.replace('_', ' ')} {_value(was)} -> {_value(now)}")
                )
    return sorted(lines)


def _value(value: Any) -> str:
    return f"[{', '.join(f'{part:g}' for part in value)}]" if isinstance(value, tuple) else str(value)


def _regressions(one: Comparison, limits: Limits) -> list[str]:
    lines = [
        f"{one.id}: {NAMES[change.measure]} {in_words(asdict(change))}, {allowed(asdict(change))}"
        for change in one.changes
        if change.verdict == "worse"
    ]
    lines += [f"{one.id}: {gate} passed before and fails now" for gate in one.failed]
    return lines if limits.allow_breaking else lines + [f"{one.id}: {line}" for line in one.ports]


def _notes(old: Side, young: Side) -> list[str]:
    """What could have been compared, and why it was not."""
    notes = []
    for name, side in (("base", old), ("new", young)):
        if side.kind == "bundle" and side.proof is None:
            notes.append(f"The {name} bundle was not verified: quality and numerics are not compared.")
    if old.kind == young.kind == "bundle" and (old.benchmark is None or young.benchmark is None):
        notes.append("No times are compared: give --bench with both bundles' documents.")
    if not {"bundle", "benchmark"} & {old.kind, young.kind}:
        notes.append("Proofs hold no times.")
    return notes
