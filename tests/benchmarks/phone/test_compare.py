"""Two documents of one phone compared, and phones that do not compare. The times are made up: no phone was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afterlens.benchmarks.compare import compare, require
from afterlens.benchmarks.compare_text import markdown
from afterlens.training.media.errors import GateFailed
from tests.benchmarks.test_compare import changed, changes, write

VECTOR = Path(__file__).parents[2] / "vectors" / "bench_expected.json"


def phone(path: Path, *, slower: float = 1.0, warm: float = 1.3, seed: int = 0, **places: Any) -> Path:
    """A made-up phone's document of 40 runs and 3 minutes. `warm`: the last minute as a multiple of the single runs."""
    document: dict[str, Any] = json.loads(VECTOR.read_text())["document"]
    (result, _) = document["results"]
    document["results"] = [result]
    rng = np.random.default_rng(seed)
    times = [float(ms) for ms in 8.5 * slower * rng.lognormal(0, 0.03, 40)]
    result["timing"].update(samples_ms=times, p50_ms=float(np.median(times)), runs=len(times))
    result["sustained"] = [
        {"p50_ms": 8.5 * slower * factor, "thermal_state": "none", "battery_percent": 80}
        for factor in (1.0, 1.1, warm)
    ]
    return changed(path, write(path, document), **places)


def test_a_slower_file_on_one_phone_is_a_regression(tmp_path: Path) -> None:
    base = phone(tmp_path / "base.json")
    for seed in range(1, 10):
        assert compare(base, phone(tmp_path / "new.json", seed=seed))["passed"]
        result = compare(base, phone(tmp_path / "new.json", slower=1.3, seed=seed))
        found = changes(result)
        assert [found[name]["verdict"] for name in ("time", "sustained")] == ["worse", "worse"]
        assert found["time"]["over"] == "ms" and found["time"]["provenance"] == "measured-device"
        with pytest.raises(
            GateFailed, match="TFLite float16 256x256: time .* ms .* at most \\+10 % is allowed"
        ):
            require(result)


def test_a_phone_that_slows_down_in_the_last_minute_is_a_regression(tmp_path: Path) -> None:
    result = compare(phone(tmp_path / "base.json"), phone(tmp_path / "new.json", warm=2.0, seed=1))
    assert changes(result)["time"]["verdict"] == "same"
    (line,) = result["regressions"]
    assert line == (
        "TFLite float16 256x256: sustained time 11.1 → 17 ms in minute 3 (+54 %), at most +10 % is allowed"
    )
    assert "17 ms in minute 3" in markdown(result)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("device__name", "Another Phone", "measured on other phones: Example Phone and Another Phone"),
        ("device__soc", None, "measured on other systems-on-chip: Example SoC 1 and not told"),
        ("device__os", "Android 17 (API 37)", "measured on other versions of the system"),
        (
            "provenance",
            "measured-emulator",
            "measured on a device and elsewhere (measured-device, measured-emulator)",
        ),
        ("results__0__runtime__compute_unit", "cpu", "computed on gpu and cpu"),
        ("results__0__runtime__threads", 4, "threads: not told and 4"),
        ("conditions__power_source", "battery", "power source: usb and battery"),
        ("conditions__low_power_mode", True, "low-power mode: off and on"),
        ("conditions__thermal_state", ["severe", "severe"], "thermal state at the start: none and severe"),
        ("results__0__timing__samples_ms", [1.0], "fewer than 8 runs"),
        ("results__0__sustained", None, "sustained time: 3 and 0 minutes"),
    ],
)
def test_phones_that_do_not_compare_are_not_judged_and_it_is_said_why(
    tmp_path: Path, place: str, value: Any, reason: str
) -> None:
    base = phone(tmp_path / "base.json")
    new = phone(tmp_path / "new.json", slower=5.0, **{place: value})
    result = compare(base, new)
    kept = {"samples_ms": "sustained", "sustained": "time"}.get(place.rpartition("__")[2])
    assert set(changes(result)) - {"bytes"} == ({kept} if kept else set())
    assert reason in result["artifacts"][0]["not_evaluated"][0]
    assert reason in markdown(result)
