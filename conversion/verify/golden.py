"""Golden files of a bundle: an input, and what PyTorch computes from it, for every other implementation to check itself.

faults = golden_faults(bundle, deployable, compute(deployable, golden_input))
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from afterlens.conversion.bundle.contract import Bundle, GoldenFile, integrity_fault
from afterlens.conversion.bundle.layout import Value, array_shape
from afterlens.conversion.bundle.runtimes import to_levels
from afterlens.conversion.bundle.variants import gate
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.images import read_photo

GOLDEN = "golden"  # name of the bundle's own input among the pictures


def golden_files(bundle: Bundle, size: tuple[int, int], role: str) -> list[GoldenFile]:
    """The undamaged golden files of one role and size of the graph (height, width); an output may be of another size."""
    return [
        entry
        for entry in bundle.contract.golden
        if entry.role == role
        and entry.file.startswith(f"golden/{size[1]}x{size[0]}_")
        and integrity_fault(bundle.folder, entry) is None
    ]


def read_golden(bundle: Bundle, entry: GoldenFile, port: Port) -> Value | None:
    """The value of a port that a golden file holds, None where it has another shape. UserError for a damaged picture."""
    path = bundle.path(entry)
    if entry.encoding == "png":
        value = to_levels(read_photo(path).rgb).astype(np.float32) / np.float32(255)
    else:
        value = np.fromfile(path, "<f4")
        if value.size == np.prod(array_shape(port)):
            value = value.reshape(array_shape(port))
    return value if value.shape == array_shape(port) else None


def golden_faults(bundle: Bundle, deployable: Deployable, expected: Mapping[str, Value]) -> list[str]:
    """Golden outputs that PyTorch does not reproduce from the golden input, one line each."""
    ports = {port.name: port for port in deployable.outputs}
    faults = []
    for entry in golden_files(bundle, deployable.size, "output"):
        port = ports.get(entry.tensor)
        if port is None:
            faults.append(f"{entry.file}: the graph has no output {entry.tensor!r}")
        elif fault := _fault(bundle, entry, port, expected[entry.tensor]):
            faults.append(f"{entry.file}: PyTorch differs by {fault} is allowed")
    return faults


def _fault(bundle: Bundle, entry: GoldenFile, port: Port, want: Value) -> str | None:
    """How far a file is off, and how far it may be: as far as a float32 file."""
    limits = gate("tflite", "float32")
    stored = read_golden(bundle, entry, port)
    if entry.encoding == "png":
        off = 255
        if stored is not None:
            off = int(np.abs(to_levels(stored).astype(np.int16) - to_levels(want)).max())
        return None if off <= limits.max_levels else f"{off} levels of 255, at most {limits.max_levels}"
    low, high = port.range
    allowed = limits.max_error or 0.0
    error = np.inf if stored is None else float(np.abs(stored - want).max() / (high - low))
    return None if error <= allowed else f"{error:.3g}, at most {allowed:g}"  # NaN fails
