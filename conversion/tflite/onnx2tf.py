"""ONNX -> onnx2tf -> TFLite, in float32 and with float16 weights.

    with Onnx2tf(Path("reflection.onnx"), work) as tool:       # in its own process and folder, beside us
        files = tool.finish(check)                              # {"float32": ..., "float16": ...}
    finish_tflite(files["float16"], Path("out.tflite"), deployable, reference, "float16")

onnx2tf may exit with 0 after a failure, loses the names of the outputs and does not keep their order. So each file is
run on a real photo, its outputs are identified by what they compute, and the names are written into the file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from afterlens.conversion.bundle.contract import SIGNATURE
from afterlens.conversion.bundle.layout import Reference, file_shape, from_torch
from afterlens.conversion.capture import place
from afterlens.conversion.tflite.blame import first_wrong
from afterlens.conversion.tflite.channels_last import with_channels_last
from afterlens.conversion.tflite.float16 import float16_constants
from afterlens.conversion.tflite.graph import operator_names, pack, read_tflite, shape_of
from afterlens.conversion.tflite.onnx_rewrite import name_ports
from afterlens.training.deployable import Deployable
from afterlens.training.media.errors import UserError

# Largest absolute difference on the photo that identifies the outputs: that of the float32 variant's gate. A float16
# file has the same graph, and `verify` has the gate of its weights.
_LIMITS = {"float32": 1e-4, "float16": 5e-2}
_TOOL = "afterlens.conversion.tflite.onnx2tf_float32"
_CODES = re.compile(r"\x1b\[[0-9;]*m")  # colours
_ONNX_KINDS = {"BatchMatMulV2": "MatMul"}  # of TensorFlow's operators that ONNX calls otherwise


class Check(Protocol):
    """``finish_tflite`` for one file: see ``Onnx2tf.finish``."""

    def __call__(self, source: Path, /, *, graph: Path | None) -> None: ...


class Onnx2tf:
    """One run of onnx2tf in its own process and folder, started at once so that other work can go on meanwhile."""

    def __init__(self, onnx: Path, folder: Path, keep: Sequence[str] = ()) -> None:
        """``keep``: inputs whose axes must stay in their order."""
        folder.mkdir()
        self.onnx, self.folder, self.log = onnx, folder, folder / "onnx2tf.log"
        self.started, self.keep = time.perf_counter(), keep
        # It looks for this file of test pictures in its working directory and downloads it if it is missing.
        pictures = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
        np.save(folder / "calibration_image_sample_data_20x128x128x3_float32.npy", pictures)
        self._start(strict=False)

    def _start(self, strict: bool) -> None:
        """Start the tool; where ``strict``, it runs each operator on pictures and mends axes that it took wrongly.

        That takes as long again as all else.
        """
        # A copy: the tool overwrites its input.
        self.inputs = _with_numbered_inputs(self.onnx, self.folder / "graph.onnx")
        keep = [self.inputs.get(name, name) for name in self.keep]
        environment = dict(os.environ)
        # onnxsim is looked up on PATH; without it the tool skips the simplification with only a warning.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
        # TensorFlow imports code that it writes to the temporary folder, and would leave a __pycache__ there.
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment["CUDA_VISIBLE_DEVICES"] = ""  # TensorFlow would take all of the GPU's memory
        # Nothing may be downloaded; if a new version tries, it fails at once.
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", _TOOL, "-i", "graph.onnx", "-o", "out", "-v", "error"),
                    *(["-kat", *keep] if keep else []),
                    *([] if strict else ["--disable_strict_mode"]),
                ],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends the process if it is still running: nothing is left behind after an error or Ctrl-C."""
        self.process.kill()
        self.process.wait()

    def finish(self, check: Check) -> dict[str, Path]:
        """Wait for the tool and return its files by variant; UserError, with what it says last, where it fails.

        ``check`` raises UserError for a float32 file that is not what PyTorch computes. Then, or where the tool fails, it
        runs again in its strict mode. Only what is said of that run is final, so only then does ``check`` get the ONNX
        graph, to find the wrong operator in.
        """
        try:
            files = self._files()
            check(files["float32"], graph=None)
        except UserError:
            shutil.rmtree(self.folder / "out", ignore_errors=True)
            self._start(strict=True)
            files = self._files()
            check(files["float32"], graph=self.onnx)
        return files

    def _files(self) -> dict[str, Path]:
        """What the tool has written, once it has ended.

        The float16 file is made from the float32 one (`float16_constants`): the tool's own loses tiny constants, and is
        not waited for (onnx2tf_float32.py).
        """
        code = self.process.wait()
        whole = self.folder / "out" / "graph_float32.tflite"
        if code == 0 and whole.is_file():
            files = {variant: self.folder / f"{variant}.tflite" for variant in _LIMITS}
            model = read_tflite(whole)
            numbered = {number: name for name, number in self.inputs.items()}
            for index in model.subgraphs[0].inputs:
                tensor = model.subgraphs[0].tensors[index]
                # "port_0" or "serving_default_port_0:0", depending on how the tool uses TensorFlow.
                name = tensor.name.decode().removeprefix("serving_default_").removesuffix(":0")
                tensor.name = numbered.get(name, name).encode()
            align_corners(model, self.onnx)
            files["float32"].write_bytes(pack(model))
            files["float16"].write_bytes(float16_constants(model))
            return files
        text = _CODES.sub("", self.log.read_text("utf-8", "replace")).replace(f"{self.folder}/", "")
        what = f"exit code {code}" if code else "no float32 file"
        raise UserError(f"onnx2tf failed with {what}: {_reason(text, self.onnx)}")


