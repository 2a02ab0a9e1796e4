"""Time a bundle on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afterlens.options import AsJson, BundlePath, Checkpoint, Reference, height_and_width
from afterlens.output import library_output_on_stderr, show

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def bench(
    bundle: BundlePath,
    checkpoint: Checkpoint = None,
    reference: Reference = None,
    runs: Annotated[int, typer.Option(help="Counted rounds.")] = 30,
    warmup: Annotated[int, typer.Option(help="Uncounted rounds before them.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of every runtime.")] = 1,
    size: Annotated[
        str | None, typer.Option(metavar="WIDTHxHEIGHT", help="Time the artifacts of this size only.")
    ] = None,
    operators: Annotated[
        bool, typer.Option("--operators", help="Also time each operator of the artifacts by itself.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="JSON file to write.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256 && afterlens bench build/reflection -o build/bench.json

    Time the TFLite artifacts on this machine, taking turns with PyTorch and ONNX Runtime.

    Host timings do not predict phone latency. The JSON follows benchmarks/schema.json.
    """
    from afterlens.benchmarks.bench import bench as run

    with library_output_on_stderr():
        wanted = height_and_width(size)[::-1] if size else None
        document = run(
            bundle,
            checkpoint,
            reference=reference,
            runs=runs,
            warmup=warmup,
            threads=threads,
            size=wanted,
            operators=operators,
            out=out,
        )
    show(document, as_json, lambda: times(document))


def times(document: dict[str, Any]) -> "Group":
    """The document for people."""
    from rich.console import Group
    from rich.table import Table

    machine, device = document["machine"], document["device"]
    threads = {result["runtime"]["threads"] for result in document["results"]}
    view = Table(title=f"{device['cpu']}, {', '.join(str(n) for n in sorted(threads))} thread(s)")
    view.add_column("graph")
    for column in ("p50 ms", "p90 ms", "p99 ms", "ratio (p10–p90)", "init ms", "peak MB"):
        view.add_column(column, justify="right")
    for column in ("GMACs", "GFLOP/s", "of matmul"):
        view.add_column(column, justify="right")
    ratios = {entry["result"]: entry for entry in document["ratios"]}
    for result in document["results"]:
        timing, found = result["timing"], ratios.get(result["id"])
        view.add_row(
            result["id"],
            *(f"{timing[key]:.1f}" for key in ("p50_ms", "p90_ms", "p99_ms")),
            "1 (baseline)"
            if found is None
            else f"{found['p50']:.2f} ({found['p10']:.2f}–{found['p90']:.2f})",
            "–" if timing["init_ms"] is None else f"{timing['init_ms']:.0f}",
            "–" if timing["peak_rss_bytes"] is None else f"{timing['peak_rss_bytes'] / 1e6:.0f}",
            f"{result['artifact']['macs'] / 1e9:.2f}",
            f"{result['achieved_gflops']:.0f}",
            "–" if result["share_of_matmul"] is None else f"{result['share_of_matmul']:.0%}",
        )
    profiles = [_types(result) for result in document["results"] if "operators" in result]
    if machine is None:
        return Group(view, *profiles)
    size = machine["matmul_size"]
    return Group(
        view,
        *profiles,
        f"Matrix product {size}x{size} ({machine['library']}): {machine['matmul_gflops']:.0f} GFLOP/s at the median, "
        f"{machine['matmul_gflops_best']:.0f} at best. Times are this machine's, not a phone's.",
    )


def _types(result: dict[str, Any]) -> "Table":
    """The operators of one file by type."""
    from rich.table import Table

    found = result["operators"]
    outside = found["outside_share"]
    title = f"{result['id']}: operators alone {found['sum_ms']:.1f} ms, the whole {found['whole_ms']:.1f} ms"
    view = Table(title=f"{title}; {outside:.0%} outside the network" if outside else title)
    view.add_column("operator")
    for column in ("count", "ms", "share", "GFLOP/s", "of matmul"):
        view.add_column(column, justify="right")
    for entry in found["types"]:
        view.add_row(
            entry["type"],
            str(entry["count"]),
            f"{entry['ms']:.2f}",
            f"{entry['share']:.0%}",
            "–" if entry["gflops"] is None else f"{entry['gflops']:.0f}",
            "–" if entry["share_of_matmul"] is None else f"{entry['share_of_matmul']:.0%}",
        )
    return view
