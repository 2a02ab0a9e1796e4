"""External networks: `package.module:function` in place of a task.

    network = load_external("night.network:deployables")       # what the function returns, tried on noise
    bundle = convert(network.deployables, out, network.provenance(), golden_photo=photo)
    verify(out, references(bundle.contract, network.name), photos)

The function takes no arguments and returns a `Deployable` (training/deployable.py), or several of the same network, one
a size. Naming it means running it, so only the command line can name it: a bundle may come from anywhere, and what its
`model.json` says is never imported. docs/external.md is the guide.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afterlens.conversion.bundle.variants import RANGE_SLACK
from afterlens.conversion.fold import fold
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError

Size = tuple[int, int]  # height, width

OWN_PACKAGE = __name__.partition(".")[0]
MAX_FOLDING_ERROR = 2e-5  # of [0, 1]: a fifth of what `verify` allows a float32 file
LARGEST_SIDE = 16384  # as in contract.schema.json, and so are the two patterns
_TASK = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PORT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class External:
    """An external network.

    Attributes:
        name: the `package.module:function` that it came from.
        deployables: one a size, with batch normalisations folded (see `afterlens.conversion.fold`).
        weights_sha256: digest of the weights as the function returned them.
    """

    name: str
    deployables: tuple[Deployable, ...]
    weights_sha256: str

    def provenance(self) -> dict[str, Any]:
        """What `convert` records: there is no checkpoint, so the digest of the weights takes its place."""
        return {
            "checkpoint_sha256": self.weights_sha256,
            "recipe": {},
            "data_licence": "not stated",
            "reference": self.name,
        }


def is_external(task: str) -> bool:
    """Whether a TASK on the command line names a function instead."""
    return ":" in task


def load_external(name: str) -> External:
    """What the function `name` returns, after a trial run on noise at each size.

    Raises UserError, one line, for whatever is wrong with it: see `import_external`; also for a network that fails,
    whose shapes, types or values differ from those its ports declare, that gives two results for one picture, or that
    writes into its input.
    """
    deployables = import_external(name)
    for deployable in deployables:
        _refuse(name, _faults_of_a_run(deployable))
    folded = tuple(fold(deployable) for deployable in deployables)
    for one, other in zip(deployables, folded, strict=True):
        _refuse(name, _faults_of_folding(one, other))
    return External(name, folded, weights_sha256(deployables))


def import_external(name: str) -> tuple[Deployable, ...]:
    """What the function `name` returns, one a size; checked but not run, since a run would count in a benchmark.

    The current directory is importable, as with `python -m`, and comes first: a package there may have any name but
    `afterlens`, also `training`.

    Raises UserError, one line, if there is no such module or function, if importing or calling it fails, and if what
    it returns cannot be converted.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise UserError(f"{name!r}: expected package.module:function, for example night.network:deployables")
    function = getattr(_import(module_name, name), function_name, None)
    if not callable(function):
        what = "has no function" if function is None else f"has {_kind(function)} where a function belongs:"
        raise UserError(f"{name}: module {module_name} {what} {function_name}")
    try:
        returned = function()
    except (Exception, SystemExit) as error:
        raise UserError(f"{name}: the function raised {_told(error)}") from error
    returned = [_ours(one) for one in returned] if isinstance(returned, list | tuple) else _ours(returned)
    _refuse(name, _faults_of_result(returned))
    return (returned,) if isinstance(returned, Deployable) else tuple(returned)


def weights_sha256(deployables: Sequence[Deployable]) -> str:
    """SHA-256 (hex) of a network's weights, whichever file they came from.

    For each tensor of the `state_dict`, sorted by name, the hash takes a line "NAME TYPE SHAPE", such as
    "conv.weight float32 8x3x3x3", and then the tensor's bytes. Where the sizes do not hold the same weights, it is the
    SHA-256 of their different hashes, sorted and joined. What a module keeps elsewhere (plain attributes, buffers that
    are not persistent) is not covered: that it computes the same is what `verify` finds out.
    """
    states = sorted({_state_sha256(deployable.module) for deployable in deployables})
    return states[0] if len(states) == 1 else hashlib.sha256("".join(states).encode()).hexdigest()


def _import(module_name: str, name: str) -> Any:
    if module_name.partition(".")[0] == OWN_PACKAGE:
        raise UserError(
            f"{name}: {OWN_PACKAGE} is this program's own package, expected one of yours; rename your package"
        )
    # First, or the folders of a development install (training, benchmarks) would be found in place of the user's.
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise UserError(f"{name}: importing it raised {_told(error)}") from error
        raise UserError(
            f"{name}: no module {missing}, neither installed nor in the current directory"
        ) from error


