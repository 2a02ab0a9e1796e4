"""bench_expected.json: made-up times as a phone might measure them, and the document that has to come of them."""

from __future__ import annotations

from typing import Any

from tests.vectors import timing

ARTIFACT = {
    "task": "reflection",
    "variant": "float16",
    "width": 256,
    "height": 256,
    "file": "reflection_256x256_float16.tflite",
    "sha256": "3f" * 32,
    "bytes": 1_234_567,
    "parameters": 600_123,
    "macs": 1_000_000_000,
}
DEVICE = {
    "name": "Example Phone",
    "os": "Android 16 (API 36)",
    "soc": "Example SoC 1",
    "cpu": None,
    "cores": 8,
    "memory_bytes": 8_000_000_000,
}
SELF_TEST = {"psnr": 61.25, "floor": 45.0}
LIVE = {
    "seconds": 0.25,
    "finished_ms": [40.0, 75.0, 105.0, 140.0, 180.0, 215.0],
    "dropped": 2,
    "input_ms": [4.0, 1.5, 1.25, 1.5, 2.0, 1.75],
    "model_ms": [12.0, 9.0, 8.5, 9.0, 9.5, 10.0],
    "output_ms": [0.5, 0.25, 0.25, 0.5, 0.75, 0.25],
    "draw_ms": [1.5, 1.0, 0.75, 1.25, 1.0, 1.0, 0.5, 2.0],  # more often than there are results
}
SUSTAINED = {
    "at_ms": [0.0, 20_000.0, 59_000.0, 60_500.0, 90_000.0, 180_000.0],
    "times_ms": [8.5, 8.75, 9.0, 10.0, 12.0, 14.0],
    "thermal_state": ["none", "light", "light", "moderate"],
    "battery_percent": [80, 79, 79, 78],
}
TIMES_MS = [260.0, 12.0, 10.0, 8.0, 9.0, 8.5, 8.25, 8.75]
WARMUP = 3


def document() -> dict[str, Any]:
    """All of bench_expected.json: `run` is given, `document` is expected."""
    run = {
        "created": "2026-01-31T12:34:56+00:00",
        "device": DEVICE,
        "thermal_state": ["none", "light"],
        "low_power_mode": False,
        "power_source": "usb",
        "input": "golden/256x256_input_image.png",
        "results": [
            {
                **measured("TFLite float16 256x256 GPU", "gpu", "GPU, 130 of 130 nodes", None, TIMES_MS),
                **{"self_test": SELF_TEST, "live": LIVE, "sustained": SUSTAINED},
            },
            {
                **measured(
                    "TFLite float16 256x256 CPU", "cpu", "XNNPACK", 4, [2.5 * time for time in TIMES_MS]
                ),
                **{"self_test": None, "live": None, "sustained": None},
            },
        ],
    }
    return {"run": run, "document": expected(run)}


def measured(name: str, unit: str, delegate: str, threads: int | None, times: list[float]) -> dict[str, Any]:
    """One graph as timed: every run in order, the first `warmup` of them uncounted."""
    return {
        "id": name,
        "runtime": {
            "name": "tflite",
            "version": "2.16.1",
            "threads": threads,
            "compute_unit": unit,
            "delegate": delegate,
        },
        "artifact": ARTIFACT,
        "warmup": WARMUP,
        "times_ms": times,
        "init_ms": 101.5,
        "peak_rss_bytes": 210_000_000,
        "max_error": 0.0009765625,
    }


def expected(run: dict[str, Any]) -> dict[str, Any]:
    """The document of a run."""
    return {
        "schema_version": 2,
        "provenance": "measured-device",
        "created": run["created"],
        "device": run["device"],
        "conditions": {
            "interleaved": False,
            "thermal_state": run["thermal_state"],
            "low_power_mode": run["low_power_mode"],
            "power_source": run["power_source"],
        },
        "input": run["input"],
        "machine": None,
        "results": [result(entry) for entry in run["results"]],
        "ratios": [],
    }


def result(entry: dict[str, Any]) -> dict[str, Any]:
    """One entry of the document's results."""
    counted = entry["times_ms"][entry["warmup"] :]
    times = timing.summary(counted)
    return {
        "id": entry["id"],
        "runtime": entry["runtime"],
        "artifact": entry["artifact"],
        "timing": {
            "warmup": entry["warmup"],
            "runs": len(counted),
            **times,
            "init_ms": entry["init_ms"],
            "first_ms": entry["times_ms"][0],
            "peak_rss_bytes": entry["peak_rss_bytes"],
            "samples_ms": counted,
        },
        "achieved_gflops": round(2 * entry["artifact"]["macs"] / times["p50_ms"] / 1e6, 9),
        "share_of_matmul": None,
        "max_error": entry["max_error"],
        "self_test": entry["self_test"],
        "live": None if entry["live"] is None else live(entry["live"]),
        "sustained": None if entry["sustained"] is None else minutes(entry["sustained"]),
    }


def live(run: dict[str, Any]) -> dict[str, Any]:
    """The live part of a result."""
    stages = {}
    for stage in ("input", "model", "output", "draw"):
        times = timing.summary(run[f"{stage}_ms"])
        stages[stage] = {name: times[name] for name in ("p50_ms", "p90_ms")}
    fps = timing.frame_rate(run["finished_ms"])
    return {"seconds": run["seconds"], "fps": fps, "dropped": run["dropped"], "stages": stages}


def minutes(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The sustained part of a result."""
    medians = timing.minutes(run["at_ms"], run["times_ms"])
    states = zip(medians, run["thermal_state"], run["battery_percent"], strict=True)
    return [
        {"p50_ms": median, "thermal_state": thermal, "battery_percent": battery}
        for median, thermal, battery in states
    ]
