"""How runtimes and quantities are written for people; formats and variants are in `variants.py`."""

from collections.abc import Mapping
from typing import Any

RUNTIMES = {
    "tflite": "TFLite",
    "onnxruntime": "ONNX Runtime",
    "pytorch": "PyTorch eager",
    "coreml": "Core ML",
}


def threads(result: Mapping[str, Any]) -> str:
    """How many threads a benchmark result was run with."""
    count = result["runtime"]["threads"]
    return "threads not chosen" if count is None else f"{count} thread{'s' if count != 1 else ''}"


def megabytes(count: int) -> str:
    """Bytes as megabytes."""
    return f"{count / 1e6:.2f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"
