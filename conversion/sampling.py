"""Sampling at places that no input changes, as weighted sums of pixels that are read by index.

rewrite_fixed_sampling(module)      # a captured GraphModule, changed in place

A grid of constant places (of a lens that is corrected, of a mesh) loses digits as float16, an eighth of a pixel at the end of
256. Weights in [0, 1] lose none that show.
"""

from __future__ import annotations

import torch
from torch import Tensor

from afterlens.conversion.graph_edit import call, constant_nodes, constants, named, shape_of, value_of

Node = torch.fx.Node
_aten = torch.ops.aten


def rewrite_fixed_sampling(module: torch.fx.GraphModule) -> bool:
    """Rewrite each bilinear or nearest sampling of pictures by a constant grid. Whether there was any."""
    known = constant_nodes(module)
    calls = [node for node in module.graph.nodes if node.target is _aten.grid_sampler.default]
    changed = [_fixed(module, node) for node in calls if node.args[1] in known]
    return any(changed)


def _fixed(module: torch.fx.GraphModule, node: Node) -> bool:
    names = ("input", "grid", "interpolation_mode", "padding_mode", "align_corners")
    x, grid, mode, padding, align = named(node, *names)
    places = value_of(module, grid)
    if mode not in (_BILINEAR, _NEAREST) or len(shape_of(x)) != 4 or places.shape[0] != 1:
        return False
    height, width = shape_of(x)[2:]
    columns, rows = (
        _pixels(places[0, ..., axis].reshape(-1).double(), side, padding, align)
        for axis, side in ((0, width), (1, height))
    )
    indices, weights = [], []
    for row, by_row in _neighbours(rows, height, mode):
        for column, by_column in _neighbours(columns, width, mode):
            indices.append(row * width + column)
            weights.append((by_row * by_column).float())
    given = constants(module, node, *indices, *weights)
    half = len(indices)
    return call(node, _sampled, x, given[:half], given[half:], list(places.shape[1:3]))


_BILINEAR, _NEAREST = 0, 1
_ZEROS, _BORDER = 0, 1  # the third is reflection


def _pixels(places: Tensor, side: int, padding: int, align: bool) -> Tensor:
    """[-1, 1] -> in pixels, as PyTorch pads."""
    pixels = (places + 1) / 2 * (side - 1) if align else ((places + 1) * side - 1) / 2
    if padding == _ZEROS:
        return pixels
    if padding != _BORDER:
        low, span = (0.0, float(side - 1)) if align else (-0.5, float(side))
        apart = (pixels - low).abs()
        rest, times = (apart.remainder(span), (apart / span).floor()) if span else (apart * 0, apart * 0)
        pixels = torch.where(times % 2 == 0, rest, span - rest) + low
    return pixels.clamp(0, side - 1)


def _neighbours(pixels: Tensor, side: int, mode: int) -> list[tuple[Tensor, Tensor]]:
    """Along one axis: the pixels beside each place and their shares, which are zero beyond the edge."""
    if mode == _NEAREST:
        parts = [(pixels.round(), torch.ones_like(pixels))]
    else:
        before = pixels.floor()
        parts = [(before, before + 1 - pixels), (before + 1, pixels - before)]
    return [
        (place.clamp(0, side - 1).long(), share * ((place >= 0) & (place < side))) for place, share in parts
    ]


def _sampled(x: Tensor, indices: list[Tensor], weights: list[Tensor], size: list[int]) -> Tensor:
    flat = x.reshape(x.shape[0], x.shape[1], -1)
    parts = [flat.index_select(2, i) * w for i, w in zip(indices, weights, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total.reshape(x.shape[0], x.shape[1], *size)
