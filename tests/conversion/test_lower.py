"""Rewriting a captured graph: the same results, in operators that both converters know."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from afterlens.conversion.lower import lower
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError


class _Layer(nn.Module):
    """One function of the picture."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.function(x),)


def _deployable(function: Callable[[Tensor], Tensor], height: int, width: int) -> Deployable:
    shape = (1, 3, height, width)
    ports = (Port("image", shape, (0.0, 1.0)),), (Port("restored", shape, (0.0, 1.0)),)
    return Deployable(_Layer(function).eval(), "layer", "Layer", "1", *ports)


def _area(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, size=size, mode="area")


def _resize(mode: str, antialias: bool = False, **how: object) -> Callable[[Tensor], Tensor]:
    align = {"align_corners": False} if mode.startswith("bi") else {}
    return lambda x: F.interpolate(x, mode=mode, antialias=antialias, **align, **how)  # type: ignore[arg-type]


CASES = {
    "pooling without a stride": (lambda x: F.max_pool2d(x, 2), 24, 20, "max_pool2d"),
    "maxima beyond the edge": (lambda x: F.max_pool2d(x - 1, 3, 2, 1, ceil_mode=True), 25, 20, "max_pool2d"),
    "maxima with padding": (lambda x: F.max_pool2d(x - 1, 5, 1, 2), 25, 20, "max_pool2d"),
    "running sum of rows": (lambda x: x.cumsum(2), 24, 20, "conv2d"),
    "running sum of columns": (lambda x: x.cumsum(-1), 24, 20, "conv2d"),
    "circular padding": (lambda x: F.pad(x, (2, 1, 3, 0), mode="circular"), 24, 20, "cat"),
    "circular padding that crops": (lambda x: F.pad(x, (-1, 2, 3, -2), mode="circular"), 24, 20, "cat"),
    "padding that crops": (lambda x: F.pad(x, (-1, 2, 3, -2), value=0.5), 24, 20, "narrow"),
    "repeated edges that crop": (lambda x: F.pad(x, (-1, 2, 3, 0), mode="replicate"), 24, 20, "narrow"),
    "cropping": (lambda x: F.pad(x, (-1, -2, -3, 0)), 24, 20, "narrow"),
    "lines, longer": (
        lambda x: F.interpolate(x.flatten(2), scale_factor=1.7, mode="linear")[..., :480].reshape(x.shape),
        24,
        20,
        "conv2d",
    ),
    "lines, nearest": (
        lambda x: F.interpolate(x.flatten(2), size=720, mode="nearest")[..., :480].reshape(x.shape),
        24,
        20,
        "index_select",
    ),
    "padded average": (lambda x: F.avg_pool2d(x, 5, 1, 2), 24, 20, "avg_pool2d"),
    "average of what is there": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        25,
        20,
        "mul",
    ),
    "average beyond the edge": (lambda x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True), 25, 21, "mul"),
    "average beyond the edge, not padded": (lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), 24, 20, "mul"),
    "average by a divisor, not padded": (lambda x: F.avg_pool2d(x, 3, 2, divisor_override=5), 25, 21, "mul"),
    "average by a divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), 25, 21, "mul"),
    "remainder": (lambda x: torch.remainder(x * 3 - 1, 0.7), 24, 20, "floor"),
    "bilinear by an odd factor": (_resize("bilinear", scale_factor=1.5), 25, 21, "conv2d"),
    "bilinear, smaller": (_resize("bilinear", scale_factor=0.4), 24, 21, "conv2d"),
    "bicubic, half": (_resize("bicubic", scale_factor=0.5), 24, 20, "conv2d"),
    "bicubic by an odd factor": (_resize("bicubic", scale_factor=1.7), 23, 19, "conv2d"),
    "bicubic to a size": (_resize("bicubic", size=(31, 17)), 24, 20, "conv2d"),
    "bicubic, aligned corners": (
        lambda x: F.interpolate(x, size=(31, 17), mode="bicubic", align_corners=True),
        24,
        20,
        "conv2d",
    ),
    "bicubic, antialiased": (_resize("bicubic", True, scale_factor=0.4), 25, 20, "conv2d"),
    "bilinear, antialiased": (_resize("bilinear", True, size=(9, 7)), 24, 20, "conv2d"),
    "area": (_area((9, 13)), 24, 20, "conv2d"),
    "nearest by an odd factor": (_resize("nearest", scale_factor=1.5), 25, 21, "index_select"),
    "nearest, half": (_resize("nearest", scale_factor=0.5), 24, 20, "index_select"),
    "nearest to a size": (_resize("nearest", size=(31, 17)), 24, 20, "index_select"),
    "nearest-exact, larger": (_resize("nearest-exact", scale_factor=1.5), 25, 21, "index_select"),
    "nearest-exact, smaller": (_resize("nearest-exact", size=(11, 8)), 24, 21, "index_select"),
    # Only one axis asks for it.
    "area, rows by a whole factor": (_area((12, 7)), 24, 20, "conv2d"),
    "area, columns by a whole factor": (_area((7, 10)), 24, 20, "conv2d"),
    "bilinear, odd columns": (_resize("bilinear", scale_factor=(2.0, 1.3)), 24, 21, "conv2d"),
    "bilinear, odd rows": (_resize("bilinear", scale_factor=(0.7, 2.0)), 24, 21, "conv2d"),
    "bicubic, two factors": (_resize("bicubic", scale_factor=(1.7, 0.6)), 23, 19, "conv2d"),
    "nearest, whole rows": (_resize("nearest", size=(48, 31)), 24, 20, "index_select"),
    "nearest, whole columns": (_resize("nearest", size=(31, 40)), 24, 20, "index_select"),
    "nearest, two factors": (_resize("nearest", scale_factor=(1.7, 0.6)), 23, 19, "index_select"),
    "maxima with padded rows": (lambda x: F.max_pool2d(x - 1, (3, 1), 1, (1, 0)), 25, 20, "pad"),
    "maxima with padded columns": (lambda x: F.max_pool2d(x - 1, (1, 3), 1, (0, 1)), 25, 20, "pad"),
    "maxima beyond the edge, not padded": (
        lambda x: F.max_pool2d(x - 1, 3, 2, ceil_mode=True),
        24,
        20,
        "pad",
    ),
    "maxima far apart": (lambda x: F.max_pool2d(x - 1, 2, dilation=2), 24, 20, "max_pool2d"),
    "average of padded rows": (lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 0)), 24, 20, "pad"),
    "average of padded columns": (lambda x: F.avg_pool2d(x, (2, 3), 2, (0, 1)), 24, 20, "pad"),
    "circular, before alone": (lambda x: F.pad(x, (2, 0, 1, 0), mode="circular"), 24, 20, "cat"),
    "circular, after alone": (lambda x: F.pad(x, (0, 2, 0, 1), mode="circular"), 24, 20, "cat"),
    "circular, columns alone": (lambda x: F.pad(x, (2, 1, 0, 0), mode="circular"), 24, 20, "cat"),
    "circular, all cropped": (lambda x: F.pad(x, (-2, -1, 0, -3), mode="circular"), 24, 20, "narrow"),
    "cropped after": (lambda x: F.pad(x, (0, -2)), 24, 20, "narrow"),
    "lines, aligned": (
        lambda x: F.interpolate(x.flatten(2), size=481, mode="linear", align_corners=True)[..., 1:].reshape(
            x.shape
        ),
        24,
        20,
        "conv2d",
    ),
    "lines, nearest-exact": (
        lambda x: F.interpolate(x.flatten(2), scale_factor=1.3, mode="nearest-exact")[..., :480].reshape(
            x.shape
        ),
        24,
        20,
        "index_select",
    ),
}


