"""onnx2tf as far as its float32 file, in a process of its own: `python -m afterlens.conversion.tflite.onnx2tf_float32 -i …`.

The tool goes on to trace the network twice more, for a saved model and a float16 file. Nobody reads either: ours is made
from the float32 file (float16.py). The arguments are the tool's own.
"""

from __future__ import annotations

import sys
from typing import Any


def main() -> None:
    """Run the tool. Exit code 0 as soon as TensorFlow is asked for a second file."""
    import onnx2tf  # before TensorFlow: it chooses the version of Keras
    import tensorflow as tf
    import tf_keras

    # Whichever of the two it would write its saved model with.
    tf_keras.export.ExportArchive.write_out = tf.saved_model.save = lambda *_, **__: None
    kind = tf.lite.TFLiteConverter
    for maker in ("from_keras_model", "from_concrete_functions"):
        setattr(kind, maker, staticmethod(_once(getattr(kind, maker))))
    onnx2tf.main()


def _once(make: Any) -> Any:
    """Converters as `make` gives them, that end the process where they are asked to convert again."""

    def made(*arguments: Any, **options: Any) -> Any:
        converter = make(*arguments, **options)
        convert = converter.convert

        def first() -> bytes:
            converter.convert = lambda: sys.exit(0)
            model: bytes = convert()
            return model

        converter.convert = first
        return converter

    return made


if __name__ == "__main__":
    main()
