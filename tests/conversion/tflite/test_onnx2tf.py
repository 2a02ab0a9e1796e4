"""onnx2tf's files: names and signature, what they compute, and what happens when the tool fails."""

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from torch import Tensor, nn

from afterlens.conversion import lower
from afterlens.conversion.bundle.contract import Bundle
from afterlens.conversion.bundle.layout import Reference, file_shape
from afterlens.conversion.convert import reference
from afterlens.conversion.operator_counts import operator_counts
from afterlens.conversion.tflite.graph import read_tflite
from afterlens.conversion.tflite.onnx2tf import (
    Onnx2tf,
    _reason,
    _refusal,
    align_corners,
    finish_tflite,
    minimum_tflite,
)
from afterlens.conversion.tflite.onnx_export import export_onnx
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from tests.conversion.tflite.files import File

VARIANTS = ("float32", "float16")


def _accept(path: Path, /, *, graph: Path | None) -> None:
    """A check that every file passes."""


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, commands: str) -> None:
    """A shell script in the place of Python, which would run the tool."""
    script = folder / "tool"
    script.write_text(f"#!/bin/sh\n{commands}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def _file(bundle: Bundle, variant: str) -> Path:
    return bundle.folder / f"reflection_256x256_{variant}.tflite"


@pytest.fixture(scope="module")
def other_photo(deployable: Deployable, photo_paths: list[Path]) -> Reference:
    """What PyTorch makes of a photo that the conversion did not see."""
    return reference(deployable, [read_photo(photo_paths[0]).rgb])


def _run(path: Path, values: Reference) -> dict[str, NDArray[np.float32]]:
    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    outputs = runner(
        **{name: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for name, v in values.inputs.items()}
    )
    return {name: value.transpose(0, 3, 1, 2) for name, value in outputs.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_signature_has_the_ports_names_shapes_and_types(
    bundle: Bundle, deployable: Deployable, variant: str
) -> None:
    interpreter = Interpreter(str(_file(bundle, variant)))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["layer", "restored"]}
    }
    runner = interpreter.get_signature_runner()
    for details in (runner.get_input_details(), runner.get_output_details()):
        for name, detail in details.items():
            assert (detail["name"], detail["dtype"]) == (name, np.float32)
            assert tuple(detail["shape"]) == (1, 256, 256, 3) == file_shape(deployable.inputs[0])


@pytest.mark.parametrize(("variant", "least_psnr"), [("float32", 110.0), ("float16", 60.0)])
def test_each_output_is_what_pytorch_computes(
    bundle: Bundle, other_photo: Reference, variant: str, least_psnr: float
) -> None:
    outputs = _run(_file(bundle, variant), other_photo)
    for name, expected in other_photo.outputs.items():
        error = np.abs(outputs[name] - expected)
        psnr = -10 * np.log10(np.mean(error.astype(np.float64) ** 2))
        print(f"{variant} {name}: max {error.max():.2e}, {psnr:.1f} dB")
        assert psnr > least_psnr
        assert variant == "float16" or error.max() < 1e-4


