"""`package.module:function`: what is taken, and the one line that everything else ends with."""

import hashlib
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afterlens.conversion.bundle.contract import SCHEMA_FILE, Artifact, Contract, TensorSpec
from afterlens.conversion.external import import_external, load_external, weights_sha256
from afterlens.conversion.network import external_references
from afterlens.training.media.errors import UserError

Cli = Callable[..., Any]
Write = Callable[..., str]

ROOT = Path(__file__).parents[2]

HEAD = """
import torch
from torch import nn
from afterlens.training.deployable import Deployable, Port

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
    def forward(self, image):
        return (torch.clamp(self.norm(self.conv(image)), 0.0, 1.0),)

SHAPE, SPAN = (1, 3, 16, 24), (0.0, 1.0)

def graph(module=None, task="night", title="Night", version="1", name="image", shape=SHAPE, span=SPAN, **other):
    module = Net().eval() if module is None else module
    given = dict(inputs=(Port(name, shape, span),), outputs=(Port("restored", shape, span),)) | other
    return Deployable(module, task, title, version, **given)
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write `HEAD` and a text to team/night.py in the current directory, forgetting what was imported before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions may be of the same second and size

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "team"]:
            del sys.modules[name]

    def write(text: str, head: str = HEAD) -> str:
        forget()
        (tmp_path / "team").mkdir(exist_ok=True)
        (tmp_path / "team" / "night.py").write_text(head + text)
        return "team.night:make"

    yield write
    forget()


def test_a_function_gives_one_graph_or_several_sizes(write: Write) -> None:
    assert [one.task for one in load_external(write("def make(): return graph()")).deployables] == ["night"]
    network = load_external(write("def make(): return [graph(), graph(shape=(1, 3, 32, 32))]"))
    assert [one.inputs[0].shape[2:] for one in network.deployables] == [(16, 24), (32, 32)]
    assert network.provenance()["reference"] == "team.night:make"


def test_the_repositorys_own_module_under_its_short_name_is_taken(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    name = write("def make(): return graph()", HEAD.replace("afterlens.training", "training"))
    before = set(sys.modules)
    try:
        (graph,) = import_external(name)
    finally:
        for other in [name for name in sys.modules if name not in before]:
            del sys.modules[other]
    assert graph.size == (16, 24) and type(graph).__module__ == "afterlens.training.deployable"


def test_weights_are_hashed_by_name_type_shape_and_bytes(write: Write) -> None:
    (deployable,) = import_external(write("def make(): return graph()"))
    text = hashlib.sha256()
    for name, value in sorted(deployable.module.state_dict().items()):
        kind = "int64" if name == "norm.num_batches_tracked" else "float32"
        text.update(f"{name} {kind} {'x'.join(map(str, value.shape))}\n".encode() + value.numpy().tobytes())
    assert weights_sha256([deployable]) == text.hexdigest()
    # More sizes of the same weights change nothing; other weights do, however few and wherever.
    sizes = "def make(): return [graph(), graph(shape=(1, 3, 32, 32))]"
    assert weights_sha256(import_external(write(sizes))) == text.hexdigest()
    seen = {text.hexdigest()}
    for change in (
        "net.conv.weight.data[2, 1, 0, 0] += 1e-7",
        "net.norm.running_var[1] = 2.0",
        "net.conv.weight.data = net.conv.weight.data.flip(3)",
        "net.norm.weight.data, net.norm.bias.data = net.norm.bias.data, net.norm.weight.data",
    ):
        changed = write(f"def make():\n    net = Net().eval()\n    {change}\n    return graph(net)")
        seen.add(load_external(changed).weights_sha256)
    assert len(seen) == 5
    two = "def make():\n    net = Net().eval()\n    net.conv.bias.data += 1\n"
    two += "    return graph(), graph(net, shape=(1, 3, 8, 8))"
    assert load_external(write(two)).weights_sha256 not in seen


def test_every_type_and_shape_of_weight_can_be_hashed(write: Write) -> None:
    types = "torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.uint8"
    text = f"""
def make():
    net = Net().eval()
    for i, kind in enumerate(({types})):
        net.register_buffer(f"b{{i}}", torch.ones((2, 3)[:i], dtype=kind).t() if i == 2 else torch.ones((), dtype=kind))
    net.register_buffer("empty", torch.zeros(0, 4))
    return graph(net)
