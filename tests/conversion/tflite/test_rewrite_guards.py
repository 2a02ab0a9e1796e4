"""Pixel-shuffles that must keep their order of channels: one graph for each guard, run before and after."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from afterlens.conversion.tflite.onnx_rewrite import reorder_shuffles

RNG = np.random.default_rng(0)
IMAGE = [1, 4, 6, 8]


def weight(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(
        np.random.default_rng(len(name)).normal(size=shape).astype(np.float32), name
    )


def graph(
    nodes: list[Any], constants: list[Any], outputs: dict[str, list[int]], image: list[int] = IMAGE
) -> Any:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    checker.check_model(model, full_check=True)
    return model


def results(model: Any) -> list[Any]:
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(1).random(shape, np.float32)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})


def modes(model: Any) -> list[bytes]:
    return [
        next((a.s for a in node.attribute if a.name == "mode"), b"DCR")
        for node in model.graph.node
        if node.op_type == "DepthToSpace"
    ]


CONV = helper.make_node("Conv", ["image", "w"], ["deep"])
SHUFFLE = helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD")
W = weight("w", 8, 4, 1, 1)
OUT = {"out": [1, 2, 12, 16]}


def output_too() -> Any:
    """The tensor before the shuffle is an output of the graph."""
    return graph([CONV, SHUFFLE], [W], {**OUT, "deep": [1, 8, 6, 8]})


def straight_from_the_image() -> Any:
    """The image itself is shuffled."""
    return graph(
        [helper.make_node("DepthToSpace", ["image"], ["out"], blocksize=2, mode="CRD")],
        [],
        {"out": [1, 1, 12, 16]},
    )


def read_by_a_mixture() -> Any:
    """A mean over channels reads the same tensor: in another order it would be the same, but a softmax over part is not."""
    nodes = [CONV, SHUFFLE, helper.make_node("Slice", ["deep", "from", "to", "axis"], ["part"])]
    constants = [W] + [
        numpy_helper.from_array(np.array([n]), name) for name, n in (("from", 0), ("to", 3), ("axis", 1))
    ]
    return graph(nodes, constants, {**OUT, "part": [1, 3, 6, 8]})


def made_by_a_mixture() -> Any:
    """A softmax over the channels makes the tensor."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["raw"]),
        helper.make_node("Concat", ["raw", "image"], ["deep"], axis=1),
        helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD"),
    ]
    return graph(nodes, [W], {"out": [1, 3, 12, 16]})


def made_in_groups() -> Any:
    """A convolution in groups makes the tensor."""
    return graph(
        [helper.make_node("Conv", ["image", "w"], ["deep"], group=2), SHUFFLE], [weight("w", 8, 2, 1, 1)], OUT
    )


def read_in_groups() -> Any:
    """A convolution in groups reads the tensor too."""
    nodes = [CONV, SHUFFLE, helper.make_node("Conv", ["deep", "v"], ["other"], group=4)]
    return graph(nodes, [W, weight("v", 8, 2, 1, 1)], {**OUT, "other": [1, 8, 6, 8]})


def computed_weights() -> Any:
    """The convolution's weights are computed."""
    nodes = [helper.make_node("Neg", ["v"], ["w"]), CONV, SHUFFLE]
    return graph(nodes, [weight("v", 8, 4, 1, 1)], OUT)


def read_as_weights() -> Any:
    """A convolution reads the tensor as its weights: the permutation would have to be another one."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["deep"], strides=[3, 4]),
        helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD"),
        helper.make_node("Conv", ["constant", "deep"], ["other"]),
    ]
    constants = [W, weight("constant", 1, 8, 6, 8)]
    return graph(nodes, constants, {"out": [1, 2, 4, 4], "other": [1, 1, 5, 7]})


def shuffled_by_another_block() -> Any:
    """Another shuffle of another block reads the tensor."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["deep"]),
        helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD"),
        helper.make_node("DepthToSpace", ["deep"], ["other"], blocksize=4, mode="CRD"),
    ]
    return graph(nodes, [weight("w", 16, 4, 1, 1)], {"out": [1, 4, 12, 16], "other": [1, 1, 24, 32]})


def unshuffled_by_another_block() -> Any:
    """What is shuffled by 2 was unshuffled by 4."""
    return _unshuffle(4, [0, 1, 3, 5, 2, 4])


def turned_while_unshuffled() -> Any:
    """The unshuffle exchanges rows and columns within its blocks."""
    return _unshuffle(2, [0, 1, 5, 3, 2, 4])


def half_unshuffled_elsewhere() -> Any:
    """A step within the unshuffle is read elsewhere."""
    return _unshuffle(2, [0, 1, 3, 5, 2, 4], {"other": [1, 4, 2, 2, 4, 4]})


def half_unshuffled_for_all_to_see() -> Any:
    """A step within the unshuffle is an output of the graph."""
    return _unshuffle(2, [0, 1, 3, 5, 2, 4], {"moved": [1, 4, 2, 2, 4, 4]})