@pytest.mark.parametrize(("function", "height", "width", "operator"), CASES.values(), ids=CASES)
def test_the_rewritten_graph_computes_the_same(
    function: Callable[[Tensor], Tensor], height: int, width: int, operator: str
) -> None:
    deployable = _deployable(function, height, width)
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    program = lower(deployable)
    error = float((program.module()(picture)[0] - function(picture)).abs().max())
    used = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    print(f"max error {error:.2e}, operators {sorted(used)}")
    assert error < 1e-5
    assert any(operator in name for name in used)
    assert not any(word in name for name in used for word in ("upsample", "adaptive", "remainder", "cumsum"))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda x: F.max_pool2d(x, 2, 2),
        lambda x: F.adaptive_avg_pool2d(x, (12, 5)),
        lambda x: F.avg_pool2d(x, 3, 2),
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    ],
    ids=["reflection", "pooling with a stride", "whole pools", "averages", "bilinear", "nearest"],
)
def test_what_the_converters_know_is_left_alone(function: Callable[[Tensor], Tensor]) -> None:
    deployable = _deployable(function, 24, 20)
    program = lower(deployable)
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert not any(word in name for name in used for word in ("conv2d", "cat", "index_select"))
    assert len(used) == 1, used


def _calls(program: ExportedProgram) -> list[str]:
    return [str(node.target).split(".")[1] for node in program.graph.nodes if node.op == "call_function"]