"""
    assert re.fullmatch("[0-9a-f]{64}", load_external(write(text)).weights_sha256)


class_of = "class Bad(Net):\n    def forward(self, image):\n        "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "module team.night has no function make"),
        ("make = 3", "has an int where a function belongs: make"),
        ("def make(size): return graph()", "the function raised TypeError: make() missing 1 required"),
        ("def make(): raise ValueError('no\\nweights')", "raised ValueError: no weights (night.py, line"),
        ("def make(): raise SystemExit(3)", "the function raised SystemExit: 3 (night.py, line"),
        ("raise SystemExit", "importing it raised SystemExit (night.py, line"),
        ("import not_installed", "importing it raised ModuleNotFoundError: No module named 'not_installed'"),
        ("def make(:", "importing it raised SyntaxError: invalid syntax"),
        (
            "def make(): return Net()",
            "returned a Net, expected an afterlens.training.deployable.Deployable, or a list",
        ),
        ("def make(): return None", "returned None, expected"),
        ("def make(): return []", "returned nothing, expected"),
        ("def make(): return [graph(), 7]", "returned a list that holds an int, expected"),
        ("def make(): return graph(), graph()", "returned 24x16 twice, expected one Deployable a size"),
        (
            "def make(): return graph(), graph(task='day', shape=(1, 3, 8, 8))",
            "task is 'night' and 'day', expected one network",
        ),
        (
            "def make(): return graph(), graph(name='other', shape=(1, 3, 8, 8))",
            "ports are ['image', 'restored'] and ['other', 'restored'], expected the same at every size",
        ),
        ("def make(): return graph(task='../x')", "task is '../x', expected small letters"),
        ("def make(): return graph(task=7)", "task is 7, expected"),
        ("def make(): return graph(title='')", "title is '', expected a text"),
        ("def make(): return graph(version=2)", "version is 2, expected a text"),
        (
            "def make(): return graph(camera_frame=(0, 64))",
            "camera_frame is (0, 64), expected (height, width)",
        ),
        ("def make(): return graph(camera_frame=720)", "camera_frame is 720, expected (height, width)"),
        (
            "def make(): return graph(camera_frame=(64, 96)), graph(shape=(1, 3, 32, 32))",
            "camera_frame is (64, 96) and None, expected one network",
        ),
        ("def make(): return graph(inputs=())", "inputs are a tuple, expected a tuple of"),
        ("def make(): return graph(outputs=('restored',))", "outputs are a tuple, expected a tuple of"),
        ("def make(): return graph(outputs=None)", "outputs are None, expected a tuple of"),
        ("def make(): return graph(name='my photo')", "port 'my photo': expected letters, digits and _"),
        ("def make(): return graph(name=None)", "port None: expected letters, digits and _"),
        ("def make(): return graph(name='restored')", "two ports are called 'restored'"),
        ("def make(): return graph(shape=(1, 1, 16, 24))", "only RGB pictures can be converted"),
        ("def make(): return graph(shape=(1, 3, -1, None))", "expected (1, 3, H, W) with fixed sides"),
        ("def make(): return graph(shape=(1, 3, 16, 99999))", "fixed sides of 1 to 16384"),
        ("def make(): return graph(shape='x')", "shape is 'x', expected (1, 3, H, W)"),
        ("def make(): return graph(span=(0, 255))", "range is (0, 255), expected (0.0, 1.0)"),
        ("def make(): return graph(span=torch.zeros(2))", "expected (0.0, 1.0): scale inside the module"),
        (
            "def make(): return graph(outputs=(Port('x2', (1, 3, 32, 48), (0.0, 1.0)),))",
            "port x2 is 48x32 and image 24x16, expected one size",
        ),
        ("def make(): return graph(module=abs)", "module is a builtin_function_or_method, expected a torch"),
        ("def make(): return graph(Net())", "module Net is in training mode, expected eval mode"),
        (
            "def make():\n    net = Net().eval()\n    net.norm.train()\n    return graph(net)",
            "module norm is in training mode",
        ),
        ("def make(): return graph(Net().to('meta').eval())", "on meta, expected a plain tensor on the CPU"),
        ("def make(): return graph(Net().double().eval())", "the module, run at 24x16, raised RuntimeError"),
        (
            f"{class_of}return image\ndef make(): return graph(Bad().eval())",
            "gives a Tensor, expected a tuple of 1",
        ),
        (f"{class_of}return image, image\ndef make(): return graph(Bad().eval())", "gives 2 results"),
        (
            f"{class_of}return (7,)\ndef make(): return graph(Bad().eval())",
            "is an int, expected one of torch",
        ),
        (
            f"{class_of}return (image.half(),)\ndef make(): return graph(Bad().eval())",
            "is a tensor of torch.float16, expected one of torch.float32",
        ),
        (
            f"{class_of}return (image[..., ::2],)\ndef make(): return graph(Bad().eval())",
            "output restored, run at 24x16: has shape (1, 3, 16, 12), declared is (1, 3, 16, 24)",
        ),
        (
            f"{class_of}return (image[image > 0.5][None],)\ndef make(): return graph(Bad().eval())",
            "declared is (1, 3, 16, 24)",
        ),
        (
            f"{class_of}return (image * 2,)\ndef make(): return graph(Bad().eval())",
            "declared is [0, 1]: end the module with clamp(0, 1)",
        ),
        (f"{class_of}return (image - 0.5,)\ndef make(): return graph(Bad().eval())", "values in [-0.49"),
        (f"{class_of}return (image / 0,)\ndef make(): return graph(Bad().eval())", "values in [inf, inf]"),
        (
            f"{class_of}return (image * torch.rand(()),)\ndef make(): return graph(Bad().eval())",
            "two runs on one picture differ; expected no randomness",
        ),
        (
            f"{class_of}return (image.mul_(0.5),)\ndef make(): return graph(Bad().eval())",
            "writes into its input; work on a copy",
        ),
        (
            f"{class_of}return (image if image.mean() > 0.1 else -image,)\ndef make(): return graph(Bad().eval())",
            "its Python decides by the values of a tensor in night.py, line",
        ),
        (
            f"{class_of}return (image / image.amax(),)\ndef make(): return graph(Bad().eval())",
            "the network itself computes NaN or infinity on a black picture",
        ),
        (
            f"{class_of}return ((1 - image) / (1 - image).amax(),)\ndef make(): return graph(Bad().eval())",
            "the network itself computes NaN or infinity on a white picture",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused_in_one_line(write: Write, text: str, message: str) -> None:
    name = write(text)
    with pytest.raises(UserError) as caught:
        load_external(name)
    said = str(caught.value)
    print(said)
    assert message in said and "\n" not in said
    assert said.startswith((name, "night: "))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("team.day:make", "team.day:make: no module team.day, neither installed nor in the current directory"),
        ("nowhere:make", "no module nowhere, neither installed"),
        ("team.night.deeper:make", "no module team.night.deeper"),
        ("afterlens.night:make", "afterlens.night:make: afterlens is this program's own package, expected one of yours; "
         "rename your package"),
        ("team.night:", "expected package.module:function, for example night.network:deployables"),
        ("team.night:absent", "team.night:absent: module team.night has no function absent"),
        ("team.night:__name__", "module team.night has a str where a function belongs: __name__"),
        (":make", "expected package.module:function"),
        ("team/night.py:make", "expected package.module:function"),
        ("team.night:make()", "expected package.module:function"),
    ],
)  # fmt: skip
def test_names_that_lead_nowhere(write: Write, cli: Cli, name: str, message: str) -> None:
    write("def make(): return graph()")
    result = cli("convert", name, "-o", "out")
    assert result.code == 2 and result.stdout == "" and not Path("out").exists()
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-c", "x.safetensors"], "which brings its own weights; leave out -c"),
        (["--size", "64x64"], "returns 24x16, not 64x64; the function decides on the sizes"),
    ],
)
def test_options_that_a_function_does_not_take(
    write: Write, cli: Cli, options: list[str], message: str
) -> None:
    result = cli("convert", write("def make(): return graph()"), "-o", "out", *options)
    assert result.code == 2 and message in result.stderr and not Path("out").exists()


def test_a_name_of_ours_is_refused(write: Write, cli: Cli) -> None:
    result = cli("convert", write("def make(): return graph(task='udc')"), "-o", "out")
    assert result.code == 2 and "calls its task 'udc', which is one of ours" in result.stderr


@pytest.mark.parametrize("package", ["training", "conversion", "benchmarks"])
def test_a_package_may_be_called_like_a_folder_of_ours(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where our repository is on the path, as in a development install."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "network.py").write_text(HEAD + "def make(): return graph()")
    before = set(sys.modules)
    try:
        (deployable,) = load_external(f"{package}.network:make").deployables
        assert deployable.task == "night"
        assert Path(str(sys.modules[package].__file__)).is_relative_to(tmp_path)
        ours = importlib.import_module(f"afterlens.{package}")
        assert ours is not sys.modules[package] and ours.__file__ != sys.modules[package].__file__
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == package:
                del sys.modules[name]


def contract(network_sha256: str, width: int = 24) -> Contract:
    spec = TensorSpec("image", (1, 16, width, 3), "NHWC", "float32", (0.0, 1.0), "sRGB", "")
    entry = Artifact("a.tflite", "tflite", "float32", width, 16, "0" * 64, 1, "x", (spec,), (spec,), 1, 1)
    provenance = {"checkpoint_sha256": network_sha256, "recipe": {}, "data_licence": "x", "tools": {}}
    return Contract("night", "Night", "1", (entry,), (), provenance)


def test_a_reference_with_other_weights_or_sizes_is_refused(write: Write) -> None:
    name = write("def make(): return graph()")
    own = load_external(name).weights_sha256
    assert list(external_references(contract(own), name)) == [(16, 24)]
    with pytest.raises(
        UserError, match=f"begins with {own[:12]}, the bundle was converted from 000000000000"
    ):
        external_references(contract("0" * 64), name)
    with pytest.raises(UserError, match="returned 24x16, the bundle has 32x16"):
        external_references(contract(own, 32), name)


def test_names_are_held_against_the_patterns_of_the_contract() -> None:
    from afterlens.conversion import external

    schema = json.loads(SCHEMA_FILE.read_text("utf-8"))
    assert f"^{external._TASK.pattern}$" == schema["properties"]["task"]["pattern"]
    assert f"^{external._PORT.pattern}$" == schema["$defs"]["TensorSpec"]["properties"]["name"]["pattern"]
    assert schema["$defs"]["Artifact"]["properties"]["width"]["maximum"] == external.LARGEST_SIDE
