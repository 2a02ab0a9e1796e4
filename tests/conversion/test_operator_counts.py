"""The operators of the saved files: these and no others, and none that leaves a phone's GPU."""

import random
from collections import Counter
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.convert import convert
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.operator_counts import operator_counts
from afterlens.training.blocks import GatedConv, ScaleSelection
from afterlens.training.media.errors import UserError
from afterlens.training.reflection.task import TASK

# GPU delegates refuse these, or they copy a whole tensor for nothing.
UNWANTED = {
    "TRANSPOSE",
    "SPLIT",
    "SPLIT_V",
    "GATHER",
    "GATHER_ND",
    "PAD",
    "PADV2",
    "BROADCAST_TO",
    "TILE",
    "PACK",
}
UNWANTED_MIL = {"transpose", "split", "gather", "gather_nd", "tile", "expand_dims", "squeeze", "concat_nd"}

# All that the 256x256 graph may consist of. An operator that joins this list must be one that phones' GPUs run.
TFLITE_256 = {
    *(
        "CONV_2D",
        "DEPTH_TO_SPACE",
        "ADD",
        "SUB",
        "MUL",
        "LOGISTIC",
        "SOFTMAX",
        "MEAN",
        "AVERAGE_POOL_2D",
    ),
    *("RESIZE_BILINEAR", "CONCATENATION", "RESHAPE", "STRIDED_SLICE", "RELU", "MINIMUM", "ABS"),
}
COREML_256 = {
    *("conv", "pixel_shuffle", "add", "sub", "mul", "relu", "sigmoid", "softmax", "reduce_mean", "avg_pool"),
    *("upsample_bilinear", "concat", "reshape", "slice_by_index", "clip", "cast", "abs"),
}


def _layers(network: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in network.modules())


@pytest.mark.parametrize("variant", ["float32", "float16"])
def test_the_tflite_files_have_these_operators_and_no_others(
    bundle: Bundle, network: nn.Module, variant: str
) -> None:
    counts = operator_counts(bundle.folder / f"reflection_256x256_{variant}.tflite")
    found = dict(counts.operators)
    # Every float16 weight is widened once when the file loads.
    widened = found.pop("DEQUANTIZE", 0)
    assert set(found) == TFLITE_256
    assert (widened > _layers(network, nn.Conv2d)) == (variant == "float16")
    # One operator a layer: nothing is split, and a ReLU is part of its convolution.
    assert found["CONV_2D"] == _layers(network, nn.Conv2d)
    assert found["DEPTH_TO_SPACE"] == _layers(network, nn.PixelShuffle)
    assert found["LOGISTIC"] == _layers(network, GatedConv) + 1  # the network's own gate
    assert found["SOFTMAX"] == _layers(network, ScaleSelection)
    assert found["RESHAPE"] == found["STRIDED_SLICE"] + found["SOFTMAX"] - 2  # an affine map has two halves
    assert counts.highest_rank == 4


def test_the_core_ml_package_has_these_operators_and_no_others(bundle: Bundle, network: nn.Module) -> None:
    counts = operator_counts(bundle.folder / "reflection_256x256_float16.mlpackage")
    found = counts.operators
    assert set(found) == COREML_256
    assert found["conv"] == _layers(network, nn.Conv2d)
    assert found["pixel_shuffle"] == _layers(network, nn.PixelShuffle)
    assert found["sigmoid"] == _layers(network, GatedConv) + 1
    assert found["softmax"] == _layers(network, ScaleSelection)
    assert found["relu"] == found["sigmoid"] + found["softmax"] + 1
    assert found["cast"] == 3  # one picture in, two out
    assert counts.highest_rank == 4


def test_the_count_agrees_with_the_runtimes(bundle: Bundle) -> None:
    tflite = bundle.folder / "reflection_256x256_float32.tflite"
    # Before tensors are allocated, so that no delegate has taken operators over.
    listed = Counter(operator["op_name"] for operator in Interpreter(str(tflite))._get_ops_details())
    assert dict(listed) == operator_counts(tflite).operators
    package = bundle.folder / "reflection_256x256_float16.mlpackage"
    executed = Counter(operator.op_type for operator in MilProgram.load(package).operators())
    executed.pop("const", None)
    assert dict(executed) == operator_counts(package).operators


def test_the_1280x720_graph_needs_nothing_more_than_a_few_fixed_convolutions(
    network: nn.Module, photo_path: Path, tmp_path: Path
) -> None:
    provenance = {"checkpoint_sha256": "0" * 64, "recipe": {}, "data_licence": "CC BY 4.0"}
    bundle = convert(
        [TASK.deployable(network, 720, 1280)],
        tmp_path / "bundle",
        provenance,
        golden_photo=photo_path,
        variants=["float32.tflite", "float16.mlpackage"],
    )
    coreml, tflite = (operator_counts(bundle.path(artifact)) for artifact in bundle.contract.artifacts)
    assert not UNWANTED & set(tflite.operators) and not UNWANTED_MIL & set(coreml.operators)
    assert set(tflite.operators) - TFLITE_256 == {"SPACE_TO_DEPTH", "DIV", "RELU_N1_TO_1"}
    assert set(coreml.operators) - COREML_256 == {"pixel_unshuffle", "real_div"}
    # The pyramid: the photo's mean, the upsampling of gate and correction.
    assert tflite.operators["CONV_2D"] == coreml.operators["conv"] == _layers(network, nn.Conv2d) + 3
    assert tflite.highest_rank == coreml.highest_rank == 4
    assert bundle.contract.artifacts[0].macs < 2e9


def test_a_cut_or_scrambled_tflite_file_is_one_line(bundle: Bundle, tmp_path: Path) -> None:
    data = (bundle.folder / "reflection_256x256_float16.tflite").read_bytes()
    path = tmp_path / "damaged.tflite"
    generator = random.Random(0)
    damaged = [
        b"",
        b"TFL3",
        b"\0" * 100,
        data[:1000],
        data[:-1_000_000],
        data[:8] + generator.randbytes(5000),
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            operator_counts(path)
        assert "\n" not in str(caught.value) and "damaged.tflite" in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        operator_counts(tmp_path / "absent.tflite")
