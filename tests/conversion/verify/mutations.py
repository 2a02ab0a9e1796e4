"""Faults put into saved artifacts in place, to see whether `verify` notices; docs/proof.md has the table.

They are those that converters and people really make. A mutation takes the path of an artifact, a `.tflite` file or an
`.mlpackage` folder, and damages it such that it still loads and runs, except where it says otherwise.
"""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import digest, read_bundle, write_contract
from afterlens.conversion.mil.package import read_package
from afterlens.conversion.tflite.graph import pack, read_tflite

Array = NDArray[Any]
Mutation = Callable[[Path], None]

# Numbers of schema.fbs
_TRANSPOSE, _RESIZE_BILINEAR, _RESIZE_NEAREST = 39, 23, 97
_FLOATS = {0: np.float32, 1: np.float16}


def seal(folder: Path) -> None:
    """Write the artifacts' present sha256 and size into model.json, as if the converter had made them so."""
    bundle = read_bundle(folder)
    artifacts = []
    for artifact in bundle.contract.artifacts:
        sha256, size = digest(bundle.path(artifact))
        artifacts.append(replace(artifact, sha256=sha256, bytes=size))
    write_contract(folder, replace(bundle.contract, artifacts=tuple(artifacts)))


def is_coreml(path: Path) -> bool:
    return path.suffix == ".mlpackage"


# Weights


