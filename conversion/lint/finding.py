"""A rule that fired, where it fired, and how places are gathered into the findings of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from afterlens.conversion.lint.graph import Node
from afterlens.conversion.lint.rules import BY_NAME, RULES, Rule

MAX_PLACES = 20  # of a finding, in the document


@dataclass(frozen=True)
class Place:
    """Where a rule fired."""

    operator: str
    tensor: str
    layer: str
    detail: str


@dataclass(frozen=True)
class Hit:
    """A rule that fired once."""

    rule: str
    place: Place


def hit(rule: str, node: Node, detail: str) -> Hit:
    """A rule that fired on an operator."""
    return Hit(rule, Place(node.operator, node.name, node.layer, detail))


def operator_detail(rule: Rule, node: Node) -> str:
    """What a rule about a type of operator says of one of them: its first computed input and its first output."""
    computed = [tensor for tensor in node.inputs if not tensor.constant]
    shapes = [shape_text(tensor.shape) for tensor in (*computed[:1], *node.outputs[:1])]
    moves = " moves data" if rule.category == "layout" else ""
    return f"{node.operator} {' -> '.join(shapes)}{moves}"


def shape_text(shape: Sequence[int | None]) -> str:
    """(1, ?, 64): a question mark where a dimension is not fixed."""
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def findings_of(file: str, hits: Sequence[Hit], provenance: str) -> list[dict[str, Any]]:
    """One finding for all places of a file where a rule fired on the same type of operator, in the order of RULES."""
    groups: dict[tuple[str, str], list[Place]] = {}
    for found in hits:
        rule = BY_NAME[found.rule]
        kind = "" if rule.target == "float16" or found.rule == "gpu-type" else found.place.operator
        groups.setdefault((found.rule, kind), []).append(found.place)
    order = [rule.name for rule in RULES]
    return [
        {
            "rule": name,
            "target": BY_NAME[name].target,
            "category": BY_NAME[name].category,
            "severity": BY_NAME[name].severity,
            "file": file,
            "message": places[0].detail,
            "count": len(places),
            "places": [asdict(place) for place in places[:MAX_PLACES]],
            "provenance": provenance,
            "source": BY_NAME[name].source,
        }
        for (name, _), places in sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    ]


def one_line(finding: Mapping[str, Any]) -> str:
    """A finding in one line, with the first place."""
    place = finding["places"][0]
    more = f" (and {finding['count'] - 1} more places)" if finding["count"] > 1 else ""
    return (
        f"{finding['file']}: {finding['rule']}: {finding['message']}; {place['operator']} {place['tensor']!r}, "
        f"layer {place['layer']}{more}"
    )