def _ours(value: Any) -> Any:
    """A `Deployable` or `Port` of this repository's own file under another module name, as ours; others as they are.

    In the repository's folder, `training.deployable` can be imported too, and its classes are not those of
    `afterlens.training.deployable`.
    """
    kind = {"Deployable": Deployable, "Port": Port}.get(type(value).__name__)
    if kind is None or isinstance(value, kind):
        return value
    files = [getattr(sys.modules.get(cls.__module__), "__file__", None) for cls in (type(value), kind)]
    if files[0] is None or files[1] is None or not Path(files[0]).samefile(files[1]):
        return value
    parts = {part.name: getattr(value, part.name) for part in fields(value)}
    for side in ("inputs", "outputs"):
        if isinstance(parts.get(side), list | tuple):
            parts[side] = tuple(_ours(port) for port in parts[side])
    return kind(**parts)


def _refuse(name: str, faults: Iterator[str]) -> None:
    fault = next(faults, None)
    if fault is not None:
        raise UserError(f"{name}: {fault}")


def _told(error: BaseException) -> str:
    """An exception in external code: its kind, its message, and the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return (
        f"{type(error).__name__}{': ' if text else ''}{text} ({Path(last.filename).name}, line {last.lineno})"
    )


def _faults_of_result(returned: object) -> Iterator[str]:
    """What is wrong with the function's result, in order: later checks rely on earlier ones."""
    several: list[Any] = list(returned) if isinstance(returned, list | tuple) else [returned]
    for one in several:
        if not isinstance(one, Deployable):
            kind = _kind(one) if one is returned else f"{_kind(returned)} that holds {_kind(one)}"
            yield f"returned {kind}, expected an afterlens.training.deployable.Deployable, or a list of them, one a size"
    if not several:
        yield "returned nothing, expected an afterlens.training.deployable.Deployable, or a list of them, one a size"
    for deployable in several:
        yield from _faults_of_declaration(deployable)
    first = several[0]
    for other in several[1:]:
        for what in ("task", "title", "version", "camera_frame"):
            if getattr(other, what) != getattr(first, what):
                yield f"{what} is {getattr(first, what)!r} and {getattr(other, what)!r}, expected one network"
        if _port_names(other) != _port_names(first):
            yield f"ports are {_port_names(first)} and {_port_names(other)}, expected the same at every size"
    sizes = [_size_text(deployable.inputs[0]) for deployable in several]
    for size in sizes:
        if sizes.count(size) > 1:
            yield f"returned {size} twice, expected one Deployable a size"


def _faults_of_declaration(deployable: Any) -> Iterator[str]:
    """What a Deployable declares that cannot be converted."""
    task, ports = deployable.task, (*_listed(deployable.inputs), *_listed(deployable.outputs))
    if not (isinstance(task, str) and _TASK.fullmatch(task)):
        yield f"task is {task!r}, expected small letters, digits and _, a letter first: files are named by it"
    for what in ("title", "version"):
        text = getattr(deployable, what)
        if not (isinstance(text, str) and text.strip()):
            yield f"{what} is {text!r}, expected a text"
    frame = deployable.camera_frame
    if frame is not None and not _is_size(frame):
        yield f"camera_frame is {frame!r}, expected (height, width) of 1 to {LARGEST_SIDE} pixels, or None"
    for side in ("inputs", "outputs"):
        found = _listed(getattr(deployable, side))
        if not found or not all(isinstance(port, Port) for port in found):
            got = _kind(getattr(deployable, side))
            yield f"{side} are {got}, expected a tuple of afterlens.training.deployable.Port"
    for port in ports:
        if not (isinstance(port.name, str) and _PORT.fullmatch(port.name)):
            yield f"port {port.name!r}: expected letters, digits and _, at most 64, no digit first"
        if not _is_picture(port.shape):
            yield (
                f"port {port.name}: shape is {port.shape!r}, expected (1, 3, H, W) with fixed sides of 1 to "
                f"{LARGEST_SIDE}: only RGB pictures can be converted, one at a time"
            )
        if not (isinstance(port.range, tuple) and port.range == (0.0, 1.0)):
            yield f"port {port.name}: range is {port.range!r}, expected (0.0, 1.0): scale inside the module"
        for what, text in (("colour_space", port.colour_space), ("meaning", port.meaning)):
            if not isinstance(text, str) or (what == "colour_space" and not text):
                yield f"port {port.name}: {what} is {text!r}, expected a text"
        if port.shape[2:] != ports[0].shape[2:]:
            yield (
                f"port {port.name} is {_size_text(port)} and {ports[0].name} {_size_text(ports[0])}, expected one "
                "size: networks that enlarge or shrink a picture cannot be proven yet"
            )
    names = [port.name for port in ports]
    for name in names:
        if names.count(name) > 1:
            yield f"two ports are called {name!r}, expected a name of its own for each input and output"
    if not isinstance(deployable.module, nn.Module):
        yield f"module is {_kind(deployable.module)}, expected a torch.nn.Module"
    for name, part in deployable.module.named_modules():
        if part.training:
            yield f"module {name or type(part).__name__} is in training mode, expected eval mode: call .eval() on it"
    for name, tensor in deployable.module.state_dict().items():
        if isinstance(tensor, Tensor) and (tensor.layout != torch.strided or tensor.device.type != "cpu"):
            yield f"weight {name} is {tensor.layout} on {tensor.device}, expected a plain tensor on the CPU"


