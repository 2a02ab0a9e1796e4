"""Time a bundle on this machine, or on a phone."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from afterlens.options import AsJson, BundlePath, Checkpoint, Reference, height_and_width
from afterlens.output import library_output_on_stderr, show
from afterlens.training.media.errors import UserError

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
    device: Annotated[
        Literal["host", "android"], typer.Option(help="This machine, or the Android phone on its USB cable.")
    ] = "host",
    serial: Annotated[
        str | None, typer.Option(metavar="SERIAL", help="Phone: which one, as `adb devices` lists it.")
    ] = None,
    apk: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Phone: install this app before, or update it.")
    ] = None,
    accelerator: Annotated[
        Literal["cpu", "gpu"] | None, typer.Option(help="Phone: what runs the artifact; cpu by default.")
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Phone: float16, mixed...; default: what suits it best."),
    ] = None,
    minutes: Annotated[
        int | None, typer.Option(metavar="N", help="Phone: then run without a rest for so long.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="JSON file to write.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert reflection -o build/reflection --size 256x256 && afterlens bench build/reflection -o build/bench.json

    Time the TFLite artifacts on this machine, taking turns with PyTorch and ONNX Runtime.

    Host timings do not predict phone latency. The JSON follows benchmarks/schema.json.

    On a phone with the app (docs/android.md), one artifact: the best of the smallest size, or what --size and --variant
    name. It must pass its self-test; then single runs are timed, the live path, and --minutes of work without a rest.

    `afterlens bench build/udc --device android --apk build/android/afterlens.apk --minutes 10 -o build/phone.json`

    `afterlens bench build/udc --device android --accelerator gpu --size 1280x720 -o build/gpu.json`
    """
    from afterlens.benchmarks.bench import bench as on_host
    from afterlens.benchmarks.phone.bench import bench_on_phone

    for_phones = {
        "serial": serial,
        "apk": apk,
        "accelerator": accelerator,
        "variant": variant,
        "minutes": minutes,
    }
    for_hosts = {"checkpoint": checkpoint, "reference": reference, "operators": operators or None}
    _refuse(for_phones if device == "host" else for_hosts, device)
    with library_output_on_stderr():
        wanted = height_and_width(size)[::-1] if size else None
        if device == "android":
            document = bench_on_phone(
                bundle,
                serial=serial,
                apk=apk,
                size=wanted,
                variant=variant,
                accelerator=accelerator or "cpu",
                threads=threads,
                runs=runs,
                warmup=warmup,
                minutes=minutes or 0,
                out=out,
            )
        else:
            document = on_host(
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


def _refuse(options: Mapping[str, object], device: str) -> None:
    """Options that mean nothing on this device must not be given."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name} does not go with --device {device}")


def times(document: dict[str, Any]) -> "Group":
    """The document for people."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from afterlens.conversion.report.phones import phone_lines

    machine = document["machine"]
    view = Table(title=Text(_title(document)))
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
        return Group(view, *profiles, *(Text(line) for line in phone_lines(document)))
    size = machine["matmul_size"]
    return Group(
        view,
        *profiles,
        f"Matrix product {size}x{size} ({machine['library']}): {machine['matmul_gflops']:.0f} GFLOP/s at the median, "
        f"{machine['matmul_gflops_best']:.0f} at best. Times are this machine's, not a phone's.",
    )


def _title(document: dict[str, Any]) -> str:
    from afterlens.conversion.bundle.labels import threads
    from afterlens.conversion.report.phones import device

    counts = dict.fromkeys(threads(result) for result in document["results"])
    return f"{device(document)}, {', '.join(counts)}"


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
