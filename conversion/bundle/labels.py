"""What formats, variants, runtimes and quantities are called in a report."""

from collections.abc import Mapping
from typing import Any

FORMATS = {"tflite": "TFLite", "coreml": "Core ML"}
_VARIANTS = {  # a short name, and what is stored
    ("tflite", "float32"): ("float32", "float32"),
    ("tflite", "float16"): ("float16", "float16 weights"),
    ("tflite", "dynamic_range_quant"): ("int8 weights", "int8 weights, float32 values"),
    ("tflite", "full_integer_quant"): ("int8", "int8 weights and values"),
    ("tflite", "integer_quant_with_int16_act"): ("int8 × int16", "int8 weights, int16 values"),
    ("tflite", "mixed"): ("int8, mixed", "int8 weights and values, sensitive layers in float"),
    ("coreml", "float16"): ("float16", "float16 weights and values"),
    ("coreml", "int8"): ("int8 weights", "int8 weights, float16 values"),
    ("coreml", "palettized6"): ("6-bit palette", "weights from 64 values, float16 values"),
    ("coreml", "palettized4"): ("4-bit palette", "weights from 16 values, float16 values"),
    ("coreml", "mixed"): ("mixed weights", "weights as small as each layer bears, float16 values"),
}
RUNTIMES = {
    "tflite": "TFLite",
    "onnxruntime": "ONNX Runtime",
    "pytorch": "PyTorch eager",
    "coreml": "Core ML",
}


def label(format_: str, variant: str) -> str:
    """The short name of a variant; one that is not known is called as it calls itself."""
    return _VARIANTS.get((format_, variant), (variant, variant))[0]


def stored(format_: str, variant: str) -> str:
    """How a variant stores weights and values."""
    return _VARIANTS.get((format_, variant), (variant, variant))[1]


def threads(result: Mapping[str, Any]) -> str:
    """How many threads a benchmark result was run with."""
    count = result["runtime"]["threads"]
    return "threads not chosen" if count is None else f"{count} thread{'s' if count != 1 else ''}"


def megabytes(count: int) -> str:
    """Bytes as megabytes."""
    return f"{count / 1e6:.2f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"
