"""The part of a report on time: what a benchmark document says, and where the time of each file goes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from afterlens.conversion.bundle.labels import RUNTIMES, megabytes, threads
from afterlens.conversion.bundle.variants import label
from afterlens.conversion.report.phones import device, minute_rows, phone_lines
from afterlens.conversion.report.templates import Table

MAX_OPERATORS = 8  # types, and single operators, of a file


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart; `share`: of the longest bar, in percent. Our own files are drawn stronger."""

    name: str
    share: float
    value: str
    own: bool = True


@dataclass(frozen=True)
class Operators:
    """Where the time of one file goes: by type of operator, and the most expensive single operators."""

    summary: str
    note: str
    bars: Sequence[Bar]
    table: Table


@dataclass(frozen=True)
class Times:
    """The results of one bundle in one benchmark document."""

    title: str  # where they were measured
    note: str
    phone: Sequence[str]  # conditions, self-test, live path, sustained run
    minutes: Sequence[Table]  # of each sustained run
    charts: Sequence[tuple[str, Sequence[Bar]]]  # size, medians
    table: Table
    operators: Sequence[Operators]


def times_of(task: str, document: Mapping[str, Any]) -> Times:
    """The results of one task in a benchmark document: medians, percentiles, and operators if they were timed."""
    results = [r for r in document["results"] if r["artifact"]["task"] == task]
    ratios = {ratio["result"]: ratio for ratio in document["ratios"]}
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        groups[f"{result['artifact']['width']}x{result['artifact']['height']}"].append(result)
    columns = (
        *("graph", "p50 ms>", "p90>", "p99>", "ratio (p10–p90)>", "init ms>", "peak RSS>", "GFLOP/s>"),
        "of matmul>",
    )
    return Times(
        "this host" if document["provenance"] == "measured-host" else device(document),
        _note(document, results),
        phone_lines({**document, "results": results}),
        [
            Table(
                ("minute>", "median ms>", "thermal state", "battery>"),
                minute_rows(result),
                f"{result['id']}, minute by minute",
            )
            for result in results
            if minute_rows(result)
        ],
        [(size, _medians(group, ratios)) for size, group in groups.items()],
        Table(columns, [_row(result, ratios.get(result["id"])) for result in results]),
        [_operators(result) for result in results if "operators" in result],
    )


def milliseconds_of(
    documents: Sequence[Mapping[str, Any]], files: Mapping[str, str]
) -> dict[str, tuple[float, str]]:
    """Median time and runtime by file, from the first benchmark of a host: times of two runs do not compare.

    Args:
        files: names by sha256.
    """
    for document in documents:
        if document["provenance"] == "measured-host":
            return {
                files[result["artifact"]["sha256"]]: (
                    result["timing"]["p50_ms"],
                    RUNTIMES[result["runtime"]["name"]],
                )
                for result in document["results"]
                if result["artifact"]["sha256"] in files
            }
    return {}


