"""Times of two runs on one phone, for `compare`.

    found = phone_times((base_document, base_result), (new_document, new_result))

No yardstick takes turns with a phone's runs, so milliseconds are compared with milliseconds, and only where phone,
settings and conditions were the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.benchmarks.compare_sides import plain

Timed = tuple[Mapping[str, Any], Mapping[str, Any]]  # a benchmark document and one of its results


@dataclass(frozen=True)
class PhoneTimes:
    """What can be compared, in ms."""

    runs: tuple[NDArray[np.float64], NDArray[np.float64]]  # single runs of both sides
    sustained: tuple[float, float] | None  # medians of the last minute
    minutes: int
    unknown: str | None  # why `sustained` is None although a side has it


def phone_times(base: Timed, new: Timed) -> PhoneTimes | str:
    """The times of both sides, or why they cannot be compared."""
    documents, results = (base[0], new[0]), (base[1], new[1])
    provenances = {document["provenance"] for document in documents}
    if provenances != {"measured-device"}:
        return "measured on a device and elsewhere (" + ", ".join(sorted(provenances)) + ")"
    for what, values in _circumstances(documents, results).items():
        if values[0] != values[1]:
            return f"{what} {plain(_word(values[0]))} and {plain(_word(values[1]))}"
    runs = [np.array(result["timing"].get("samples_ms", ()), np.float64) for result in results]
    minutes = [result.get("sustained") or [] for result in results]
    sustained, unknown = None, None
    if len(minutes[0]) != len(minutes[1]):
        unknown = f"{len(minutes[0])} and {len(minutes[1])} minutes"
    elif minutes[0]:
        before, after = (found[-1]["p50_ms"] for found in minutes)
        if before is None or after is None:
            unknown = "no run began in the last minute"
        else:
            sustained = (before, after)
    return PhoneTimes((runs[0], runs[1]), sustained, len(minutes[0]), unknown)


def _circumstances(
    documents: tuple[Mapping[str, Any], ...], results: tuple[Mapping[str, Any], ...]
) -> dict[str, list[object]]:
    """What must be the same on both sides, in the order in which people look for it."""
    devices = [document["device"] for document in documents]
    conditions = [document["conditions"] for document in documents]
    thermal = [found.get("thermal_state") for found in conditions]
    return {
        "measured on other phones:": [device["name"] for device in devices],
        "measured on other systems-on-chip:": [device.get("soc") for device in devices],
        "measured on other processors:": [device["cpu"] for device in devices],
        "measured on other versions of the system:": [device["os"] for device in devices],
        "computed on": [result["runtime"]["compute_unit"] for result in results],
        "run by": [result["runtime"]["delegate"] for result in results],
        "threads:": [result["runtime"]["threads"] for result in results],
        "power source:": [found.get("power_source") for found in conditions],
        "low-power mode:": [found.get("low_power_mode") for found in conditions],
        "thermal state at the start:": [states[0] if states else None for states in thermal],
    }


def _word(value: object) -> str:
    if value is None:
        return "not told"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
