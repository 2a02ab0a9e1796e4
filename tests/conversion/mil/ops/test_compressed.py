"""Compressed weights: coremltools compresses, its own decompression of the program in memory is the reference."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.ops.compressed import (
    COMPRESSED,
    constexpr_affine_dequantize,
    constexpr_lut_to_dense,
    constexpr_lut_to_sparse,
    constexpr_sparse_to_dense,
)
from afterlens.conversion.mil.package import unpack_bits
from tests.conversion.mil import programs
from tests.conversion.mil.programs import RNG, Cases, Computed, Save, names_of, normal

X = normal(1, 8, 6, 6)


@pytest.fixture(scope="module")
def dense(coremltools: ModuleType) -> Any:
    """Two iOS 18 models of one convolution with 8 -> 16 channels: the second for group-wise compression of iOS 18."""
    module = torch.nn.Conv2d(8, 16, 3, bias=False).eval()
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(RNG.standard_normal(module.weight.shape).astype(np.float32)))
        traced = torch.jit.trace(module, torch.from_numpy(X))
    ct = coremltools

    def converted(target: str) -> Any:
        return ct.convert(
            traced,
            inputs=[ct.TensorType(name="x", shape=X.shape)],
            minimum_deployment_target=getattr(ct.target, target),
            skip_model_load=True,
        )

    return {target: converted(target) for target in ("iOS16", "iOS18")}


def linear(cto: Any, **options: Any) -> Any:
    return cto.linear_quantize_weights, cto.OpLinearQuantizerConfig(**options, weight_threshold=0)


def palette(cto: Any, **options: Any) -> Any:
    return cto.palettize_weights, cto.OpPalettizerConfig(**options, weight_threshold=0)


def sparse(cto: Any, **options: Any) -> Any:
    return cto.prune_weights, cto.OpMagnitudePrunerConfig(**options, weight_threshold=0)


def decompressed(variable: Any) -> Any:
    """coremltools' own decompression, which does not follow a palette that is compressed itself."""
    op = variable.op
    if op.op_type == "constexpr_lut_to_dense" and op.lut.val is None:
        return op.decompress(op.indices.val, decompressed(op.lut), None)
    return op.materialized_val_inference()


@pytest.mark.parametrize(
    ("target", "how", "options", "operators"),
    [
        ("iOS16", linear, {"mode": "linear_symmetric"}, ["constexpr_affine_dequantize"]),
        ("iOS16", linear, {"mode": "linear", "dtype": "uint8"}, ["constexpr_affine_dequantize"]),
        ("iOS16", palette, {"mode": "uniform", "nbits": 6}, ["constexpr_lut_to_dense"]),
        ("iOS16", palette, {"mode": "kmeans", "nbits": 4}, ["constexpr_lut_to_dense"]),
        ("iOS16", sparse, {"target_sparsity": 0.6}, ["constexpr_sparse_to_dense"]),
        (
            "iOS18",
            linear,
            {"mode": "linear", "dtype": "int4", "granularity": "per_block", "block_size": 4},
            ["constexpr_blockwise_shift_scale"],
        ),
        (
            "iOS18",
            palette,
            {"mode": "uniform", "nbits": 3, "granularity": "per_grouped_channel", "group_size": 4},
            ["constexpr_lut_to_dense"],
        ),
        ("iOS18", palette, {"mode": "uniform", "nbits": 2, "enable_per_channel_scale": True}, [
            "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense",
        ]),
        ("iOS18", sparse, {"target_sparsity": 0.5}, ["constexpr_sparse_to_dense"]),
        # Every width of a palette, and the granularities that are left
        *[
            ("iOS16", palette, {"mode": "uniform", "nbits": bits}, ["constexpr_lut_to_dense"])
            for bits in (1, 2, 8)
        ],
        ("iOS16", linear, {"mode": "linear"}, ["constexpr_affine_dequantize"]),
        ("iOS18", linear, {"mode": "linear_symmetric"}, ["constexpr_blockwise_shift_scale"]),
        ("iOS18", linear, {"mode": "linear_symmetric", "granularity": "per_tensor"}, [
            "constexpr_blockwise_shift_scale",
        ]),
        ("iOS18", linear, {"mode": "linear", "dtype": "uint4"}, ["constexpr_blockwise_shift_scale"]),
        ("iOS18", palette, {"mode": "kmeans", "nbits": 4, "cluster_dim": 2}, ["constexpr_lut_to_dense"]),
    ],
)  # fmt: skip
def test_compressed_convolution(
    coremltools: ModuleType,
    dense: Any,
    tmp_path: Any,
    target: str,
    how: Any,
    options: dict[str, Any],
    operators: list[str],
) -> None:
    import coremltools.optimize.coreml as cto

    compress, config = how(cto, **options)
    model = compress(dense[target], cto.OptimizationConfig(global_config=config))
    path = tmp_path / "model.mlpackage"
    model.save(str(path))
    program = MilProgram.load(path)
    assert [o.op_type for o in program.operators() if o.op_type.startswith("constexpr_")] == operators

    (conv,) = model._mil_program.functions["main"].find_ops(op_type="conv")
    weight = decompressed(conv.weight)
    expected = F.conv2d(torch.from_numpy(X).half().float(), torch.from_numpy(weight).float()).numpy()
    (result,) = program.run({"x": X}).values()
    assert np.abs(weight).max() > 1
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=6e-3)  # the result is stored as float16


