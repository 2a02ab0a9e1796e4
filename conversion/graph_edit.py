"""Reading and changing the nodes of a captured graph.

changed = fold_constants(module)      # a captured GraphModule, changed in place
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Node = torch.fx.Node


def call(node: Node, function: Callable[..., Tensor], *arguments: Any) -> bool:
    """Let a node call another function."""
    node.target, node.args, node.kwargs = function, arguments, {}
    return True


def constants(module: nn.Module, node: Node, *values: Tensor) -> list[Node]:
    """Constants for a node to read, kept in the module."""
    made = []
    # Rewritten twice, a graph may have two nodes of one name in turn: what the first one reads is kept.
    names = (f"constant_{node.name}_{index}" for index in itertools.count())
    free = (name for name in names if not hasattr(module, name))
    for value in values:
        name = next(free)
        module.register_buffer(name, value)
        with node.graph.inserting_before(node):
            made.append(node.graph.get_attr(name))
    return made


def constant_of(module: nn.Module, value: Any) -> Tensor | None:
    """A number or a constant of a captured graph's module as float32; None for what the network computes."""
    if type(value) in (int, float):
        return torch.tensor(float(value))
    tensor = _kept(module, value) if isinstance(value, Node) and value.op == "get_attr" else None
    return None if tensor is None or tensor.dtype != torch.float32 else tensor


def _kept(module: nn.Module, node: Node) -> Tensor | None:
    """The tensor that a node reads from the module, if it is one."""
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    return value.detach() if isinstance(value, Tensor) else None


def named(node: Node, *names: str) -> list[Any]:
    """The arguments of an operator in the order of ``names``, its own; defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = {argument.name: value for argument, value in zip(schema, node.args, strict=False)} | node.kwargs
    defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    return [given.get(name, defaults.get(name)) for name in names]


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of what a node computes."""
    return tuple(int(side) for side in node.meta["val"].shape)


def constant_nodes(module: torch.fx.GraphModule) -> set[Node]:
    """What no input changes."""
    known: set[Node] = set()
    for node in module.graph.nodes:
        if (
            _kept(module, node) is not None
            if node.op == "get_attr"
            else node.op == "call_function" and known.issuperset(node.all_input_nodes)
        ):
            known.add(node)
    return known


def fold_constants(module: torch.fx.GraphModule) -> bool:
    """Replace what is computed of constants alone by its value. Whether anything was."""
    known = constant_nodes(module)
    folded = False
    for node in list(module.graph.nodes):
        if node not in known or node.op == "get_attr" or known.issuperset(node.users):
            continue  # the last of a chain is replaced
        value = value_of(module, node)
        if not isinstance(value, Tensor):
            continue
        (constant,) = constants(module, node, value.contiguous())
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
        folded = True
    if folded:
        for node in reversed(module.graph.nodes):
            if node in known and not node.users:  # also what only asserts something of constants
                module.graph.erase_node(node)
    return folded


def value_of(module: nn.Module, value: Any) -> Any:
    """What a node that depends on no input computes; other values as they are."""
    if not isinstance(value, Node):
        return value
    if value.op == "get_attr":
        return _kept(module, value)
    arguments = torch.fx.map_arg((value.args, value.kwargs), lambda node: value_of(module, node))
    with torch.no_grad():
        return value.target(*arguments[0], **arguments[1])  # type: ignore[operator]