def test_float16_weights_are_stored_in_half_the_bytes(bundle: Bundle) -> None:
    full, half = (operator_counts(_file(bundle, variant)).weight_bytes for variant in VARIANTS)
    assert (full["float16"], half["float32"]) == (0, 0)
    assert half["float16"] * 2 == full["float32"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_lie_at_multiples_of_16_bytes(bundle: Bundle, variant: str) -> None:
    data = np.frombuffer(_file(bundle, variant).read_bytes(), np.uint8)
    model = schema.Model.GetRootAs(data, 0)
    sizes = 0
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            start = buffer.DataAsNumpy().__array_interface__["data"][0] - data.__array_interface__["data"][0]
            assert start % 16 == 0
            sizes += buffer.DataLength()
    assert sizes > 1_000_000


def _rewrite(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a TFLite file, changed as a tree of objects and without its signature."""
    import flatbuffers

    model = read_tflite(source)
    model.signatureDefs = None
    change(model)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return target


def test_outputs_are_told_apart_by_what_they_compute_not_by_their_order(
    bundle: Bundle, deployable: Deployable, other_photo: Reference, tmp_path: Path
) -> None:
    def swap(model: Any) -> None:
        graph = model.subgraphs[0]
        graph.outputs = graph.outputs[::-1].copy()
        for place, index in enumerate(graph.outputs):
            graph.tensors[index].name = f"Identity_{place}".encode()

    source = _rewrite(_file(bundle, "float32"), tmp_path / "swapped.tflite", swap)
    finish_tflite(source, tmp_path / "named.tflite", deployable, other_photo, "float32")
    outputs = _run(tmp_path / "named.tflite", other_photo)
    for name, expected in other_photo.outputs.items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-4)


def test_a_file_that_computes_something_else_is_refused(
    bundle: Bundle, deployable: Deployable, other_photo: Reference, tmp_path: Path
) -> None:
    def clip_at_a_quarter(model: Any) -> None:
        """Shows whatever the weights are, even where the network changes nothing yet."""
        ones = [b for b in model.buffers if b.data is not None and bytes(b.data) == np.float32(1.0).tobytes()]
        assert ones
        for buffer in ones:
            buffer.data = np.frombuffer(np.float32(0.25).tobytes(), np.uint8)

    source = _rewrite(_file(bundle, "float32"), tmp_path / "clipped.tflite", clip_at_a_quarter)
    with pytest.raises(UserError, match="as PyTorch computes it"):
        finish_tflite(source, tmp_path / "named.tflite", deployable, other_photo, "float32")
    assert not (tmp_path / "named.tflite").exists()


def test_another_input_name_or_size_is_refused(
    bundle: Bundle, deployable: Deployable, other_photo: Reference, tmp_path: Path
) -> None:
    for port in (
        replace(deployable.inputs[0], name="photo"),
        replace(deployable.inputs[0], shape=(1, 3, 128, 256)),
    ):
        with pytest.raises(UserError, match="wrote the inputs"):
            finish_tflite(
                _file(bundle, "float32"),
                tmp_path / "named.tflite",
                replace(deployable, inputs=(port,)),
                other_photo,
                "float32",
            )


def test_the_oldest_runtime_is_read_from_the_file(bundle: Bundle, tmp_path: Path) -> None:
    assert minimum_tflite(_file(bundle, "float32")).startswith("TensorFlow Lite 2.")

    def forget(model: Any) -> None:
        model.metadata = None

    with pytest.raises(UserError, match="min_runtime_version"):
        minimum_tflite(_rewrite(_file(bundle, "float32"), tmp_path / "mute.tflite", forget))


def test_a_broken_graph_is_one_line_without_temporary_paths(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_text("no graph")
    with (
        pytest.raises(UserError, match="onnx2tf failed") as caught,
        Onnx2tf(tmp_path / "broken.onnx", tmp_path / "w") as tool,
    ):
        tool.finish(_accept)
    print(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "Error" in str(caught.value)


@pytest.fixture
def named_graph(tmp_path: Path) -> Path:
    """Two operators: one knows its layer and line, the other only its kind."""
    nodes = [
        onnx.helper.make_node(kind, [one], [other], name=name)
        for kind, one, other, name in (("Atan", "x", "y", "node_atan"), ("Relu", "y", "z", "node_relu"))
    ]
    for key, value in (
        ("name_scopes", "['', 'lens', 'lens.curve', 'atan']"),
        ("class_hierarchy", "['nets.Camera', 'nets.Lens', 'nets.parts.Curve', 'aten.atan.default']"),
        ("stack_trace", 'File "/home/me/nets/parts.py", line 12, in forward'),
    ):
        nodes[0].metadata_props.append(onnx.StringStringEntryProto(key=f"pkg.torch.onnx.{key}", value=value))
    ports = [onnx.helper.make_tensor_value_info(name, 1, [1, 3]) for name in "xz"]
    path = tmp_path / "named.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:])), path)
    return path


ATAN = "operator Atan (layer lens.curve (Curve); parts.py, line 12) (write it with other operators)"
LONG = "ValueError: " + "a" * 300


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", "no output"),
        ("\n  \n", "no output"),
        ("a hint\n  the end  \n", "the end"),
        ("KeyError: one\nan end", "KeyError: one"),
        (
            "  tensorflow.errors.InvalidArgumentError: two\nan end",
            "tensorflow.errors.InvalidArgumentError: two",
        ),
        ("OurException: three\nan Error: four", "OurException: three"),
        ("Errors: 5\nKeyErrors\nan end", "an end"),
        (LONG, LONG[:200]),
        ("onnx_op_name: node_atan\nKeyError: one", f"{ATAN}: KeyError: one"),
        ("onnx_op_name: wa/node_atan\nKeyError: one", f"{ATAN}: KeyError: one"),
        ("ERROR at ONNX operation: node_atan\nKeyError: one", f"{ATAN}: KeyError: one"),
        (
            "onnx_op_name: node_relu\nthe end",
            "operator Relu (the network's forward) (write it with other operators): the end",
        ),
        ("onnx_op_name: node_tan\nthe end", "operator node_tan (write it with other operators): the end"),
    ],
)
def test_what_a_log_says_of_a_failure(log: str, told: str, named_graph: Path) -> None:
    assert _reason(log, named_graph) == told


def test_a_graph_that_cannot_be_read_has_operators_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_text("no graph")
    said = _reason("onnx_op_name: node_atan\nKeyError: one", tmp_path / "broken.onnx")
    assert said == "operator node_atan (write it with other operators): KeyError: one"


def test_of_several_errors_the_last_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, "echo 'KeyError: first'\necho 'ValueError: last'\necho 'a hint'\nexit 3")
    (tmp_path / "graph.onnx").write_bytes(b"")
    with (
        pytest.raises(UserError, match=r"onnx2tf failed with exit code 3: ValueError: last$"),
        Onnx2tf(tmp_path / "graph.onnx", tmp_path / "w") as tool,
    ):
        tool.finish(_accept)


def test_success_without_files_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"")
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with (
        pytest.raises(UserError, match="no float32 file"),
        Onnx2tf(tmp_path / "graph.onnx", tmp_path / "w") as tool,
    ):
        tool.finish(_accept)


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_a_file_that_is_not_what_pytorch_computes_is_made_again_in_strict_mode(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int
) -> None:
    """The tool is a stand-in that writes down its arguments: the real one takes seconds."""
    copy = f"mkdir -p out\ncp {_file(bundle, 'float32')} out/graph_float32.tflite"
    _stand_in(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/calls\n{copy}')
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), tmp_path / "graph.onnx")
    seen: list[Path | None] = []

    def check(path: Path, /, *, graph: Path | None) -> None:
        assert path.is_file()
        seen.append(graph)
        if len(seen) <= refusals:
            raise UserError("not what PyTorch computes")

    with Onnx2tf(tmp_path / "graph.onnx", tmp_path / "w") as tool:
        if refusals == 2:
            with pytest.raises(UserError, match="not what PyTorch"):
                tool.finish(check)
        else:
            assert tool.finish(check).keys() == {"float32", "float16"}
    strict = ["--disable_strict_mode" not in line for line in (tmp_path / "calls").read_text().splitlines()]
    assert strict == [False, True][: refusals + 1]
    assert (
        seen == [None, tmp_path / "graph.onnx"][: refusals + 1]
    )  # no search after a refusal that is thrown away


def test_inputs_get_their_names_back_however_the_tool_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are numbered for it; it may add words of TensorFlow's own."""
    names = ("photo", "Photo", "style")
    ports = [onnx.helper.make_tensor_value_info(name, 1, [1, 3]) for name in names]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", ports, [])), tmp_path / "graph.onnx")
    file = File()
    tensors = [file.tensor((1, 3)) for _ in names]
    for tensor, name in zip(tensors, ("port_2", "serving_default_port_0:0", "port_1:0"), strict=True):
        file.graph.tensors[tensor].name = name.encode()
    result = file.tensor((1, 3))
    file.operator("ADD", tensors[:2], [result], schema.AddOptionsT())
    made = file.write(tmp_path / "made.tflite", tensors, [result])
    _stand_in(tmp_path, monkeypatch, f"mkdir -p out\ncp {made} out/graph_float32.tflite")
    with Onnx2tf(tmp_path / "graph.onnx", tmp_path / "w") as tool:
        files = tool.finish(_accept)
    for path in files.values():
        model = read_tflite(path)
        own = [model.subgraphs[0].tensors[index].name for index in model.subgraphs[0].inputs]
        assert own == [b"style", b"photo", b"Photo"]


def test_the_tool_does_not_outlive_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, monkeypatch, "exec sleep 100")
    (tmp_path / "graph.onnx").write_bytes(b"")
    with pytest.raises(KeyboardInterrupt), Onnx2tf(tmp_path / "graph.onnx", tmp_path / "w") as tool:
        raise KeyboardInterrupt
    assert tool.process.returncode == -9


class _Resized(nn.Module):
    """Two bilinear resizes: one aligns corners."""

    def __init__(self, second: tuple[int, int]) -> None:
        super().__init__()
        self.second = second

    def forward(self, image: Tensor) -> tuple[Tensor]:
        small = F.interpolate(image, size=(9, 7), mode="bilinear", align_corners=True)
        return (F.interpolate(small, size=self.second, mode="bilinear", align_corners=False),)


@pytest.mark.parametrize("clash", [False, True])
def test_corners_are_aligned_where_the_graph_aligns_them(
    clash: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Such a pair is rewritten before it gets here; without that, it is refused.
    monkeypatch.setattr(lower, "_unlike_corners", lambda module: False)
    shape = (1, 3, 9 if clash else 12, 7 if clash else 10)
    result = (9, 7) if clash else (20, 15)
    ports = (Port("image", shape, (0.0, 1.0)),), (Port("out", (1, 3, *result), (0.0, 1.0)),)
    export_onnx(Deployable(_Resized(result).eval(), "r", "R", "1", *ports), tmp_path / "graph.onnx")
    file = File()
    tensors = [file.tensor((1, *size, 3)) for size in (shape[2:], (9, 7), result)]
    for source, target in itertools.pairwise(tensors):
        options = schema.ResizeBilinearOptionsT()
        options.halfPixelCenters = True
        size = file.tensor((2,), np.int32, np.array([1, 1]))
        file.operator("RESIZE_BILINEAR", [source, size], [target], options)
    model = file.finish(tensors[:1], tensors[-1:])
    if clash:
        with pytest.raises(UserError, match="one aligns corners"):
            align_corners(model, tmp_path / "graph.onnx")
        return
    align_corners(model, tmp_path / "graph.onnx")
    kinds = [o.builtinOptions for o in model.subgraphs[0].operators]
    assert [(kind.alignCorners, kind.halfPixelCenters) for kind in kinds] == [(True, False), (False, True)]


class _Angles(nn.Module):
    """An operator that TFLite lacks, with two results of one size and one of another."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        return torch.atan(torch.atan(image)) + torch.atan(image[:, :, : self.size].mean())


class _Camera(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lens = _Angles(4)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.lens(image * 0.5),)


@pytest.mark.parametrize(
    ("lacking", "size", "named"),
    [
        (
            "Atan",
            (1, 8, 6, 3),
            r"Atan \(layer lens \(_Angles\); test_onnx2tf\.py, line \d+, and 1 more\); write",
        ),
        ("Atan", (1, 9, 6, 3), "Atan; write"),
        ("Acos", (1, 8, 6, 3), "Acos; write"),
    ],
)
def test_an_operator_that_tflite_lacks_is_named_with_its_layer(
    lacking: str, size: tuple[int, ...], named: str, tmp_path: Path
) -> None:
    ports = (Port("image", (1, 3, 8, 6), (0.0, 1.0)),), (Port("out", (1, 3, 8, 6), (-2.0, 2.0)),)
    camera = Deployable(_Camera().eval(), "c", "C", "1", *ports)
    export_onnx(camera, tmp_path / "graph.onnx")
    file = File()
    image, angles = file.tensor((1, 8, 6, 3)), file.tensor(size)
    file.operator("CUSTOM", [image], [angles], custom=f"Flex{lacking}".encode())
    path = file.write(tmp_path / "float32.tflite", [image], [angles])
    photo = np.zeros((1, 3, 8, 6), np.float32)
    with pytest.raises(
        UserError, match=f"^float32.tflite: TFLite has no operator for {named} it in the network"
    ):
        finish_tflite(
            path,
            tmp_path / "out.tflite",
            camera,
            Reference({"image": photo}, {"out": photo}),
            "float32",
            tmp_path / "graph.onnx",
        )


def test_an_operator_that_tflite_lacks_is_named() -> None:
    said = (
        "Select TensorFlow op(s), included in the given model, is(are) not supported by this interpreter. Make sure "
        "you apply/link the Flex delegate.\nNode number 10 (FlexAtan) failed to prepare."
    )
    assert _refusal(said, Path(), None).startswith(
        "TFLite has no operator for Atan; write it in the network with others"
    )
    both = (
        "Node number 3 (FlexTan) failed.\nNode number 1 (FlexAcos) failed.\nNode number 9 (FlexTan) failed."
    )
    assert _refusal(both, Path(), None).startswith("TFLite has no operator for Acos, Tan; write it")
    assert _refusal(" \n", Path(), None) == "the TFLite runtime refuses it (no reason given)"
    assert _refusal("Mmap of the file failed.\nmore", Path(), None) == (
        "the TFLite runtime refuses it (Mmap of the file failed.)"
    )
