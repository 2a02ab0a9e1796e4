"""What a benchmark document says of a phone, in words: for the report, and for the terminal.

for line in phone_lines(document):
    print(line)
"""

from collections.abc import Mapping
from typing import Any


def device(document: Mapping[str, Any]) -> str:
    """What was measured on: a host by its processor, a phone by its name, system-on-chip and Android version."""
    found = document["device"]
    if document["provenance"] == "measured-host":
        return found["cpu"] or found["name"]
    parts = (found.get("soc") or found["cpu"], found["os"])
    return f"{found['name']} ({', '.join(part for part in parts if part)})"


def phone_lines(document: Mapping[str, Any]) -> list[str]:
    """The conditions, and what was measured of each result beside single runs; nothing for a host."""
    if document["provenance"] == "measured-host":
        return []
    lines = [_conditions(document["conditions"])]
    for result in document["results"]:
        parts = (
            _self_test(result.get("self_test")),
            _live(result.get("live")),
            _sustained(result.get("sustained")),
        )
        lines += [f"{result['id']}: {part}" for part in parts if part]
    return lines


def minute_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The sustained run: minute, median in ms, thermal state, battery."""
    return [
        (
            str(number),
            "–" if minute["p50_ms"] is None else f"{minute['p50_ms']:.1f}",
            minute["thermal_state"] or "not told",
            "not told" if minute["battery_percent"] is None else f"{minute['battery_percent']} %",
        )
        for number, minute in enumerate(result.get("sustained") or (), 1)
    ]


def _conditions(conditions: Mapping[str, Any]) -> str:
    states = conditions.get("thermal_state")
    thermal = "not told" if states is None else " → ".join(dict.fromkeys(states))
    saving = ", low-power mode" if conditions.get("low_power_mode") else ""
    return f"thermal state {thermal}, power source {conditions.get('power_source') or 'not told'}{saving}"


def _self_test(found: Mapping[str, Any] | None) -> str:
    return (
        "" if found is None else f"self-test {found['psnr']:.1f} dB, at least {found['floor']:.1f} expected"
    )


def _live(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    stages = ", ".join(
        f"{name} {stage['p50_ms']:.1f} ms (p90 {stage['p90_ms']:.1f})"
        for name, stage in found["stages"].items()
    )
    return (
        f"live {found['fps']:.1f} frames/s for {found['seconds']:.0f} s, {found['dropped']} dropped; {stages}"
    )


def _sustained(minutes: list[Mapping[str, Any]] | None) -> str:
    measured = [minute for minute in minutes or () if minute["p50_ms"] is not None]
    if not measured:
        return ""
    first, last = measured[0], measured[-1]
    state = f", thermal state {last['thermal_state']}" if last["thermal_state"] else ""
    return (
        f"sustained {first['p50_ms']:.1f} ms in the first minute, {last['p50_ms']:.1f} ms in the last of "
        f"{len(minutes or ())}{state}"
    )