def align_corners(model: Any, path: Path) -> None:
    """Let a file's bilinear resizes align corners where those of the ONNX graph do, told apart by their sizes.

    onnx2tf drops that attribute for graphs of operator set 18 and later, which PyTorch exports.

    Raises UserError where two resizes of the same sizes differ in it.
    """
    import onnx

    graph, shapes = _with_shapes(path)
    spatial = {name: shape[2:] for name, shape in shapes.items()}
    sizes: dict[bool, set[Any]] = {True: set(), False: set()}
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Resize" and attributes.get("mode") == b"linear":
            aligned = attributes.get("coordinate_transformation_mode") == b"align_corners"
            sizes[aligned].add((spatial.get(node.input[0]), spatial.get(node.output[0])))
    if both := sizes[True] & sizes[False]:
        (before, after), *_ = both
        raise UserError(
            f"two bilinear resizes from {before} to {after}, of which one aligns corners: onnx2tf cannot tell them apart"
        )
    tensors = model.subgraphs[0].tensors
    for operator, name in zip(model.subgraphs[0].operators, operator_names(model), strict=True):
        ends = tuple(shape_of(tensors[index])[1:3] for index in (operator.inputs[0], operator.outputs[0]))
        if name == "RESIZE_BILINEAR" and ends in sizes[True]:
            operator.builtinOptions.alignCorners, operator.builtinOptions.halfPixelCenters = True, False


def _with_shapes(path: Path) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The graph of an ONNX file, and the shapes of its values by name."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    return graph, {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }


def _with_numbered_inputs(source: Path, target: Path) -> dict[str, str]:
    """Copy an ONNX file with its inputs called port_0, port_1, ...; their numbers by name.

    TensorFlow takes "input" and "Input" for one name, and changes others that it uses itself.
    """
    import onnx

    try:
        model = onnx.load(source)
    except Exception:  # the tool will say so
        shutil.copyfile(source, target)
        return {}
    numbers = {value.name: f"port_{place}" for place, value in enumerate(model.graph.input)}
    name_ports(model, numbers)
    onnx.save(model, target)
    return numbers