@pytest.mark.parametrize(
    ("how", "options", "operators"),
    [
        (palette, {"mode": "uniform", "nbits": 4}, ["constexpr_lut_to_sparse", "constexpr_sparse_to_dense"]),
        (linear, {"mode": "linear_symmetric"}, ["constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"]),
    ],
)  # fmt: skip
def test_a_sparse_convolution_compressed_once_more(
    coremltools: ModuleType,
    dense: Any,
    tmp_path: Any,
    how: Any,
    options: dict[str, Any],
    operators: list[str],
) -> None:
    """coremltools' joint compression; its own decompression is followed by hand."""
    import coremltools.optimize.coreml as cto

    prune, pruning = sparse(cto, target_sparsity=0.5)
    pruned = prune(dense["iOS18"], cto.OptimizationConfig(global_config=pruning))
    compress, config = how(cto, **options)
    model = compress(pruned, cto.OptimizationConfig(global_config=config), joint_compression=True)
    model.save(str(tmp_path / "model.mlpackage"))
    program = MilProgram.load(tmp_path / "model.mlpackage")
    assert [o.op_type for o in program.operators() if o.op_type.startswith("constexpr_")] == operators

    (conv,) = model._mil_program.functions["main"].find_ops(op_type="conv")
    inner = conv.weight.op.nonzero_data.op
    mask, values = inner.materialized_val_inference()
    weight = np.zeros(mask.shape, np.float32)
    weight[mask != 0] = values
    expected = F.conv2d(torch.from_numpy(X).half().float(), torch.from_numpy(weight)).numpy()
    (result,) = program.run({"x": X}).values()
    assert 0.45 < np.mean(weight == 0) < 0.6
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=6e-3)


def test_no_compressed_operator_is_left_untested() -> None:
    """Each name stands in a test above."""
    text = Path(__file__).read_text("utf-8")
    for name in COMPRESSED:
        assert text.count(name) >= 1


@pytest.mark.parametrize(("axis", "shape"), [(0, (3, 1)), (1, (1, 4)), (None, (1, 1))])
def test_affine_weights_along_an_axis(axis: int | None, shape: tuple[int, int]) -> None:
    codes = RNG.integers(-128, 128, (3, 4)).astype(np.int8)
    scale, zero = RNG.uniform(0.1, 1, shape).astype(np.float32), RNG.integers(-9, 9, shape).astype(np.int8)
    given = (scale.ravel(), zero.ravel()) if axis is not None else (scale[0, 0], zero[0, 0])
    dense = constexpr_affine_dequantize(codes, given[1], given[0], axis)
    for row, column in np.ndindex(3, 4):
        place = (row % shape[0], column % shape[1])
        assert dense[row, column] == pytest.approx(
            scale[place] * (int(codes[row, column]) - int(zero[place])), rel=1e-6
        )


@pytest.mark.parametrize("axis", [0, 1])
def test_sparse_vectors_of_a_palette(axis: int) -> None:
    """A set bit stands for two neighbours along `vector_axis`."""
    mask = (RNG.random((3, 4)) < 0.6).astype(np.uint8)
    codes = RNG.integers(0, 4, int(mask.sum())).astype(np.uint8)
    palettes = normal(1, 1, 4, 2)
    wide, values = constexpr_lut_to_sparse(mask, codes, palettes, vector_axis=axis)
    dense = constexpr_sparse_to_dense(values, wide)
    expected = np.zeros(dense.shape, np.float32)
    for number, (row, column) in enumerate(np.argwhere(mask)):
        for part in range(2):
            place = (2 * row + part, column) if axis == 0 else (row, 2 * column + part)
            expected[place] = palettes[0, 0, codes[number], part]
    np.testing.assert_array_equal(dense, expected)


def test_contradictory_compressed_weights_are_refused() -> None:
    three = np.zeros((3, 4), np.uint8)
    for call in (
        lambda: constexpr_lut_to_dense(three, np.zeros(3, np.float32), np.array([3, 4])),  # no power of two
        lambda: constexpr_lut_to_dense(
            three.ravel()[:5], np.zeros(16, np.float32), np.array([3, 4])
        ),  # too few bytes
        lambda: constexpr_lut_to_dense(three + 4, np.zeros((1, 1, 4, 1), np.float32)),  # an index too large
        lambda: constexpr_lut_to_dense(three, np.zeros((2, 1, 4, 1), np.float32)),  # 2 blocks of 3 rows
        lambda: constexpr_sparse_to_dense(np.zeros(2, np.float32), np.eye(3, dtype=np.uint8)),
        lambda: constexpr_affine_dequantize(three, np.zeros(4), np.ones(4), 0),
    ):
        with pytest.raises(ValueError, match=r"\w+"):
            call()


