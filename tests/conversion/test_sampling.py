"""Sampling by a constant grid becomes a weighted sum of pixels, and keeps its places in float16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afterlens.conversion.bundle.reference import with_float16_weights
from afterlens.conversion.lower import lower
from afterlens.training.deployable import Deployable, Port

SHAPE = (1, 3, 20, 96)
PICTURE = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
GRID = 3 * torch.rand(1, 9, 11, 2, generator=torch.Generator().manual_seed(1)) - 1.5


class _Sampled(nn.Module):
    def __init__(self, grid: Tensor, mode: str, padding: str, align: bool) -> None:
        super().__init__()
        self.register_buffer("grid", grid)
        self.how = {"mode": mode, "padding_mode": padding, "align_corners": align}

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (F.grid_sample(x, self.grid + 0.0, **self.how),)  # type: ignore[arg-type,operator]


def _deployable(
    grid: Tensor, mode: str = "bilinear", padding: str = "zeros", align: bool = False
) -> Deployable:
    ports = (Port("image", SHAPE, (0.0, 1.0)),), (Port("out", (1, 3, 9, 11), (0.0, 1.0)),)
    return Deployable(_Sampled(grid, mode, padding, align).eval(), "net", "Net", "1", *ports)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_a_constant_grid_is_read_by_index(mode: str, padding: str, align: bool) -> None:
    deployable = _deployable(GRID, mode, padding, align)
    program = lower(deployable)
    used = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.index_select.default" in used
    assert "aten.grid_sampler.default" not in used
    torch.testing.assert_close(
        program.module()(PICTURE)[0], deployable.module(PICTURE)[0], rtol=1e-4, atol=1e-4
    )


def test_rounded_to_float16_it_is_not_displaced() -> None:
    deployable = _deployable(GRID)
    rounded = with_float16_weights(deployable).module(PICTURE)[0]
    error = float((rounded - deployable.module(PICTURE)[0]).abs().max())
    print(f"max error {error:.2e}")
    assert error < 1e-3


class _Other(nn.Module):
    """Samplings that are not rewritten: each differs from the others in one point."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.register_buffer("grid", GRID)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        grid: Tensor = self.grid  # type: ignore[assignment]
        if self.what == "bicubic":
            return (F.grid_sample(x, grid, mode="bicubic", align_corners=False),)
        if self.what == "computed":
            return (F.grid_sample(x, grid * x.mean(), align_corners=False),)
        if self.what == "of volumes":
            deep = torch.cat((grid, grid[..., :1]), -1)[:, None]
            return (F.grid_sample(x[:, :, None], deep, align_corners=False)[:, :, 0],)
        two = torch.cat((grid, grid.flip(1)))
        return (F.grid_sample(x.expand(2, -1, -1, -1), two, align_corners=False)[:1],)


@pytest.mark.parametrize("what", ["bicubic", "computed", "of volumes", "of two pictures"])
def test_any_other_sampling_stays(what: str) -> None:
    module = _Other(what).eval()
    ports = (Port("image", SHAPE, (0.0, 1.0)),), (Port("out", (1, 3, 9, 11), (0.0, 1.0)),)
    program = lower(Deployable(module, "net", "Net", "1", *ports))
    used = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.grid_sampler.default" in used and "aten.index_select.default" not in used
    torch.testing.assert_close(program.module()(PICTURE)[0], module(PICTURE)[0])


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_places_on_pixels_between_them_and_at_the_very_edge(mode: str, padding: str) -> None:
    """Every half pixel, from two beyond the edge on: with corners aligned, of a row as well."""
    columns = torch.arange(-4, 199) / 95 - 1
    rows = torch.tensor([-1.0, 0.0, 1.0])
    for height, align in ((20, True), (20, False), (1, True)):
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]
        module = _Sampled(grid, mode, padding, align).eval()
        shape = (1, 3, height, 96)
        ports = (Port("image", shape, (0.0, 1.0)),), (Port("out", (1, 3, 3, 203), (0.0, 1.0)),)
        program = lower(Deployable(module, "net", "Net", "1", *ports))
        picture = PICTURE[:, :, :height]
        got, wanted = program.module()(picture)[0], module(picture)[0]
        # Half a pixel is rounded to either side, as the digits will have it.
        same = torch.ones(203, dtype=torch.bool) if mode == "bilinear" else torch.arange(203) % 2 == 0
        torch.testing.assert_close(got[..., same], wanted[..., same], rtol=1e-4, atol=1e-4)