def finish_tflite(
    source: Path,
    target: Path,
    deployable: Deployable,
    reference: Reference,
    variant: str,
    graph: Path | None = None,
) -> None:
    """Name the inputs and outputs of a file that onnx2tf wrote and write it to `target`.

    Raises UserError where a port is missing or the outputs differ from PyTorch's; given the ONNX `graph`, it names the
    operator that makes the difference.
    """
    inputs, outputs, turned = _bind(source, deployable, reference, variant, graph)
    _write_signed(source, target, inputs, outputs, turned)


def minimum_tflite(path: Path) -> str:
    """The oldest TensorFlow Lite that has all operators of the file, as its converter recorded it."""
    model = read_tflite(path)
    for entry in model.metadata or []:
        if entry.name == b"min_runtime_version":
            return "TensorFlow Lite " + bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode("ascii")
    raise UserError(f"{path.name}: does not say which runtime it needs (no min_runtime_version)")


def _bind(
    path: Path, deployable: Deployable, reference: Reference, variant: str, graph: Path | None
) -> tuple[dict[str, int], dict[str, int], set[str]]:
    """Port name -> tensor index, of inputs (by name, which the tool keeps) and outputs (by what they compute).

    Last the outputs that are right, but in PyTorch's order of axes.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        # Given a path, LiteRT maps the file unchecked; given the bytes, it checks the flatbuffer first.
        interpreter = Interpreter(model_content=path.read_bytes())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path.name}: {_refusal(str(error), path, graph)}") from error
    inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
    got = {name: tuple(detail["shape"].tolist()) for name, detail in inputs.items()}
    expected = {port.name: file_shape(port) for port in deployable.inputs}
    if got != expected:
        raise UserError(f"{path.name}: onnx2tf wrote the inputs {got}, expected {expected}")
    for port in deployable.inputs:
        value = from_torch(port, torch.from_numpy(reference.inputs[port.name]))
        interpreter.set_tensor(inputs[port.name]["index"], value[None])
    interpreter.invoke()
    left = {d["index"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    if len(left) != len(deployable.outputs):
        raise UserError(f"{path.name}: onnx2tf wrote {len(left)} outputs, expected {len(deployable.outputs)}")
    outputs, turned = {}, set()
    for port in deployable.outputs:
        computed = reference.outputs[port.name]
        errors = _distances(left, from_torch(port, torch.from_numpy(computed))[None])
        index = min(errors, key=lambda i: errors[i])
        if not errors[index] <= _LIMITS[variant] and port.kind == "image":
            in_pytorchs_order = _distances(left, computed)
            nearest = min(in_pytorchs_order, key=lambda i: in_pytorchs_order[i])
            if in_pytorchs_order[nearest] <= _LIMITS[variant]:
                errors, index = in_pytorchs_order, nearest
                turned.add(port.name)
        if not errors[index] <= _LIMITS[variant]:  # NaN fails too
            raise UserError(
                f"{path.name}: no output of the {variant} file is {port.name!r} as PyTorch computes it (the nearest "
                f"differs by {errors[index]:.3g}, at most {_LIMITS[variant]} is allowed): onnx2tf translated "
                f"{_wrong_operator(graph, path, reference)} wrongly; write it with other operators, or convert to Core ML "
                "alone (--variants)"
            )
        outputs[port.name] = index
        del left[index]
    return {name: detail["index"] for name, detail in inputs.items()}, outputs, turned


def _distances(values: Mapping[int, NDArray[np.float32]], wanted: NDArray[np.float32]) -> dict[int, float]:
    """The largest difference of each from what is wanted; infinite where it has another shape."""
    return {
        index: float(np.abs(value - wanted).max()) if value.shape == wanted.shape else np.inf
        for index, value in values.items()
    }


def _wrong_operator(graph: Path | None, path: Path, reference: Reference) -> str:
    """Its kind and its layer, as far as they can be found."""
    try:
        name = None if graph is None else first_wrong(graph, path, reference.inputs)
    except Exception:  # ONNX Runtime may not have an operator; that must not hide the fault itself
        name = None
    return "an operator" if graph is None or name is None else _place(graph, name)


def _write_signed(
    source: Path, target: Path, inputs: dict[str, int], outputs: dict[str, int], turned: set[str]
) -> None:
    """Copy a file, adding a signature that names its inputs and outputs; their tensors get the same names.

    The outputs in ``turned`` are given with their channels last.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = read_tflite(source)
    outputs |= {name: with_channels_last(model, outputs[name]) for name in sorted(turned)}
    tensors = model.subgraphs[0].tensors

    def named(ports: dict[str, int]) -> list[Any]:
        entries = []
        for name, index in ports.items():
            tensors[index].name = name.encode()
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            entries.append(entry)
        return entries

    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.subgraphIndex = 0
    signature.inputs, signature.outputs = named(inputs), named(outputs)
    model.signatureDefs = [signature]
    target.write_bytes(pack(model))