def test_sparse_and_quantized_or_palettized_together(coremltools: ModuleType, save_program: Save) -> None:
    """Joint compression of iOS 18: sparse values that are quantized, and sparse indices into a palette."""
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    mask = (RNG.random((4, 6)) < 0.5).astype(types.np_uint1_dtype)
    values = RNG.integers(-8, 8, int(mask.astype(int).sum())).astype(np.int8)
    scale = RNG.uniform(0.1, 1, (4, 2)).astype(np.float32)
    offset = RNG.integers(-3, 4, (4, 2)).astype(np.int8)
    codes = RNG.integers(0, 4, values.size).astype(types.np_uint2_dtype)
    palettes = normal(2, 1, 4, 1)

    def build(x: Any) -> list[Any]:
        bits, shifted = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=mask, nonzero_data=values, scale=scale, offset=offset
        )
        quantized = mb.constexpr_sparse_to_dense(nonzero_data=shifted, mask=bits)
        bits, chosen = mb.constexpr_lut_to_sparse(indices_mask=mask, indices_nonzero_data=codes, lut=palettes)
        palettized = mb.constexpr_sparse_to_dense(nonzero_data=chosen, mask=bits)
        return [mb.add(x=x, y=quantized), mb.add(x=x, y=palettized)]

    zero = np.zeros((4, 6), np.float32)
    quantized, palettized = MilProgram.load(save_program(build, {"x": zero})).run({"x": zero}).values()
    expected = np.zeros((2, 4, 6), np.float32)
    counter = iter(range(values.size))
    for row, column in np.argwhere(mask.astype(int)):
        i = next(counter)
        expected[0, row, column] = scale[row, column // 3] * (
            float(values[i]) - float(offset[row, column // 3])
        )
        expected[1, row, column] = palettes[row // 2, 0, int(codes[i]), 0]
    np.testing.assert_allclose(quantized, expected[0], rtol=1e-6)
    np.testing.assert_allclose(palettized, expected[1], rtol=0)


def test_a_palette_of_vectors(coremltools: ModuleType, save_program: Save) -> None:
    """Each index stands for two neighbours along axis 0."""
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    codes = RNG.integers(0, 4, (3, 5)).astype(types.np_uint2_dtype)
    palettes = normal(1, 5, 4, 2)
    zero = np.zeros((6, 5), np.float32)
    path = save_program(
        lambda x: [
            mb.add(x=x, y=mb.constexpr_lut_to_dense(indices=codes, lut=palettes, vector_axis=np.int32(0)))
        ],
        {"x": zero},
    )
    (result,) = MilProgram.load(path).run({"x": zero}).values()
    for row, column in np.ndindex(6, 5):
        assert result[row, column] == palettes[0, column, int(codes[row // 2, column]), row % 2]


def test_float16_weights_of_a_float32_program(coremltools: ModuleType, save_program: Save) -> None:
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813

    weights = normal(4, 4).astype(np.float16)
    x = np.eye(4, dtype=np.float32)
    path = save_program(
        lambda x: [mb.matmul(x=x, y=mb.constexpr_cast(source_val=weights, output_dtype="fp32"))], {"x": x}
    )
    (result,) = MilProgram.load(path).run({"x": x}).values()
    np.testing.assert_array_equal(result, weights.astype(np.float32))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_packed_bits(bits: int, signed: bool) -> None:
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    values = RNG.integers(low, high, 37)
    text = "".join(f"{int(v) & ((1 << bits) - 1):0{bits}b}"[::-1] for v in values)  # least significant first
    text += "0" * (-len(text) % 8)
    packed = np.array([int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8)], np.uint8)
    np.testing.assert_array_equal(unpack_bits(packed, bits, 37, signed), values)


def run_time_cases(mb: Any) -> Cases:
    cases = Cases()
    add, t = cases.add, torch.from_numpy
    zero = np.array([3, -4, 0, 7], np.int8)
    steps = np.array([0.1, 0.02, 0.5, 0.3], np.float32)

    add(
        "quantize",
        lambda x, **v: mb.cast(
            x=mb.quantize(input=x, scale=steps, zero_point=zero, axis=1, output_dtype="int8"), dtype="int32"
        ),
        lambda: (torch.round(programs.X["x"] / t(steps)[:, None, None]) + t(zero)[:, None, None]).clamp(
            -128, 127
        ),
    )
    add(
        "dequantize",
        lambda x, **v: mb.dequantize(
            input=mb.quantize(input=x, scale=steps, zero_point=zero, axis=1, output_dtype="int8"),
            scale=steps,
            zero_point=zero,
            axis=1,
        ),
        lambda: torch.fake_quantize_per_channel_affine(
            programs.X["x"], t(steps), t(zero).int(), 1, -128, 127
        ),
    )
    return cases


@pytest.fixture(scope="module")
def run_time(save_program: Save) -> Computed:
    return Computed(save_program, run_time_cases, "iOS18")


@pytest.mark.parametrize("name", names_of(run_time_cases))
def test_run_time_quantization_agrees_with_pytorch(run_time: Computed, name: str) -> None:
    run_time.check(name)
