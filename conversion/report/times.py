"""The part of a report on time: what a benchmark document says, and where the time of each file goes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from afterlens.conversion.bundle.labels import RUNTIMES, label, megabytes, threads
from afterlens.conversion.report.page import Html, join, table, tag


def timing_section(task: str, document: Mapping[str, Any]) -> Html:
    """The results of one task in a benchmark document: bars, percentiles, and its operators if they were timed."""
    device, machine = document["device"], document["machine"]
    results = [r for r in document["results"] if r["artifact"]["task"] == task]
    ratios = {ratio["result"]: ratio for ratio in document["ratios"]}
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        groups[f"{result['artifact']['width']}x{result['artifact']['height']}"].append(result)
    where = (
        f"Times are measured-host, not a phone's: {device['cpu']}, {device['cores']} cores, {device['os']}"
        if document["provenance"] == "measured-host"
        else f"Times are {document['provenance']}: {device['name']} ({device['cpu']}, {device['os']})"
    )
    turns = " All graphs took turns in every round, so the ratios hold even where the times waver."
    load = document["conditions"].get("load_average")
    note = where + "." + (turns if document["conditions"]["interleaved"] else "")
    note += f" {_versions(results)}."
    note += f" Load average before and after: {load[0]:g} and {load[1]:g}." if load else ""
    if machine is not None:
        note += (
            f" Yardstick: a {machine['matmul_size']}x{machine['matmul_size']} matrix product reached "
            f"{machine['matmul_gflops']:.0f} GFLOP/s in the same rounds."
        )
    bars = (
        join([tag("h4", f"{size}, median of a run"), _bars(group, ratios)]) for size, group in groups.items()
    )
    columns = (
        "graph",
        "p50 ms>",
        "p90>",
        "p99>",
        "ratio (p10–p90)>",
        "init ms>",
        "peak RSS>",
        "GFLOP/s>",
        "of matmul>",
    )
    return join(
        [
            tag("h3", "Times"),
            tag("p", note, class_="note"),
            join(bars),
            table(columns, [_timing_row(result, ratios.get(result["id"])) for result in results]),
            _operators_section([result for result in results if "operators" in result]),
        ]
    )


def _operators_section(results: Sequence[Mapping[str, Any]]) -> Html:
    """Where the time of each file goes, the first one unfolded."""
    if not results:
        return Html("")
    note = (
        "Each operator was run alone, in a file of its own with its own weights; with one thread, times are processor "
        "time (measured-host). What is outside the network, the reduction of a large picture and its rebuilding, is "
        "inferred from the sizes of the tensors."
    )
    parts = [tag("h4", "Operators"), tag("p", note, class_="note")]
    for index, result in enumerate(results):
        opened = {"open": ""} if index == 0 else {}
        parts.append(tag("details", tag("summary", _operators_words(result)), _operators(result), **opened))
    return join(parts)


def _operators_words(result: Mapping[str, Any]) -> str:
    found = result["operators"]
    largest = ", ".join(f"{entry['type']} {entry['share']:.0%}" for entry in found["types"][:3])
    outside = found["outside_share"]
    words = f"{result['id']}: {largest}"
    return f"{words}; {outside:.0%} outside the network" if outside else words


def _operators(result: Mapping[str, Any]) -> Html:
    """Bars by type, and the most expensive single ones."""
    found = result["operators"]
    longest = max((entry["ms"] for entry in found["types"]), default=1.0) or 1.0
    bars = []
    for entry in found["types"][:8]:
        bars.append(
            _bar(
                f"{entry['count']} {entry['type']}",
                entry["ms"] / longest,
                f"{entry['ms']:.2f} ms · {entry['share']:.0%}",
            )
        )
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
        for operator in sorted(timed, key=lambda operator: -float(operator["ms"]))[:8]
    ]
    alone = len(found["operators"]) - len(timed)
    note = (
        f"{len(timed)} operators, {found['sum_ms']:.1f} ms in all; the whole file took {found['whole_ms']:.1f} ms "
        f"in the same rounds, a matrix product ran at {found['matmul_gflops']:.0f} GFLOP/s."
    )
    rates = [
        f"{entry['type']} at {entry['gflops']:.0f} ({entry['share_of_matmul']:.0%} of that)"
        for entry in found["types"]
        if None not in (entry["gflops"], entry["share_of_matmul"])
    ]
    note += f" {', '.join(rates)}." if rates else ""
    note += f" {alone} could not be run alone." if alone else ""
    columns = (
        *(
            "no.",
            "operator",
            "input",
            "weights",
            "output",
            "ms>",
            "share>",
            "GFLOP/s>",
            "of matmul>",
            "where",
        ),
    )
    return join(
        [
            tag("p", note, class_="note"),
            tag("div", join(bars), class_="bars"),
            table(columns, rows, caption="The most expensive single operators"),
        ]
    )


def _bars(results: Sequence[Mapping[str, Any]], ratios: Mapping[str, Mapping[str, Any]]) -> Html:
    longest = max(result["timing"]["p50_ms"] for result in results)
    rows = []
    for result in results:
        milliseconds = result["timing"]["p50_ms"]
        found = ratios.get(result["id"])
        times = "baseline" if found is None else f"× {found['p50']:.2f}"
        own = result["artifact"]["file"] is not None
        rows.append(
            _bar(
                f"{RUNTIMES[result['runtime']['name']]} {_variant(result)}",
                milliseconds / longest,
                f"{milliseconds:.1f} ms · {times}",
                own,
            )
        )
    return tag("div", join(rows), class_="bars")


def _variant(result: Mapping[str, Any]) -> str:
    return label(result["runtime"]["name"], result["artifact"]["variant"])


def _timing_row(result: Mapping[str, Any], found: Mapping[str, Any] | None) -> tuple[object, ...]:
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


def _bar(name: str, share: float, value: str, own: bool = True) -> Html:
    """One line of a bar chart; ``share``: of the longest bar. Own results are drawn stronger."""
    return tag(
        "div",
        tag("span", name),
        tag("span", tag("span", style=f"width: {100 * share:.1f}%"), class_="track"),
        tag("span", value, class_="value"),
        class_="row own" if own else "row",
    )