def phone_milliseconds_of(
    documents: Sequence[Mapping[str, Any]], files: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Median time by file, for each phone and what computed on it: {"Example Phone GPU": {"udc.tflite": 8.5}}.

    Args:
        files: names by sha256.
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for document in documents:
        if document["provenance"] == "measured-host":
            continue
        for result in document["results"]:
            file = files.get(result["artifact"]["sha256"])
            if file is not None:
                unit = result["runtime"]["compute_unit"].upper()
                found[f"{document['device']['name']} {unit}"][file] = result["timing"]["p50_ms"]
    return dict(found)


def quickest(document: Mapping[str, Any], task: str) -> tuple[str, str] | None:
    """The shortest median of a bundle's own files, and what ran: ("32 ms", "TFLite int8 at 256x256 on this host")."""
    own = [
        result
        for result in document["results"]
        if result["artifact"]["file"] is not None and result["artifact"]["task"] == task
    ]
    if not own:
        return None
    best = min(own, key=lambda result: result["timing"]["p50_ms"])
    where = (
        "on this host" if document["provenance"] == "measured-host" else f"on {document['device']['name']}"
    )
    size = f"{best['artifact']['width']}x{best['artifact']['height']}"
    words = f"{RUNTIMES[best['runtime']['name']]} {_variant(best)} at {size} {where}, {threads(best)}"
    return f"{best['timing']['p50_ms']:.0f} ms", words


def _note(document: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    found, machine = document["device"], document["machine"]
    if document["provenance"] == "measured-host":
        note = f"measured-host, not phone latency: {device(document)}, {found['cores']} cores, {found['os']}."
    else:
        note = f"{document['provenance']}: {device(document)}."
    if document["conditions"]["interleaved"]:
        note += " All graphs took turns in every round, so ratios hold even when times vary."
    note += f" {_versions(results)}."
    load = document["conditions"].get("load_average")
    note += f" Load average before and after: {load[0]:g} and {load[1]:g}." if load else ""
    if machine is not None:
        note += (
            f" Yardstick: a {machine['matmul_size']}x{machine['matmul_size']} matrix product reached "
            f"{machine['matmul_gflops']:.0f} GFLOP/s in the same rounds."
        )
    return note


def _medians(results: Sequence[Mapping[str, Any]], ratios: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    longest = max(result["timing"]["p50_ms"] for result in results) or 1.0
    bars = []
    for result in results:
        milliseconds = result["timing"]["p50_ms"]
        found = ratios.get(result["id"])
        times = "baseline" if found is None else f"× {found['p50']:.2f}"
        bars.append(
            Bar(
                f"{RUNTIMES[result['runtime']['name']]} {_variant(result)}",
                100 * milliseconds / longest,
                f"{milliseconds:.1f} ms · {times}",
                result["artifact"]["file"] is not None,
            )
        )
    return bars


def _row(result: Mapping[str, Any], found: Mapping[str, Any] | None) -> tuple[str, ...]:
    timing = result["timing"]
    return (
        result["id"],
        f"{timing['p50_ms']:.1f}",
        f"{timing['p90_ms']:.1f}",
        f"{timing['p99_ms']:.1f}",
        "1 (baseline)" if found is None else f"{found['p50']:.2f} ({found['p10']:.2f}–{found['p90']:.2f})",
        "–" if timing["init_ms"] is None else f"{timing['init_ms']:.0f}",
        "–" if timing["peak_rss_bytes"] is None else megabytes(timing["peak_rss_bytes"]),
        f"{result['achieved_gflops']:.0f}",
        "–" if result["share_of_matmul"] is None else f"{result['share_of_matmul']:.0%}",
    )


def _versions(results: Sequence[Mapping[str, Any]]) -> str:
    """What ran, how often and with how many threads."""
    delegates: dict[str, dict[str, None]] = defaultdict(dict)
    for result in results:
        runtime = result["runtime"]
        name = f"{RUNTIMES[runtime['name']]} {runtime['version']}, {threads(result)}"
        delegates[name] |= {runtime["delegate"]: None} if runtime["delegate"] else {}
    names = [f"{name} ({' or '.join(found)})" if found else name for name, found in delegates.items()]
    counts = {
        f"{result['timing']['runs']} runs after {result['timing']['warmup']} warm-ups" for result in results
    }
    return f"{'; '.join(names)}; {', '.join(sorted(counts))}"


def _variant(result: Mapping[str, Any]) -> str:
    return label(result["runtime"]["name"], result["artifact"]["variant"])


def _operators(result: Mapping[str, Any]) -> Operators:
    found = result["operators"]
    return Operators(
        _operators_summary(result["id"], found),
        _operators_note(found),
        _operator_bars(found["types"][:MAX_OPERATORS]),
        _operators_table(found),
    )


def _operators_summary(name: str, found: Mapping[str, Any]) -> str:
    largest = ", ".join(f"{entry['type']} {entry['share']:.0%}" for entry in found["types"][:3])
    outside = found["outside_share"]
    return f"{name}: {largest}" + (f"; {outside:.0%} outside the network" if outside else "")


def _operators_note(found: Mapping[str, Any]) -> str:
    timed = sum(operator["ms"] is not None for operator in found["operators"])
    note = (
        f"{timed} operators, {found['sum_ms']:.1f} ms in all; the whole file took {found['whole_ms']:.1f} ms "
        f"in the same rounds, a matrix product ran at {found['matmul_gflops']:.0f} GFLOP/s."
    )
    rates = [
        f"{entry['type']} at {entry['gflops']:.0f} ({entry['share_of_matmul']:.0%} of that)"
        for entry in found["types"]
        if None not in (entry["gflops"], entry["share_of_matmul"])
    ]
    alone = len(found["operators"]) - timed
    note += f" {', '.join(rates)}." if rates else ""
    return note + (f" {alone} could not be run alone." if alone else "")


def _operator_bars(types: Sequence[Mapping[str, Any]]) -> list[Bar]:
    longest = max((entry["ms"] for entry in types), default=1.0) or 1.0
    return [
        Bar(
            f"{entry['count']} {entry['type']}",
            100 * entry["ms"] / longest,
            f"{entry['ms']:.2f} ms · {entry['share']:.0%}",
        )
        for entry in types
    ]


def _operators_table(found: Mapping[str, Any]) -> Table:
    timed = [operator for operator in found["operators"] if operator["ms"] is not None]
    rows = [
        (
            str(operator["index"]),
            operator["type"],
            operator["input"],
            operator["weights"] or "–",
            operator["output"],
            f"{operator['ms']:.2f}",
            f"{operator['ms'] / (found['sum_ms'] or 1.0):.1%}",
            "–" if operator["gflops"] is None else f"{operator['gflops']:.0f}",
            "–" if operator["share_of_matmul"] is None else f"{operator['share_of_matmul']:.0%}",
            {True: "outside", False: "network", None: "–"}[operator["outside"]],
        )
        for operator in sorted(timed, key=lambda operator: -float(operator["ms"]))[:MAX_OPERATORS]
    ]
    columns = (
        *("no.", "operator", "input", "weights", "output", "ms>", "share>", "GFLOP/s>", "of matmul>"),
        "where",
    )
    return Table(columns, rows, "The most expensive single operators")
