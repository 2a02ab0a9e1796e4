"""The operators of the saved files: the exact list, and no operator that leaves a phone's GPU."""

import random
from collections import Counter
from pathlib import Path

import pytest
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from conversion.census import census_of
from conversion.contract import Bundle
from conversion.convert import convert
from conversion.mil.interpret import MilProgram
from training.errors import UserError
from training.reflection.task import TASK

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

# What the 256x256 graph consists of, by the network's description: 19 gated convolutions (9 in the encoder, 4 in each
# decoder, 2 before the heads), each two convolutions, a sigmoid and a product, the ReLU fused in TFLite; 2 transposed
# convolutions (the heads); 3 skip pyramids with 4, 4 and 3 scales (average pools and means, one softmax, a slice and
# a reshape a scale); 5 bilinear steps in the pyramids and 3 in the decoders, which share their first.
TFLITE_256 = {
    "CONV_2D": 71,
    "ADD": 33,
    "MUL": 31,
    "LOGISTIC": 19,
    "TANH": 19,
    "RESHAPE": 14,
    "MEAN": 11,
    "STRIDED_SLICE": 11,
    "RESIZE_BILINEAR": 8,
    "AVERAGE_POOL_2D": 5,
    "SOFTMAX": 3,
    "CONCATENATION": 3,
    "TRANSPOSE_CONV": 2,
    "RELU_N1_TO_1": 1,
    "SUB": 1,
    "MINIMUM": 1,
    "RELU": 1,
}
COREML_256 = {
    "conv": 71,
    "mul": 34,
    "add": 33,
    "sigmoid": 19,
    "reshape": 14,
    "reduce_mean": 11,
    "slice_by_index": 11,
    "upsample_bilinear": 8,
    "avg_pool": 5,
    "cast": 3,
    "relu": 3,
    "tanh": 19,
    "softmax": 3,
    "concat": 3,
    "conv_transpose": 2,
    "clip": 2,
    "sub": 1,
}


@pytest.mark.parametrize("variant", ["float32", "float16"])
def test_the_tflite_files_have_exactly_these_operators(bundle: Bundle, variant: str) -> None:
    path = bundle.folder / f"reflection_256x256_{variant}.tflite"
    census = census_of(path)
    found = dict(census.operators)
    # Every float16 weight is widened once when the file loads.
    assert found.pop("DEQUANTIZE", 0) == (130 if variant == "float16" else 0)
    assert found == TFLITE_256
    assert census.highest_rank == 4


def test_the_core_ml_package_has_exactly_these_operators(bundle: Bundle) -> None:
    census = census_of(bundle.folder / "reflection_256x256_float16.mlpackage")
    assert census.operators == COREML_256
    assert census.highest_rank == 4


def test_the_count_agrees_with_the_runtimes(bundle: Bundle) -> None:
    tflite = bundle.folder / "reflection_256x256_float32.tflite"
    # Before tensors are allocated, so that no delegate has taken operators over.
    listed = Counter(operator["op_name"] for operator in Interpreter(str(tflite))._get_ops_details())
    assert dict(listed) == census_of(tflite).operators
    package = bundle.folder / "reflection_256x256_float16.mlpackage"
    executed = Counter(operator.op_type for operator in MilProgram.load(package).operators())
    executed.pop("const", None)
    assert dict(executed) == census_of(package).operators


def test_the_1280x720_graph_needs_nothing_more_than_padding_and_cropping(
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
    coreml, tflite = (census_of(bundle.path(artifact)) for artifact in bundle.contract.artifacts)
    assert not UNWANTED & set(tflite.operators) and not UNWANTED_MIL & set(coreml.operators)
    assert set(tflite.operators) - set(TFLITE_256) == {"MIRROR_PAD", "DIV"}
    assert set(coreml.operators) - set(COREML_256) == {"pad", "real_div"}
    assert tflite.operators["MIRROR_PAD"] == coreml.operators["pad"] == 1
    assert (tflite.operators["CONV_2D"], coreml.operators["conv"]) == (71, 71)
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
            census_of(path)
        assert "\n" not in str(caught.value) and "damaged.tflite" in str(caught.value)
    with pytest.raises(UserError, match="No such file"):
        census_of(tmp_path / "absent.tflite")