def weights(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of the float constants with more than 16 values, as the format lays them out."""
    if is_coreml(path):
        shapes = {
            op.outputs[0].name: tuple(d.constant.size for d in op.outputs[0].type.tensorType.dimensions)
            for op in _operations(read_package(path).model)
            if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue"
        }
    else:
        model = read_tflite(path)
        shapes = {
            f"{i} {tensor.name.decode()}": tuple(int(side) for side in tensor.shape)
            for i, tensor in enumerate(model.subgraphs[0].tensors)
            if tensor.type in _FLOATS and model.buffers[tensor.buffer].data is not None
        }
    return {name: shape for name, shape in shapes.items() if np.prod(shape) > 16}


def change_weight(path: Path, name: str, change: Callable[[Array], Array]) -> None:
    """Overwrite the weight `name` of `weights(path)` in the saved file."""
    if is_coreml(path):
        package = read_package(path)
        (value,) = (op.attributes["val"] for op in _operations(package.model) if op.outputs[0].name == name)
        old = np.asarray(package.value(value))
        file = path / "Data" / "com.apple.CoreML" / value.blobFileValue.fileName.removeprefix("@model_path/")
        data = bytearray(file.read_bytes())
        size, start = struct.unpack_from("<QQ", data, value.blobFileValue.offset + 8)
        data[start : start + size] = _changed(old, change).astype(np.float16).tobytes()
        file.write_bytes(data)
    else:
        model = read_tflite(path)
        tensor = model.subgraphs[0].tensors[int(name.split(maxsplit=1)[0])]
        buffer = model.buffers[tensor.buffer]
        dtype = _FLOATS[tensor.type]
        old = np.asarray(buffer.data, np.uint8).view(dtype).reshape(tensor.shape)
        buffer.data = _changed(old, change).astype(dtype).reshape(-1).view(np.uint8)
        path.write_bytes(pack(model))


def _changed(old: Array, change: Callable[[Array], Array]) -> Array:
    new = np.ascontiguousarray(change(old))
    assert new.shape == old.shape and not np.array_equal(new, old), "the mutation changes nothing"
    return new


def zero_a_weight(path: Path) -> None:
    """The largest weight is lost."""
    shapes = weights(path)
    change_weight(path, max(shapes, key=lambda name: np.prod(shapes[name])), np.zeros_like)


def zero_one_kernel(path: Path) -> None:
    """One output channel of the largest weight is lost."""

    def change(weight: Array) -> Array:
        weight = weight.copy()
        weight[0] = 0
        return weight

    shapes = weights(path)
    change_weight(path, max(shapes, key=lambda name: np.prod(shapes[name])), change)


def not_a_number(path: Path) -> None:
    """One value of the first weight is NaN."""

    def change(weight: Array) -> Array:
        weight = weight.copy()
        weight.flat[0] = np.nan
        return weight

    change_weight(path, next(iter(weights(path))), change)


def swap_input_channels(path: Path) -> None:
    """BGR is read as RGB: the first convolution's input channels in reverse."""
    axis = 1 if is_coreml(path) else 3
    shapes = weights(path)
    name = next(n for n, shape in shapes.items() if len(shape) == 4 and shape[axis] == 3)
    change_weight(path, name, lambda weight: np.flip(weight, axis))


def swap_output_channels(path: Path) -> None:
    """RGB is written as BGR: a last layer's output channels in reverse."""
    coreml = is_coreml(path)
    axis = 1 if coreml else 0
    shapes = {name: shape for name, shape in weights(path).items() if len(shape) == 4}
    transposed = [name for name, shape in shapes.items() if shape[axis] == 3]
    if transposed:
        change_weight(path, transposed[-1], lambda weight: np.flip(weight, axis))
        return
    # A pixel-shuffle's 4x4 places of three colours: Core ML keeps a colour's places together, TFLite a place's colours.
    name = next(name for name, shape in shapes.items() if shape[0] == 48 and tuple(shape[-2:]) != (3, 3))
    order = np.arange(48).reshape(3, 16)[::-1] if coreml else np.arange(48).reshape(16, 3)[:, ::-1]
    change_weight(path, name, lambda weight: weight[order.reshape(-1)])


# Graph


def align_corners(path: Path) -> None:
    """Bilinear upsampling with the corners' centres aligned."""
    if is_coreml(path):
        _edit_coreml(path, lambda model: _set_align_corners(model, True))
    else:
        _edit_resizes(path, align_corners=True, half_pixel_centers=False)


def no_half_pixel_centres(path: Path) -> None:
    """Bilinear upsampling whose samples sit on the pixels' corners: the default of old TensorFlow. TFLite only."""
    _edit_resizes(path, align_corners=False, half_pixel_centers=False)


def nearest_neighbour(path: Path) -> None:
    """Nearest instead of bilinear upsampling."""

    def edit_coreml(model: Any) -> None:
        for op in _operations(model):
            if op.type == "upsample_bilinear":
                op.type = "upsample_nearest_neighbor"
                del op.inputs["align_corners"]

    if is_coreml(path):
        _edit_coreml(path, edit_coreml)
    else:
        _edit_resizes(path, align_corners=False, half_pixel_centers=True, kind=_RESIZE_NEAREST)


def transpose_input(path: Path) -> None:
    """Height and width of the input change places; at a square size no shape tells."""
    _insert_transpose(path, at_input=True)


def transpose_output(path: Path) -> None:
    """Height and width of the first output change places; at a square size no shape tells."""
    _insert_transpose(path, at_input=False)


def channels_first_output(path: Path) -> None:
    """The first output is NCHW. TFLite only: a Core ML picture has no such choice."""
    _insert_transpose(path, at_input=False, permutation=(0, 3, 1, 2))


def swap_outputs(path: Path) -> None:
    """The two outputs have each other's names."""

    def edit(model: Any) -> None:
        one, other = _block(model).outputs
        names = {one: other, other: one}
        for op in _operations(model):
            for output in op.outputs:
                output.name = names.get(output.name, output.name)

    if is_coreml(path):
        _edit_coreml(path, edit)
    else:
        model = read_tflite(path)
        _swap_names(*model.signatureDefs[0].outputs)
        path.write_bytes(pack(model))


def swap_inputs(path: Path) -> None:
    """The two inputs have each other's names; for a network that has two."""

    def edit(model: Any) -> None:
        one, other = (feature.name for feature in model.description.input)
        names = {one: other, other: one}
        for op in _operations(model):
            for argument in op.inputs.values():
                for binding in argument.arguments:
                    binding.name = names.get(binding.name, binding.name)

    if is_coreml(path):
        _edit_coreml(path, edit)
    else:
        model = read_tflite(path)
        _swap_names(*model.signatureDefs[0].inputs)
        path.write_bytes(pack(model))


def _swap_names(one: Any, other: Any) -> None:
    one.name, other.name = other.name, one.name


def scale_input_wrongly(path: Path) -> None:
    """The picture is divided by 256 instead of 255. Core ML only: TFLite takes [0, 1]."""

    def edit(model: Any) -> None:
        right, wrong = np.float16(1 / 255).tobytes(), np.float16(1 / 256).tobytes()
        scales = [
            op.attributes["val"].immediateValue.tensor.bytes
            for op in _operations(model)
            if op.type == "const"
        ]
        for scale in scales:
            if scale.values == right:
                scale.values = wrong

    _edit_coreml(path, edit)


def declare_bgr(path: Path) -> None:
    """The package asks for its input in BGR. Core ML only."""

    def edit(model: Any) -> None:
        model.description.input[0].type.imageType.colorSpace = 30

    _edit_coreml(path, edit)


# Files


def truncate(path: Path) -> None:
    """The last tenth of the file (of the weights) is missing: it must not load."""
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin" if is_coreml(path) else path
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 9 // 10])


def flip_a_bit(path: Path) -> None:
    """One bit in the middle of the file (of the weights) is flipped: to be found by sha256, not by results."""
    file = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin" if is_coreml(path) else path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _edit_resizes(path: Path, align_corners: bool, half_pixel_centers: bool, kind: int | None = None) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = read_tflite(path)
    resizes = [op for op in model.subgraphs[0].operators if _code(model, op) == _RESIZE_BILINEAR]
    assert resizes
    for op in resizes:
        if kind == _RESIZE_NEAREST:
            op.opcodeIndex = _add_code(model, _RESIZE_NEAREST)
            op.builtinOptionsType = schema.BuiltinOptions.ResizeNearestNeighborOptions
            op.builtinOptions = schema.ResizeNearestNeighborOptionsT()
        op.builtinOptions.alignCorners = align_corners
        op.builtinOptions.halfPixelCenters = half_pixel_centers
    path.write_bytes(pack(model))


def _code(model: Any, op: Any) -> int:
    code = model.operatorCodes[op.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _add_code(model: Any, builtin: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _insert_transpose(path: Path, at_input: bool, permutation: tuple[int, ...] | None = None) -> None:
    if is_coreml(path):
        _edit_coreml(path, lambda model: _insert_coreml_transpose(model, at_input))
    else:
        model = read_tflite(path)
        _insert_tflite_transpose(model, at_input, permutation or (0, 2, 1, 3))
        path.write_bytes(pack(model))


def _insert_tflite_transpose(model: Any, at_input: bool, permutation: tuple[int, ...]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    entry = (signature.inputs if at_input else signature.outputs)[0]
    port = entry.tensorIndex
    buffer = schema.BufferT()
    buffer.data = np.array(permutation, "<i4").view(np.uint8)
    model.buffers.append(buffer)
    axes = schema.TensorT()
    axes.name, axes.shape, axes.type, axes.buffer = b"mutation_axes", [4], 2, len(model.buffers) - 1
    moved = schema.TensorT()
    moved.name, moved.type, moved.buffer = b"mutation", 0, 0
    moved.shape = [int(graph.tensors[port].shape[axis]) for axis in permutation]
    graph.tensors += [axes, moved]
    new = len(graph.tensors) - 1
    op = schema.OperatorT()
    op.opcodeIndex = _add_code(model, _TRANSPOSE)
    op.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    op.builtinOptions = schema.TransposeOptionsT()
    op.inputs, op.outputs = [port, new - 1], [new]
    if at_input:
        for other in graph.operators:
            other.inputs = [new if i == port else int(i) for i in other.inputs]
        graph.operators.insert(0, op)
    else:
        graph.operators.append(op)
        graph.outputs = [new if i == port else int(i) for i in graph.outputs]
        entry.tensorIndex = new


def _edit_coreml(path: Path, edit: Callable[[Any], None]) -> None:
    package = read_package(path)
    before = package.model.SerializeToString(deterministic=True)
    edit(package.model)
    after = package.model.SerializeToString(deterministic=True)
    assert after != before, "the mutation changes nothing"
    (path / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(after)


def _block(model: Any) -> Any:
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def _operations(model: Any) -> list[Any]:
    return list(_block(model).operations)


def _set_align_corners(model: Any, value: bool) -> None:
    names = {
        op.inputs["align_corners"].arguments[0].name
        for op in _operations(model)
        if op.type == "upsample_bilinear"
    }
    for op in _operations(model):
        if op.outputs[0].name in names:
            op.attributes["val"].immediateValue.tensor.bools.values[0] = value


def _insert_coreml_transpose(model: Any, at_input: bool) -> None:
    block = _block(model)
    before = list(block.operations)
    if at_input:  # after the first operation, which scales the picture
        index = next(i for i, op in enumerate(before) if op.type != "const") + 1
    else:  # before the last, which casts the picture
        index = next(i for i, op in enumerate(before) if op.outputs[0].name == block.outputs[0])
    source = before[index - 1].outputs[0] if at_input else None
    if source is None:
        name = before[index].inputs["x"].arguments[0].name
        (source,) = (output for op in before for output in op.outputs if output.name == name)
    axes = type(before[0])(type="const")
    axes.outputs.add(name="mutation_axes")
    value_type = axes.outputs[0].type.tensorType
    value_type.dataType, value_type.rank = 23, 1  # int32
    value_type.dimensions.add().constant.size = 4
    axes.attributes["val"].type.CopyFrom(axes.outputs[0].type)
    axes.attributes["val"].immediateValue.tensor.ints.values.extend((0, 1, 3, 2))
    op = type(before[0])(type="transpose")
    op.inputs["x"].arguments.add(name=source.name)
    op.inputs["perm"].arguments.add(name="mutation_axes")
    op.outputs.add(name="mutation").type.CopyFrom(source.type)
    for other in before[index:]:
        for argument in other.inputs.values():
            for binding in argument.arguments:
                if binding.name == source.name:
                    binding.name = "mutation"
    del block.operations[:]
    block.operations.extend([*before[:index], axes, op, *before[index:]])


EVERYWHERE: tuple[Mutation, ...] = (
    swap_input_channels,
    swap_output_channels,
    transpose_input,
    transpose_output,
    swap_outputs,
    align_corners,
    nearest_neighbour,
    zero_a_weight,
    zero_one_kernel,
    not_a_number,
    truncate,
)
TFLITE_ONLY: tuple[Mutation, ...] = (no_half_pixel_centres, channels_first_output)
COREML_ONLY: tuple[Mutation, ...] = (scale_input_wrongly, declare_bgr)