def _unshuffle(block: int, order: list[int], more: dict[str, list[int]] | None = None) -> Any:
    side = 8 // block
    shapes = {"split": [1, 4, side, block, side, block], "joined": [1, 4 * block**2, side, side]}
    nodes = [
        helper.make_node("Reshape", ["image", "split"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["moved"], perm=order),
        helper.make_node("Reshape", ["moved", "joined"], ["deep"]),
        helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD"),
    ]
    if more and "other" in more:
        nodes.append(helper.make_node("Neg", ["moved"], ["other"]))
    constants = [numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items()]
    outputs = {"out": [1, block**2, 2 * side, 2 * side], **(more or {})}
    return graph(nodes, constants, outputs, [1, 4, 8, 8])


def _half_an_unshuffle(nodes: list[Any]) -> Any:
    """What the nodes make of the image (1, 4, 6, 8), (1, 8, 6, 4) and called "deep", is shuffled."""
    joined = numpy_helper.from_array(np.array([1, 8, 6, 4]), "joined")
    shuffle = helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD")
    return graph([*nodes, shuffle], [joined], {"out": [1, 2, 12, 8]})


def only_reshaped() -> Any:
    """The image is reshaped, and nothing is before that."""
    return _half_an_unshuffle([helper.make_node("Reshape", ["image", "joined"], ["deep"])])


def reshaped_after_something_else() -> Any:
    """What is reshaped was not transposed."""
    nodes = [
        helper.make_node("Neg", ["image"], ["negative"]),
        helper.make_node("Reshape", ["negative", "joined"], ["deep"]),
    ]
    return _half_an_unshuffle(nodes)


def only_transposed_and_reshaped() -> Any:
    """The image is transposed and reshaped, and nothing is before that."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 1, 3, 2]),
        helper.make_node("Reshape", ["moved", "joined"], ["deep"]),
    ]
    return _half_an_unshuffle(nodes)


def transposed_after_something_else() -> Any:
    """What is transposed and reshaped was not reshaped before."""
    nodes = [
        helper.make_node("Neg", ["image"], ["negative"]),
        helper.make_node("Transpose", ["negative"], ["moved"], perm=[0, 1, 3, 2]),
        helper.make_node("Reshape", ["moved", "joined"], ["deep"]),
    ]
    return _half_an_unshuffle(nodes)


def transposed_and_not_reshaped() -> Any:
    """What is reshaped and transposed goes on to something else than a reshape."""
    nodes = [
        helper.make_node("Reshape", ["image", "joined"], ["parts"]),
        helper.make_node("Transpose", ["parts"], ["moved"], perm=[0, 1, 2, 3]),
        helper.make_node("Softmax", ["moved"], ["deep"], axis=2),
    ]
    return _half_an_unshuffle(nodes)


def split_by_a_computed_shape() -> Any:
    """The first shape of the unshuffle is no constant."""
    model = _unshuffle(2, [0, 1, 3, 5, 2, 4])
    model.graph.node.insert(0, helper.make_node("Identity", ["split"], ["computed"]))
    model.graph.node[1].input[1] = "computed"
    return model


LEFT_ALONE = (
    output_too,
    straight_from_the_image,
    read_by_a_mixture,
    made_by_a_mixture,
    made_in_groups,
    read_in_groups,
    computed_weights,
    read_as_weights,
    shuffled_by_another_block,
    unshuffled_by_another_block,
    turned_while_unshuffled,
    half_unshuffled_elsewhere,
    half_unshuffled_for_all_to_see,
    only_reshaped,
    reshaped_after_something_else,
    only_transposed_and_reshaped,
    transposed_after_something_else,
    transposed_and_not_reshaped,
    split_by_a_computed_shape,
)


@pytest.mark.parametrize("make", LEFT_ALONE)
def test_what_cannot_change_its_order_is_left_alone(make: Any) -> None:
    model = make()
    before, expected = copy.deepcopy(model), results(model)
    reorder_shuffles(model)
    for one, other in zip(results(model), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert modes(model) == modes(before)
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in before.graph.node]


def test_a_shuffle_in_the_right_order_is_not_touched() -> None:
    nodes = [CONV, helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="DCR")]
    model = graph(nodes, [W], OUT)
    expected = results(model)
    assert reorder_shuffles(model) == 0
    np.testing.assert_array_equal(results(model)[0], expected[0])


def test_the_same_graph_without_the_obstacle_is_rewritten() -> None:
    for model in (graph([CONV, SHUFFLE], [W], OUT), _unshuffle(2, [0, 1, 3, 5, 2, 4])):
        expected = results(model)
        assert reorder_shuffles(model) > 0
        assert modes(model) == [b"DCR"]
        np.testing.assert_allclose(results(model)[0], expected[0], atol=1e-5)