def _reason(text: str, onnx: Path) -> str:
    """What a log says of a failure: the operator of the graph, if it names one, where that is from, and the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    error = next((line for line in reversed(lines) if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line)), "")
    last = (error or (lines[-1] if lines else "no output"))[:200]
    named = re.search(r"onnx_op_name: *(\S+)|at ONNX operation: *(\S+)", text)
    if not named:
        return last
    return (
        f"{_place(onnx, (named[1] or named[2]).removeprefix('wa/'))} (write it with other operators): {last}"
    )


def _place(path: Path, name: str) -> str:
    """Where in the network an operator of the exported graph comes from."""
    import onnx

    try:
        nodes = onnx.load(path).graph.node
    except Exception:  # it may be what the tool failed on
        return f"operator {name}"
    return next(
        (f"operator {node.op_type} ({_where(node)})" for node in nodes if node.name == name),
        f"operator {name}",
    )


def _where(node: Any) -> str:
    """Layer and line of the network that an operator of the exported graph comes from."""
    noted = {entry.key.removeprefix("pkg.torch.onnx."): entry.value for entry in node.metadata_props}
    scopes, kinds = (
        re.findall(r"'([^']*)'", noted.get(key, ""))[:-1] for key in ("name_scopes", "class_hierarchy")
    )
    layers = [(scope, kind) for scope, kind in zip(scopes, kinds, strict=False) if scope]
    layer, kind = layers[-1] if layers else ("", "")
    return place(layer, kind, noted.get("stack_trace", ""))


def _refusal(error: str, path: Path, graph: Path | None) -> str:
    """What the runtime said of a file, as one line that helps: an operator of TensorFlow's that TFLite lacks is named.

    Given the ONNX graph, with its place in the network as well.
    """
    lacking = sorted(set(re.findall(r"\(Flex(\w+)\)", error)))
    if lacking:
        named = [kind + _place_of_lacking(path, kind, graph) for kind in lacking]
        return (
            f"TFLite has no operator for {', '.join(named)}; write it in the network with others (a polynomial, for "
            "example), or convert to Core ML alone (--variants)"
        )
    return f"the TFLite runtime refuses it ({(error.strip().splitlines() or ['no reason given'])[0]})"


def _place_of_lacking(path: Path, kind: str, graph: Path | None) -> str:
    """Where in the network the first operator of a file that TFLite lacks is, in brackets, or "" if that is unknown.

    The file does not say: it is the first operator of the graph of that kind and that size, in any order of the axes.
    """
    if graph is None:
        return ""
    model = read_tflite(path)
    tensors = model.subgraphs[0].tensors
    sizes = [
        sorted(shape_of(tensors[operator.outputs[0]]))
        for operator, name in zip(model.subgraphs[0].operators, operator_names(model), strict=True)
        if name == f"CUSTOM Flex{kind}"
    ]
    inferred, shapes = _with_shapes(graph)
    nodes = [
        node
        for node in inferred.node
        if node.op_type == _ONNX_KINDS.get(kind, kind)
        and node.output[0] in shapes
        and sorted(shapes[node.output[0]]) in sizes
    ]
    if not nodes:
        return ""
    return f" ({_where(nodes[0])}{f', and {len(nodes) - 1} more' if len(nodes) > 1 else ''})"