KEPT: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a running sum of channels": (lambda x: x.cumsum(1), "cumsum"),
    "a running sum of lines": (lambda x: x.flatten(2).cumsum(2).reshape(x.shape), "cumsum"),
    "bilinear to a size": (_resize("bilinear", size=(31, 17)), "upsample_bilinear2d"),
    "bilinear, whole columns and rows": (_resize("bilinear", scale_factor=(2.0, 3.0)), "upsample_bilinear2d"),
    "bilinear, a factor that fits": (_resize("bilinear", scale_factor=1.5), "upsample_bilinear2d"),
    "pools without a batch": (lambda x: F.adaptive_avg_pool2d(x[0], (12, 7))[None], "adaptive_avg_pool2d"),
    "padding": (lambda x: F.pad(x, (1, 0, 2, 3), value=0.5), "pad"),
    "edges": (lambda x: F.pad(x, (1, 0, 2, 3), mode="replicate"), "pad"),
    "an instance norm of the picture's own": (nn.InstanceNorm2d(3, affine=True), "instance_norm"),
    "maxima far apart with a stride": (lambda x: F.max_pool2d(x, 2, 2, dilation=2), "max_pool2d"),
}


@pytest.mark.parametrize(("function", "kept"), KEPT.values(), ids=KEPT)
def test_what_differs_from_a_rewritten_operator_in_one_point_stays(
    function: Callable[[Tensor], Tensor], kept: str
) -> None:
    """Beside those that are rewritten, in `CASES`."""
    program = lower(_deployable(function, 24, 20))
    used = _calls(program)
    assert kept in used
    assert not {"conv2d", "index_select", "cat", "narrow"} & set(used)
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(picture)[0], function(picture))


def test_whole_factors_of_nearest_exact_are_those_of_nearest() -> None:
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    function = _resize("nearest-exact", scale_factor=(2.0, 3.0))
    program = lower(_deployable(function, 24, 20))
    assert _calls(program) == ["upsample_nearest2d"]
    assert torch.equal(program.module()(picture)[0], function(picture))


def test_padding_that_counts_as_the_picture_needs_no_shares() -> None:
    assert "mul" not in _calls(lower(_deployable(lambda x: F.avg_pool2d(x, 5, 1, 2), 24, 20)))


def test_a_dilated_transposed_convolution_of_computed_weights_stays() -> None:
    def function(x: Tensor) -> Tensor:
        weight = x[0, :, :3, :3].reshape(3, 1, 3, 3).expand(3, 3, 3, 3)
        return F.conv_transpose2d(x, weight, dilation=2)

    assert "conv_transpose2d" in _calls(lower(_deployable(function, 12, 10)))


@pytest.mark.parametrize(("stride", "groups", "bias"), [(1, 1, True), (2, 3, False)])
def test_a_dilated_transposed_convolution_becomes_one_without(stride: int, groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(3, 3, 3, stride, 1, groups=groups, bias=bias, dilation=(2, 3)).eval()
    deployable = _deployable(up, 12, 10)
    picture = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    program = lower(deployable)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(picture)[0], up(picture))
    (called,) = [node for node in program.graph.nodes if node.op == "call_function"]
    assert len(called.args) < 8  # the last is the dilation


