"""The profile of single operators: small files are built here, cut up, and put together again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from afterlens.benchmarks import operators
from afterlens.benchmarks.operators import cut, profile_operators
from afterlens.conversion.tflite.graph import read_tflite
from afterlens.training.media.errors import UserError
from tests.conversion.tflite.files import File, conv_options

Array = NDArray[Any]
SIDE = 32


def pool_options() -> Any:
    options = schema.Pool2DOptionsT()
    options.strideH = options.strideW = options.filterHeight = options.filterWidth = 2
    return options


def weights(rng: np.random.Generator, *shape: int) -> Array:
    return (rng.random(shape, np.float32) - 0.5) / np.sqrt(np.prod(shape[1:]))


@pytest.fixture
def pyramid(tmp_path: Path) -> Path:
    """Float16 weights: halve, two convolutions (the first of stride 2, the second grouped), back up, add the detail."""
    rng, file = np.random.default_rng(0), File()
    photo, half = file.tensor((1, SIDE, SIDE, 3)), file.tensor((1, SIDE // 2, SIDE // 2, 3))
    deep, wide = (file.tensor((1, SIDE // 4, SIDE // 4, 8)) for _ in range(2))
    widened = []
    for shape in ((8, 3, 3, 3), (8,), (8, 3, 3, 4), (8,)):
        stored = file.tensor(shape, np.float16, weights(rng, *shape))
        widened.append(file.tensor(shape))
        file.operator("DEQUANTIZE", [stored], [widened[-1]], schema.DequantizeOptionsT())
    file.operator("AVERAGE_POOL_2D", [photo], [half], pool_options())
    file.operator("CONV_2D", [half, *widened[:2]], [deep], conv_options(2))
    file.operator("CONV_2D", [deep, *widened[2:]], [wide], conv_options())
    size = file.tensor((2,), np.int32, np.array([SIDE, SIDE]))
    large, result = (file.tensor((1, SIDE, SIDE, 8)) for _ in range(2))
    resize = schema.ResizeBilinearOptionsT()
    resize.halfPixelCenters = True
    file.operator("RESIZE_BILINEAR", [wide, size], [large], resize)
    file.operator("MUL", [large, large], [result], schema.MulOptionsT())
    return file.write(tmp_path / "pyramid.tflite", [photo], [result])


@pytest.fixture
def integers(tmp_path: Path) -> Path:
    """A float picture through a convolution in int8."""
    rng, file = np.random.default_rng(0), File()
    photo, result = file.tensor((1, SIDE, SIDE, 3)), file.tensor((1, SIDE, SIDE, 4))
    taken = file.tensor((1, SIDE, SIDE, 3), np.int8, scale=1 / 127)
    given = file.tensor((1, SIDE, SIDE, 4), np.int8, scale=1 / 64)
    levels = file.tensor((4, 3, 3, 3), np.int8, rng.integers(-127, 128, (4, 3, 3, 3)), scale=1 / 500)
    bias = file.tensor((4,), np.int32, rng.integers(-5000, 5000, 4), scale=1 / 127 / 500)
    file.operator("QUANTIZE", [photo], [taken])
    file.operator("CONV_2D", [taken, levels, bias], [given], conv_options())
    file.operator("DEQUANTIZE", [given], [result], schema.DequantizeOptionsT())
    return file.write(tmp_path / "integers.tflite", [photo], [result])


def run(content: bytes, inputs: list[Array]) -> list[Array]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize("name", ["pyramid", "integers"])
def test_the_pieces_compute_together_what_the_file_computes(
    name: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name)
    model = read_tflite(path)
    photo = np.random.default_rng(1).random((1, SIDE, SIDE, 3), np.float32)
    values: dict[int, Array] = {int(model.subgraphs[0].inputs[0]): photo}
    for piece in cut(model):
        results = run(piece.content, [values[number] for number in piece.inputs])
        values |= zip(piece.outputs, results, strict=True)
    (expected,) = run(path.read_bytes(), [photo])
    got = values[int(model.subgraphs[0].outputs[0])]
    assert expected.std() > 0.01
    assert np.abs(got - expected).max() < 1e-6, np.abs(got - expected).max()


def test_widened_weights_are_part_of_their_convolution_and_no_operator(pyramid: Path) -> None:
    pieces = cut(read_tflite(pyramid))
    assert [piece.type for piece in pieces] == [
        *("AVERAGE_POOL_2D", "CONV_2D", "CONV_2D", "RESIZE_BILINEAR", "MUL"),
    ]
    assert [piece.index for piece in pieces] == [4, 5, 6, 7, 8]
    assert pieces[-1].inputs == (pieces[-2].outputs[0],)  # given twice, fed once


def test_multiply_accumulates_are_counted_as_by_hand(pyramid: Path, integers: Path) -> None:
    quarter = (SIDE // 4) ** 2
    macs = [piece.macs for piece in cut(read_tflite(pyramid))]
    # the second one has two groups of four input channels
    assert macs == [None, quarter * 8 * 3 * 9, quarter * 8 * 4 * 9, None, None]
    assert [piece.macs for piece in cut(read_tflite(integers))] == [None, SIDE**2 * 4 * 3 * 9, None]


def test_what_works_on_more_pixels_than_the_network_is_outside(pyramid: Path, integers: Path) -> None:
    # The network reads half the side; the pool reads the whole, and so do the last two.
    assert [piece.outside for piece in cut(read_tflite(pyramid))] == [True, False, False, True, True]
    assert [piece.outside for piece in cut(read_tflite(integers))] == [False] * 3


def test_a_large_picture_folded_into_channels_is_outside_too(tmp_path: Path) -> None:
    """Fold, mean, network (halve, layer, unfold to the small picture), upsample, add, unfold."""
    rng, file = np.random.default_rng(0), File()
    fold, unfold = schema.SpaceToDepthOptionsT(), schema.DepthToSpaceOptionsT()
    fold.blockSize, unfold.blockSize = 4, 4
    half = schema.DepthToSpaceOptionsT()
    half.blockSize = 2
    photo, folded, small = (file.tensor((1, *shape)) for shape in ((32, 32, 3), (8, 8, 48), (8, 8, 3)))
    deep, head, clean = (file.tensor((1, *shape)) for shape in ((4, 4, 8), (4, 4, 12), (8, 8, 3)))
    large, total, result = (file.tensor((1, *shape)) for shape in ((8, 8, 48), (8, 8, 48), (32, 32, 3)))

    def conv(source: int, target: int, *shape: int, stride: int = 1) -> None:
        given = [file.tensor(s, np.float32, weights(rng, *s)) for s in (shape, shape[:1])]
        file.operator("CONV_2D", [source, *given], [target], conv_options(stride))

    file.operator("SPACE_TO_DEPTH", [photo], [folded], fold)
    conv(folded, small, 3, 1, 1, 48)
    conv(small, deep, 8, 2, 2, 3, stride=2)
    conv(deep, head, 12, 1, 1, 8)
    file.operator("DEPTH_TO_SPACE", [head], [clean], half)
    conv(clean, large, 48, 3, 3, 3)
    file.operator("ADD", [folded, large], [total], schema.AddOptionsT())
    file.operator("DEPTH_TO_SPACE", [total], [result], unfold)
    path = file.write(tmp_path / "folded.tflite", [photo], [result])
    outside = [piece.outside for piece in cut(read_tflite(path))]
    assert outside == [True, True, False, False, False, True, True, True]
    assert profile(path)["operators"][0]["ms"] is not None


def test_a_graph_without_convolutions_has_no_inside(tmp_path: Path) -> None:
    file = File()
    photo, half = file.tensor((1, SIDE, SIDE, 3)), file.tensor((1, SIDE // 2, SIDE // 2, 3))
    file.operator("AVERAGE_POOL_2D", [photo], [half], pool_options())
    path = file.write(tmp_path / "pool.tflite", [photo], [half])
    assert [piece.outside for piece in cut(read_tflite(path))] == [None]
    assert profile(path)["outside_share"] is None


def profile(path: Path, rounds: int = 3) -> dict[str, Any]:
    square = np.ones((64, 64), np.float32)
    return profile_operators(path, matmul=(lambda: square @ square, 2 * 64**3), rounds=rounds)


def test_the_profile_adds_up_and_fits_the_schema(pyramid: Path) -> None:
    from jsonschema import Draft202012Validator

    from afterlens.benchmarks.document import SCHEMA_FILE

    found = profile(pyramid)
    rules = {"$ref": "#/$defs/Operators", "$defs": json.loads(SCHEMA_FILE.read_text())["$defs"]}
    assert list(Draft202012Validator(rules).iter_errors(found)) == []
    operators = found["operators"]
    assert found["sum_ms"] == pytest.approx(sum(operator["ms"] for operator in operators))
    outside = sum(operator["ms"] for operator in operators if operator["outside"])
    assert found["outside_share"] == pytest.approx(outside / found["sum_ms"])
    assert Counter(operator["type"] for operator in operators) == {
        entry["type"]: entry["count"] for entry in found["types"]
    }
    assert sum(entry["share"] for entry in found["types"]) == pytest.approx(1)
    times = [entry["ms"] for entry in found["types"]]
    assert times == sorted(times, reverse=True)
    conv = operators[1]
    assert (conv["input"], conv["weights"], conv["output"]) == ("1x16x16x3", "8x3x3x3", "1x8x8x8")
    assert conv["gflops"] == pytest.approx(2 * 64 * 8 * 27 / conv["ms"] / 1e6)
    assert conv["share_of_matmul"] == pytest.approx(conv["gflops"] / found["matmul_gflops"])
    assert operators[0]["gflops"] is None


def test_in_each_round_every_call_runs_twice_and_the_second_run_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, order = [0.0], list[str]()
    for clock in ("thread_time", "perf_counter"):
        monkeypatch.setattr(operators.time, clock, lambda: now[0])

    def call(name: str, seconds: float) -> None:
        now[0] += seconds * (100.0 if order[-1:] != [name] else 1.0)  # the first time the caches are cold
        order.append(name)

    calls = [lambda: call("a", 0.001), lambda: call("b", 0.002)]
    for threads in (1, 2):
        assert operators._rounds(calls, 3, threads) == [pytest.approx([1.0, 2.0])] * 3
        assert "".join(order) == "aabb" * 3
        order.clear()


def test_an_operator_that_does_not_run_alone_has_no_time(tmp_path: Path) -> None:
    """A RESHAPE whose shape is computed gets zeros for it here, and the runtime refuses them."""
    file = File()
    photo, flat = file.tensor((1, 4, 4, 3)), file.tensor((1, 48))
    shape, computed = file.tensor((2,), np.int32, np.array([1, 48])), file.tensor((2,), np.int32)
    given = file.tensor((2,), np.int32)
    file.operator("ADD", [given, shape], [computed], schema.AddOptionsT())
    file.operator("RESHAPE", [photo, computed], [flat])
    path = file.write(tmp_path / "reshape.tflite", [photo, given], [flat])
    # ... and the file as a whole too, as its second input is zero: 0 + (1, 48) is right.
    found = profile(path)
    assert [operator["ms"] is None for operator in found["operators"]] == [False, True]
    assert [entry["type"] for entry in found["types"]] == ["ADD"]


def test_damaged_graphs_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 40)
    with pytest.raises(UserError, match="damaged.tflite"):
        profile(path)
    file = File()
    photo = file.tensor((1, 8, 8, 3))
    file.operator("LOGISTIC", [photo], [77])
    with pytest.raises(UserError, match="the file is damaged or cut") as caught:
        profile(file.write(path, [photo], [photo]))
    assert "\n" not in str(caught.value)
