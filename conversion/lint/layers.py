"""Which layer of the network each operator of a converted file belongs to.

An operator that reads weights with a name in the network belongs to that layer. One without weights is "after" the
layers it computes on, or "input" if it computes on the network's inputs alone. The rest is "unknown".
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

UNKNOWN = "unknown"
MAX_SOURCES = 2  # layers named for an operator without weights; the rest is "..."

# "p_module_" is what our converter and torch.export put in front.
_WEIGHT_NAME = re.compile(r"^(?:[pbc]_)?(?:module_)?(?P<layer>.+?)_(?:weight|bias)(?:_.*)?$")


@dataclass(frozen=True)
class Step:
    """One operator: keys of the tensors it reads and writes, and the layer whose weights it reads, if known."""

    read: Iterable[Hashable]
    written: Iterable[Hashable]
    own: str | None


@dataclass(frozen=True)
class _Origin:
    layers: tuple[str, ...] = ()
    own: bool = False
    from_input: bool = False

    def __str__(self) -> str:
        if not self.layers:
            return "input" if self.from_input else UNKNOWN
        shown = ", ".join(self.layers[:MAX_SOURCES]) + (", ..." if len(self.layers) > MAX_SOURCES else "")
        return shown if self.own else f"after {shown}"


def layer_names(steps: Sequence[Step], inputs: Iterable[Hashable]) -> list[str]:
    """The layer of each step. Steps are in the order of execution; `inputs` are keys of the network's inputs."""
    origins: dict[Hashable, _Origin] = {key: _Origin(from_input=True) for key in inputs}
    names = []
    for step in steps:
        if step.own is not None:
            origin = _Origin((step.own,), own=True)
        else:
            sources = [origins[key] for key in step.read if key in origins]
            layers = dict.fromkeys(layer for source in sources for layer in source.layers)
            origin = _Origin(
                tuple(layers)[: MAX_SOURCES + 1], from_input=any(source.from_input for source in sources)
            )
        names.append(str(origin))
        for key in step.written:
            origins[key] = replace(origin, own=False)
    return names


def layer_of_weight(name: str) -> str:
    """The layer in a weight's name: "stem_0" of "p_module_stem_0_weight_to_fp16"; "unknown" if there is none."""
    found = _WEIGHT_NAME.match(name)
    return found["layer"] if found else UNKNOWN


def common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to an underscore: "module_network_", where our converter wrapped the network."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)  # what these two share, all do
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: first.rfind("_", 0, length) + 1]