def test_an_instance_norm_with_running_statistics_uses_them() -> None:
    norm = nn.InstanceNorm2d(3, affine=True, track_running_stats=True).eval()
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    deployable = _deployable(norm, 24, 20)
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    program = lower(deployable)
    used = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("instance_norm" in name for name in used)
    torch.testing.assert_close(program.module()(picture)[0], norm(picture))


def test_what_has_as_many_results_as_the_values_ask_for_is_refused_with_its_place() -> None:
    def counted(x: Tensor) -> Tensor:
        return x + torch.bincount((x[0, 0, 0] * 8).long(), minlength=9)[:9].float().mean()

    with pytest.raises(
        UserError, match=r"^layer: the size of the result of bincount \(test_lower\.py, line \d+\)"
    ):
        lower(_deployable(counted, 24, 20))


class _Shared(nn.Module):
    """Outputs that nothing computes for them alone: an input, a constant, the same tensor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.linspace(0, 1, 20).expand(1, 3, 24, 20).clone())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        negative = 1 - x
        return x, self.mask, negative, negative  # type: ignore[return-value]


def test_each_output_gets_an_operator_of_its_own_where_it_is_asked_for() -> None:
    shape, module = (1, 3, 24, 20), _Shared().eval()
    outputs = tuple(Port(name, shape, (0.0, 1.0)) for name in "abcd")
    deployable = Deployable(module, "s", "S", "1", (Port("image", shape, (0.0, 1.0)),), outputs)
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    program = lower(deployable, for_onnx=True)
    (returned,) = program.graph.output_node().args
    assert isinstance(returned, tuple | list)
    made = [node for node in returned if isinstance(node, torch.fx.Node) and node.op == "call_function"]
    assert len(set(made)) == 4
    for result, expected in zip(program.module()(picture), module(picture), strict=True):
        assert torch.equal(result, expected)
    (plain,) = lower(deployable).graph.output_node().args
    assert isinstance(plain, tuple | list)
    assert plain[2] is plain[3]


_ARITHMETIC = ("aten.add.Tensor", "aten.mul.Tensor", "aten.sub.Tensor", "aten.div.Tensor")


def _is_number(value: object) -> bool:
    return isinstance(value, torch.fx.Node) and tuple(value.meta["val"].shape) == (1, 1, 1, 1)


def _bare_pictures(program: ExportedProgram) -> list[str]:
    """Constants that vary over the picture and are read as they are: onnx2tf takes their axes for TensorFlow's."""
    buffers = program.graph_signature.inputs_to_buffers
    return [
        value.name
        for node in program.graph.nodes
        if str(node.target) in _ARITHMETIC
        and not (str(node.target) == "aten.add.Tensor" and _is_number(node.args[1]))
        for value in node.args
        if isinstance(value, torch.fx.Node) and value.name in buffers and max(value.meta["val"].shape) > 3
    ]