def _faults_of_a_run(deployable: Deployable) -> Iterator[str]:
    """What two runs on the same noise reveal."""
    size = _size_text(deployable.inputs[0])
    noise = _noise(deployable)
    given = [picture.clone() for picture in noise]
    try:
        with torch.inference_mode():
            results = deployable.module(*given)
            again = deployable.module(*(picture.clone() for picture in noise))
    except (Exception, SystemExit) as error:
        kinds = {str(weight.dtype) for weight in deployable.module.parameters()} - {"torch.float32"}
        hint = f"; weights are of {', '.join(sorted(kinds))}: call .float() on the module" if kinds else ""
        yield f"the module, run at {size}, raised {_told(error)}{hint}"
        return
    if not all(torch.equal(picture, kept) for picture, kept in zip(given, noise, strict=True)):
        yield f"the module, run at {size}, writes into its input; work on a copy"
    count = len(deployable.outputs)
    if not (isinstance(results, list | tuple) and len(results) == count):
        got = f"{len(results)} results" if isinstance(results, list | tuple) else _kind(results)
        yield f"the module, run at {size}, gives {got}, expected a tuple of {count}, in the order of outputs"
        return
    for port, result, other in zip(deployable.outputs, results, again, strict=True):
        where = f"output {port.name}, run at {size}"
        if not isinstance(result, Tensor) or result.dtype != torch.float32:
            got = f"a tensor of {result.dtype}" if isinstance(result, Tensor) else _kind(result)
            yield f"{where}: is {got}, expected one of torch.float32"
            return
        if tuple(result.shape) != tuple(port.shape):
            yield f"{where}: has shape {tuple(result.shape)}, declared is {tuple(port.shape)}"
            return
        low, high = float(result.min()), float(result.max())
        if not (low >= -RANGE_SLACK and high <= 1.0 + RANGE_SLACK):  # NaN too
            yield f"{where}: values in [{low:g}, {high:g}], declared is [0, 1]: end the module with clamp(0, 1)"
        if not torch.allclose(result, other, rtol=0.0, atol=1e-5):
            yield f"{where}: two runs on one picture differ; expected no randomness and no memory"
    yield from _faults_on_plain_pictures(deployable)


def _faults_on_plain_pictures(deployable: Deployable) -> Iterator[str]:
    """A division by a sum or a deviation fails where the picture is of one colour, as a letterbox is."""
    for colour, level in (("black", 0.0), ("white", 1.0)):
        with torch.inference_mode():
            results = deployable.module(*(torch.full(port.shape, level) for port in deployable.inputs))
        for port, result in zip(deployable.outputs, results, strict=True):
            if not bool(result.isfinite().all()):
                yield (
                    f"output {port.name}: the network itself computes NaN or infinity on a {colour} picture; add a "
                    "small number to what it divides by or takes the root or logarithm of"
                )


def _faults_of_folding(deployable: Deployable, folded: Deployable) -> Iterator[str]:
    """Whether folding kept the network the same: all else is compared with the folded one."""
    noise = _noise(deployable)
    with torch.inference_mode():
        pairs = zip(deployable.module(*noise), folded.module(*noise), strict=True)
        errors = [float((result - other).abs().max()) for result, other in pairs]
    if not max(errors) <= MAX_FOLDING_ERROR:  # NaN too
        size = _size_text(deployable.inputs[0])
        yield (
            f"results at {size} differ by {max(errors):.3g} once batch normalisations are folded into convolutions, "
            f"at most {MAX_FOLDING_ERROR:g} is allowed: is a variance almost zero?"
        )


def _noise(deployable: Deployable) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(port.shape, generator=generator) for port in deployable.inputs]


def _state_sha256(module: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            shape = "x".join(str(side) for side in value.shape)
            found.update(f"{name} {str(value.dtype).removeprefix('torch.')} {shape}\n".encode())
            found.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _is_picture(shape: object) -> bool:
    return isinstance(shape, tuple) and shape[:2] == (1, 3) and _is_size(shape[2:])


def _is_size(sides: object) -> bool:
    return (
        isinstance(sides, tuple)
        and len(sides) == 2
        and all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides)
    )


def _listed(ports: object) -> list[Any]:
    return list(ports) if isinstance(ports, list | tuple) else []


def _port_names(deployable: Deployable) -> list[str]:
    return [port.name for port in (*deployable.inputs, *deployable.outputs)]


def _size_text(port: Port) -> str:
    return f"{port.shape[3]}x{port.shape[2]}"


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
