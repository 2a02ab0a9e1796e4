"""A comparison in words: Markdown for a pull request.

print(markdown(compare(Path("build/base"), Path("build/new"))))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afterlens.training.media.images import atomic_path

CONFIDENCE = 95
"""Of the interval of a time, in percent."""

NAMES = {
    "bytes": "size",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "fidelity": "PSNR against PyTorch",
    "time": "time",
    "sustained": "sustained time",
}
_MARKS = {"worse": "❌", "unclear": "❔", "same": "", "better": "✅"}


def markdown(result: Mapping[str, Any]) -> str:
    """The result of `compare` as a comment on a pull request. Names from the files are code: no link, no HTML."""
    count = len(result["regressions"])
    verdict = f"❌ {count} regression{'s' if count > 1 else ''}" if count else "✅ no regression"
    measures = measures_of(result)
    lines = [
        f"### afterlens compare: {_code(result['base']['name'])} → {_code(result['new']['name'])}: {verdict}",
        "",
        _row(["artifact", *(NAMES[measure] for measure in measures)]),
        _row(["---"] * (len(measures) + 1)),
    ]
    for artifact in result["artifacts"]:
        changes = {change["measure"]: change for change in artifact["changes"]}
        cells = [_code(artifact["id"])]
        for measure in measures:
            change = changes.get(measure)
            text = "–" if change is None else in_words(change)
            mark = "" if change is None else _MARKS[change["verdict"]]
            cells.append(f"{mark} **{text}**" if mark == "❌" else f"{mark} {text}".strip())
        lines.append(_row(cells))
    details = [
        f"- {text if label == 'note' else f'{label}: {_code(text)}'}" for label, text in details_of(result)
    ]
    lines += ["", *details, ""] if details else [""]
    limits = result["limits"]
    lines.append(
        f"Allowed: PSNR -{limits['max_psnr_drop']:g} dB, SSIM -{limits['max_ssim_drop']:g}, PSNR against PyTorch "
        f"-{limits['max_fidelity_drop']:g} dB, size +{100 * limits['max_size_growth']:g} %, time "
        f"+{100 * limits['max_slowdown']:g} %. ❌ beyond it, ✅ better by more than that, ❔ the {CONFIDENCE} % "
        "interval of the time holds the limit. Times in ms are of one phone, under the same conditions; the others are "
        "multiples of a yardstick in the same rounds, on a host, not on a phone."
    )
    return "\n".join(lines) + "\n"


def write_markdown(result: Mapping[str, Any], path: Path) -> None:
    """Write `markdown` to a file, whole or not at all. Raises UserError where it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(markdown(result), encoding="utf-8")


def measures_of(result: Mapping[str, Any]) -> list[str]:
    """The columns: what was compared of any artifact."""
    present = {change["measure"] for artifact in result["artifacts"] for change in artifact["changes"]}
    return [measure for measure in NAMES if measure in present]


def in_words(change: Mapping[str, Any]) -> str:
    """A change as text: before, after, and by how much."""
    base, new, difference = change["base"], change["new"], change["change"]
    if change["measure"] == "bytes":
        return f"{base / 1e6:.2f} → {new / 1e6:.2f} MB ({100 * difference:+.1f} %)"
    if change["measure"] == "time":
        interval = f"{100 * change['low']:+.0f} to {100 * change['high']:+.0f} %"
        unit = "ms" if change["over"] == "ms" else f"× {change['over']}"
        return f"{base:.3g} → {new:.3g} {unit} ({100 * difference:+.0f} %, {CONFIDENCE} %: {interval})"
    if change["measure"] == "sustained":
        return f"{base:.3g} → {new:.3g} ms in {change['over']} ({100 * difference:+.0f} %)"
    if change["measure"] == "ssim":
        return f"{base:.4f} → {new:.4f} ({difference:+.4f})"
    digits = 2 if change["measure"] == "psnr" else 1
    return f"{base:.{digits}f} → {new:.{digits}f} dB ({difference:+.{digits}f})"


def allowed(change: Mapping[str, Any]) -> str:
    """The limit of a change as text."""
    if change["measure"] in ("bytes", "time", "sustained"):
        return f"at most {100 * change['limit']:+g} % is allowed"
    return f"at most {-change['limit']:+g}{'' if change['measure'] == 'ssim' else ' dB'} is allowed"


def details_of(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is not a number, by kind; artifacts with the same line share it."""
    told: dict[tuple[str, str], list[str]] = {}
    for artifact in result["artifacts"]:
        counts = artifact["operators"].items()
        changed = ", ".join(f"{name} {before} → {after}" for name, (before, after) in counts)
        lines = [("regression", f"{gate} passed before and fails now") for gate in artifact["failed"]]
        lines += [("inputs and outputs", line) for line in artifact["ports"]]
        lines += [("operators", changed)] if changed else []
        lines += [("not evaluated", line) for line in artifact["not_evaluated"]]
        for line in lines:
            told.setdefault(line, []).append(artifact["id"])
    return [
        *(("removed", name) for name in result["removed"]),
        *(("added", name) for name in result["added"]),
        *((kind, f"{', '.join(ids)}: {text}") for (kind, text), ids in told.items()),
        *(("note", note) for note in result["notes"]),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    return f"`{text.replace('`', '?').replace('|', '?')}`"