class _Fixed(nn.Module):
    """A constant as a picture, computed from numbers of the network's own."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("mask", torch.linspace(0, 1, 20).expand(1, 3, 24, 20).clone())
        self.register_buffer("levels", torch.tensor([255.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 255, self.function(self.mask, self.levels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function",
    [
        lambda mask, levels: mask * 255,
        lambda mask, levels: mask * levels,
        lambda mask, levels: levels * mask,
        lambda mask, levels: levels.reshape(1, 1, 1, 1) - mask,
        lambda mask, levels: torch.cat((mask[:, :1],) * 3, 1),
        lambda mask, levels: torch.where(mask > 0.5, mask, levels),
        lambda mask, levels: (mask > 0.5).float(),
        lambda mask, levels: mask.chunk(2, 2)[1].repeat(1, 1, 2, 1),
    ],
    ids=["levels", "factor", "factor first", "difference", "put together", "chosen", "of booleans", "part"],
)
@pytest.mark.parametrize("for_onnx", [False, True], ids=["Core ML", "ONNX"])
def test_a_constant_output_is_computed_from_the_networks_own_picture(
    function: Callable[[Tensor, Tensor], Tensor], for_onnx: bool
) -> None:
    shape, module = (1, 3, 24, 20), _Fixed(function).eval()
    outputs = tuple(Port(name, shape, (0.0, 1.0)) for name in "ab")
    deployable = Deployable(module, "s", "S", "1", (Port("image", shape, (0.0, 1.0)),), outputs)
    program = lower(deployable, for_onnx=for_onnx)
    (returned,) = program.graph.output_node().args
    assert isinstance(returned, tuple | list)
    assert [node.op for node in returned if isinstance(node, torch.fx.Node)] == ["call_function"] * 2
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(program.module()(picture)[1], module(picture)[1])
    kept = [value for value in program.state_dict.values() if value.numel() > 1]
    assert all(float(value.max()) <= 1.0 for value in kept), "not multiplied by 255"
    assert not _bare_pictures(program)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, mask: mask * x.mean(),
        lambda x, mask: x.mean() * mask,
        lambda x, mask: x.mean((2, 3), keepdim=True) - mask,
        lambda x, mask: x.mean((2, 3), keepdim=True) + mask,
        lambda x, mask: mask / (x.mean((1, 2, 3), keepdim=True) + 1),
        lambda x, mask: mask[0] * x.mean((2, 3), keepdim=True),
    ],
    ids=["factor", "factor first", "means of channels", "sum", "divisor", "without a batch"],
)
def test_a_constant_picture_beside_a_number_is_computed(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    mask = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    deployable = _deployable(lambda x: function(x, mask), 24, 20)
    program = lower(deployable, for_onnx=True)
    torch.testing.assert_close(program.module()(picture)[0], function(picture, mask))
    assert not _bare_pictures(program)
    plain = [str(node.target) for node in lower(deployable).graph.nodes]
    assert not [name for name in plain if "relu" in name], "Core ML needs none of it"


@pytest.mark.parametrize("shape", [(20,), (24, 1), (1, 1, 24, 20), (1, 3, 24, 20), (3, 24, 1)], ids=str)
def test_maps_are_spread_to_the_pictures_shape(shape: tuple[int, ...]) -> None:
    map_ = torch.rand(shape, generator=torch.Generator().manual_seed(1))

    def function(x: Tensor) -> Tensor:
        return (x * map_ + map_) / (map_ + 1)

    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    program = lower(_deployable(function, 24, 20), for_onnx=True)
    torch.testing.assert_close(program.module()(picture)[0], function(picture))
    for node in program.graph.nodes:
        if str(node.target) in ("aten.mul.Tensor", "aten.div.Tensor"):
            sides = [tuple(value.meta["val"].shape) for value in node.args]
            assert sides[1] in ((1, 3, 24, 20), (1, 1, 24, 20)), sides


def test_factors_of_channels_that_are_as_many_as_columns_are_a_convolution() -> None:
    factors = torch.rand(3, 1, 1) + 0.5

    def function(x: Tensor) -> Tensor:
        return 1 - (factors - (x - factors) / factors * factors + factors)

    picture = torch.rand(1, 3, 24, 3, generator=torch.Generator().manual_seed(0))
    program = lower(_deployable(function, 24, 3), for_onnx=True)
    torch.testing.assert_close(program.module()(picture)[0], function(picture))
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert used == ["aten.conv2d.default"] * 5 + ["aten.rsub.Scalar"]


@pytest.mark.parametrize("axes", [(3,), (1, -2)])
def test_what_is_flipped_is_read_by_index(axes: tuple[int, ...]) -> None:
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    program = lower(_deployable(lambda x: x.flip(axes), 24, 20), for_onnx=True)
    assert torch.equal(program.module()(picture)[0], picture.flip(axes))
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert used == ["aten.index_select.default"] * len(axes)


@pytest.mark.parametrize(
    "function",
    [
        torch.fliplr,
        torch.flipud,
        *(
            lambda x, quarters=quarters, axes=axes: torch.rot90(x, quarters, axes)
            for quarters in (1, 2, 3, -1, 4)
            for axes in ((2, 3), (-1, -2), (1, 3))
        ),
    ],
)
def test_what_is_turned_is_read_by_index_too(function: Callable[[Tensor], Tensor]) -> None:
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    expected = function(picture)
    ports = (Port("image", (1, 3, 24, 20), (0.0, 1.0)),), (Port("out", tuple(expected.shape), (0.0, 1.0)),)
    program = lower(Deployable(_Layer(function).eval(), "layer", "Layer", "1", *ports), for_onnx=True)
    assert torch.equal(program.module()(picture)[0], expected)
    used = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert not any(word in name for name in used for word in ("flip", "rot90"))


def test_factors_of_channels_stay_as_they_are() -> None:
    factors = torch.rand(3, 1, 1)
    program = lower(_deployable(lambda x: x * factors, 24, 20), for_onnx=True)
    assert sum(node.op == "call_function" for node in program.graph.nodes) == 1


MATRIX = torch.randn(24, 24, generator=torch.Generator().manual_seed(1)) / 5
PLACES = torch.randint(0, 24, (1, 3, 24, 20), generator=torch.Generator().manual_seed(1))

FOR_ONNX = {
    "places that are constant": (lambda x: x.gather(2, PLACES), "index_select", "gather"),
    "fewer places than pixels": (lambda x: x.gather(-1, PLACES[:, :, :9] % 20), "index_select", "gather"),
    "places along an axis": (
        lambda x: torch.take_along_dim(x, PLACES[:, :, :, :1], 2),
        "index_select",
        "take_along_dim",
    ),
    "places that are computed": (lambda x: x.gather(1, x.argsort(1)), "index_select", "gather"),
    "running products": (lambda x: (x + 0.5).cumprod(1), "cat", "cumprod"),
    "rows by a matrix": (lambda x: MATRIX @ x, "conv2d", "matmul"),
    "columns by a matrix": (lambda x: x @ MATRIX[:20], "conv2d", "matmul"),
    "weights that are computed": (
        lambda x: F.conv2d(x, x[:, :, :6:2, :3].transpose(0, 1), x.mean((0, 2, 3)), 2, 1, 2, 3),
        "mul",
        "conv2d",
    ),
    "weights of one group that are computed": (
        lambda x: F.conv2d(
            x, x[0, :2, :3, :6].reshape(2, 3, 3, 2), x.mean((0, 2, 3))[:2], (2, 1), (1, 2), (2, 3)
        ),
        "matmul",
        "conv2d",
    ),
    "a square kernel that is computed": (
        lambda x: F.conv2d(x, x[0, :, :3, :9].reshape(3, 3, 3, 3), padding=1),
        "matmul",
        "conv2d",
    ),
    "the error function": (lambda x: torch.erf(9 * x - 4), "exp", "erf"),
    "unlike corners": (
        lambda x: (
            F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            - F.interpolate(x, scale_factor=2.0, mode="bilinear")
        ),
        "conv2d",
        "True",
    ),
}


MASK = MATRIX[:, :20] > 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(MASK, x, 1 - x),
        lambda x: torch.where(MASK[None, None], torch.log(x), x),  # of what is not chosen, black is infinite
        lambda x: torch.softmax(torch.where(MASK[None, None], -torch.inf, x), 3),
        lambda x: torch.where(MASK, (x * 9).int(), (x * 3).int()),
        lambda x: torch.where(MASK[0, :3].reshape(3, 1, 1), x, 0.5),
    ],
    ids=["of two", "infinite where it is not chosen", "by infinity", "whole numbers", "of channels"],
)
@pytest.mark.parametrize("for_onnx", [False, True], ids=["Core ML", "ONNX"])
def test_a_choice_by_a_constant_mask_stays_a_choice(
    function: Callable[[Tensor], Tensor], for_onnx: bool
) -> None:
    program = lower(_deployable(function, 24, 20), for_onnx=for_onnx)
    for picture in (
        torch.zeros(1, 3, 24, 20),
        torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0)),
    ):
        assert torch.equal(program.module()(picture)[0], function(picture))
    chosen = [node for node in program.graph.nodes if node.target is torch.ops.aten.where.self]
    masks = [node.args[0].meta["val"].shape for node in chosen]
    assert masks and (not for_onnx or masks == [(1, 3, 24, 20)])


@pytest.mark.parametrize(("function", "operator", "gone"), FOR_ONNX.values(), ids=FOR_ONNX)
def test_what_onnx2tf_gets_wrong_is_rewritten_for_it_alone(
    function: Callable[[Tensor], Tensor], operator: str, gone: str
) -> None:
    deployable = _deployable(function, 24, 20)
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))

    def calls(program: ExportedProgram) -> list[str]:
        nodes = [node for node in program.graph.nodes if node.op == "call_function"]
        return [f"{node.target} {[value for value in node.args if type(value) is bool]}" for node in nodes]

    program = lower(deployable, for_onnx=True)
    torch.testing.assert_close(program.module()(picture)[0], function(picture), rtol=1e-5, atol=1e-5)
    assert any(operator in call for call in calls(program))
    assert not any(gone in call for call in calls(program))
    assert any(gone in call for call in calls(lower(deployable)))


KEPT_FOR_ONNX: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "places of another picture's size": (
        lambda x: torch.take_along_dim(x.mean(1, keepdim=True), PLACES % 20, 3),
        "take_along_dim",
    ),
    "places in a list of everything": (
        lambda x: torch.take_along_dim(x, PLACES.reshape(-1)).reshape(x.shape),
        "take_along_dim",
    ),
    "lines by a matrix": (lambda x: (x[0] @ MATRIX[:20])[None], "matmul"),
    "by a matrix for each channel": (lambda x: x @ MATRIX[:20].expand(1, 3, 20, 24).contiguous(), "matmul"),
    "by a matrix that is computed": (lambda x: x @ x.transpose(2, 3), "matmul"),
    "weights that are filled with a number": (lambda x: F.conv2d(x, x.new_full((1, 3, 3, 3), 0.1)), "conv2d"),
    "weights that are computed, of two results a channel": (
        lambda x: F.conv2d(x, x[0, :2, :6, :3].reshape(6, 1, 2, 3)[:, :, :, :2], groups=3),
        "conv2d",
    ),
    "weights of a depthwise convolution": (
        lambda x: F.conv2d(x, MATRIX[:3, :9].reshape(3, 1, 3, 3), groups=3),
        "conv2d",
    ),
    "a mask of the picture's own shape": (
        lambda x: torch.where(MASK.expand(1, 3, 24, 20).contiguous(), x, 1 - x),
        "where",
    ),
    "a mask that is computed": (lambda x: torch.where(x > 0.5, x, 1 - x), "where"),
    "aligned corners alone": (
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True),
        "upsample_bilinear2d",
    ),
    "unlike corners of other sizes": (
        lambda x: (
            F.interpolate(x, size=(48, 40), mode="bilinear", align_corners=True)
            + F.interpolate(x, size=(48, 20), mode="bilinear").mean()
        ),
        "upsample_bilinear2d",
    ),
}


@pytest.mark.parametrize(("function", "kept"), KEPT_FOR_ONNX.values(), ids=KEPT_FOR_ONNX)
def test_what_differs_from_what_onnx2tf_gets_wrong_in_one_point_stays(
    function: Callable[[Tensor], Tensor], kept: str
) -> None:
    """The graph for ONNX has the same operators as the other."""
    deployable = _deployable(function, 24, 20)
    program = lower(deployable, for_onnx=True)
    assert kept in _calls(program)
    assert _calls(program) == _calls(lower(deployable))
    picture = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(program.module()(picture)[0], function(picture), rtol=1e-5, atol=1e-5)


def test_a_branch_is_refused_with_its_place() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.cond(x.mean() > 0.5, lambda t: t * 0.5, lambda t: t * 1.0, (x,))

    with pytest.raises(
        UserError, match=r"cond \(test_lower.py, line \d+\) decides by values.* use torch.where"
    ):
        lower(_deployable(function, 24, 20))
