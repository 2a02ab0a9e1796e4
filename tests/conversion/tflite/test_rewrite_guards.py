"""Pixel-shuffles that must keep their order of channels, and those that change it: each graph is run before and after."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

from afterlens.conversion.tflite.onnx_rewrite import name_ports, reorder_shuffles

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
    name = model.graph.input[0].name
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {name: image})


def modes(model: Any) -> list[bytes]:
    return [
        next((a.s for a in node.attribute if a.name == "mode"), b"DCR")
        for node in model.graph.node
        if node.op_type == "DepthToSpace"
    ]


CONV = helper.make_node("Conv", ["image", "w"], ["deep"])
SHUFFLE = helper.make_node("DepthToSpace", ["deep"], ["out"], blocksize=2, mode="CRD")
W = weight("w", 8, 4, 1, 1)


def shuffled(name: str, result: str = "out") -> Any:
    """A shuffle by 2, in PyTorch's order."""
    return helper.make_node("DepthToSpace", [name], [result], blocksize=2, mode="CRD")


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


def a_number_for_each_channel() -> Any:
    """A constant is added that has an order of its own."""
    nodes = [CONV, helper.make_node("Add", ["deep", "offsets"], ["moved"]), shuffled("moved")]
    return graph(nodes, [W, weight("offsets", 1, 8, 1, 1)], OUT)


def shuffled_in_the_other_order_too() -> Any:
    """Another shuffle reads the tensor, which has the right order already."""
    other = helper.make_node("DepthToSpace", ["deep"], ["other"], blocksize=2, mode="DCR")
    return graph([CONV, SHUFFLE, other], [W], {**OUT, "other": [1, 2, 12, 16]})


def read_with_computed_weights() -> Any:
    """A convolution with computed weights reads the tensor too."""
    nodes = [
        *(CONV, SHUFFLE, helper.make_node("Neg", ["v"], ["computed"])),
        helper.make_node("Conv", ["deep", "computed"], ["other"]),
    ]
    return graph(nodes, [W, weight("v", 3, 8, 1, 1)], {**OUT, "other": [1, 3, 6, 8]})


def added_to_the_image() -> Any:
    """What is shuffled is the sum of a convolution and the image."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["deep"]),
        helper.make_node("Add", ["image", "deep"], ["sum"]),
        shuffled("sum"),
    ]
    return graph(nodes, [weight("w", 4, 4, 1, 1)], {"out": [1, 1, 12, 16]})


LEFT_ALONE = (
    a_number_for_each_channel,
    shuffled_in_the_other_order_too,
    read_with_computed_weights,
    added_to_the_image,
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


def between(*kinds: str) -> Any:
    """A convolution, these operators one after the other, a shuffle."""
    names = ["deep", *(f"step{place}" for place in range(len(kinds)))]
    made = [
        helper.make_node(kind, [one], [other])
        for kind, one, other in zip(kinds, names[:-1], names[1:], strict=True)
    ]
    return graph([CONV, *made, shuffled(names[-1])], [W], OUT)


def with_a_number(kind: str, shape: list[int], first: bool = False) -> Any:
    """A constant of one value on either side."""
    constant = numpy_helper.from_array(np.full(shape, 0.3, np.float32), "number")
    operands = ["number", "deep"] if first else ["deep", "number"]
    return graph([CONV, helper.make_node(kind, operands, ["moved"]), shuffled("moved")], [W, constant], OUT)


def clipped(low: str, high: str) -> Any:
    """Perhaps at one end only: the other's name is empty then."""
    ends = [
        numpy_helper.from_array(np.array(end, np.float32), name)
        for name, end in (("low", -0.2), ("high", 0.3))
    ]
    nodes = [CONV, helper.make_node("Clip", ["deep", low, high], ["moved"]), shuffled("moved")]
    return graph(nodes, [W, *(end for end in ends if end.name in (low, high))], OUT)


def of_two_convolutions() -> Any:
    """Two convolutions with a bias are multiplied, one of them is used twice."""
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["deep"]),
        helper.make_node("Conv", ["image", "vv", "b"], ["other"]),
        helper.make_node("Relu", ["deep"], ["positive"]),
        helper.make_node("Mul", ["positive", "other"], ["product"]),
        helper.make_node("Sub", ["product", "deep"], ["rest"]),
        shuffled("rest"),
    ]
    return graph(nodes, [W, weight("vv", 8, 4, 1, 1), weight("b", 8)], OUT)


def under_a_mask() -> Any:
    """A mask of one channel, the same for all."""
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["deep"]),
        helper.make_node("Conv", ["image", "vv"], ["mask"]),
        helper.make_node("Sigmoid", ["mask"], ["share"]),
        helper.make_node("Mul", ["deep", "share"], ["masked"]),
        shuffled("masked"),
    ]
    return graph(nodes, [W, weight("vv", 1, 4, 1, 1)], OUT)


def read_by_a_convolution_too() -> Any:
    """A convolution reads the tensor beside the shuffle."""
    nodes = [CONV, SHUFFLE, helper.make_node("Conv", ["deep", "vv", "b"], ["other"])]
    return graph(nodes, [W, weight("vv", 3, 8, 1, 1), weight("b", 3)], {**OUT, "other": [1, 3, 6, 8]})


def of_weights_that_another_uses() -> Any:
    """The same weights make a result that is not shuffled, and keeps its order."""
    nodes = [CONV, SHUFFLE, helper.make_node("Conv", ["image", "w"], ["other"])]
    return graph(nodes, [W], {**OUT, "other": [1, 8, 6, 8]})


def unshuffled_and_shuffled() -> Any:
    """An unshuffle, a convolution whose rows and columns both change, a shuffle."""
    model = _unshuffle(2, [0, 1, 3, 5, 2, 4])
    model.graph.node.insert(3, helper.make_node("Conv", ["deep", "w"], ["moved_on"]))
    model.graph.node.insert(4, helper.make_node("Add", ["moved_on", "deep"], ["sum"]))
    model.graph.node[-1].input[0] = "sum"
    model.graph.initializer.append(weight("w", 16, 16, 1, 1))
    return model


REWRITTEN: dict[str, tuple[Any, int]] = {
    "nothing between": (lambda: graph([CONV, SHUFFLE], [W], OUT), 1),
    "pixel by pixel": (lambda: between("Relu", "Neg", "Sigmoid"), 1),
    "a number": (lambda: with_a_number("Add", [1]), 1),
    "a number first": (lambda: with_a_number("Sub", [1, 1, 1, 1], first=True), 1),
    "a number without axes": (lambda: with_a_number("Div", []), 1),
    "the smaller": (lambda: with_a_number("Min", [1]), 1),
    "the larger": (lambda: with_a_number("Max", [1, 1, 1]), 1),
    "clipped": (lambda: clipped("low", "high"), 1),
    "clipped from above": (lambda: clipped("", "high"), 1),
    "clipped from below": (lambda: clipped("low", ""), 1),
    "two convolutions": (of_two_convolutions, 1),
    "a mask": (under_a_mask, 1),
    "another reader": (read_by_a_convolution_too, 1),
    "shared weights": (of_weights_that_another_uses, 1),
    "an unshuffle": (lambda: _unshuffle(2, [0, 1, 3, 5, 2, 4]), 2),
    "an unshuffle and a convolution": (unshuffled_and_shuffled, 2),
    "two shuffles": (
        lambda: graph([CONV, SHUFFLE, shuffled("deep", "o2")], [W], {**OUT, "o2": OUT["out"]}),
        2,
    ),
}


@pytest.mark.parametrize(("make", "changed"), REWRITTEN.values(), ids=REWRITTEN)
def test_what_works_channel_by_channel_changes_its_order(make: Any, changed: int) -> None:
    model = make()
    expected = results(model)
    assert reorder_shuffles(model) == changed
    checker.check_model(model, full_check=True)
    assert set(modes(model)) == {b"DCR"}
    assert "Transpose" not in [node.op_type for node in model.graph.node]
    for one, other in zip(results(model), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    read = {name for node in model.graph.node for name in node.input}
    assert {constant.name for constant in model.graph.initializer} <= read  # what was permuted is gone
    assert reorder_shuffles(model) == 0


# Names


@pytest.mark.parametrize(
    ("names", "inner"),
    [
        ({"image": "photo", "out": "clean"}, "deep"),
        ({"image": "deep", "out": "clean"}, "deep"),  # an inner value has the name
        ({"image": "w", "out": "clean"}, "deep"),  # a constant has it
        ({"image": "deep", "out": "deep_0"}, "deep"),  # where the inner value might have gone
        ({"image": "deep", "out": "w"}, "deep"),
        ({"image": "out", "out": "image"}, "deep"),  # exchanged
        ({"image": "image", "out": "out"}, "deep"),
        ({"image": "deep", "out": "clean"}, "deep_0"),
    ],
    ids=str,
)
def test_ports_get_their_names_whatever_is_called_so_already(names: dict[str, str], inner: str) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["deep"]),
        helper.make_node("Relu", ["deep"], ["deep_0" if inner == "deep_0" else "more"]),
        shuffled("deep_0" if inner == "deep_0" else "more"),
    ]
    model = graph(nodes, [W], OUT)
    model = shape_inference.infer_shapes(model)  # inner values are described, too
    (expected,) = results(model)
    name_ports(model, names)
    checker.check_model(model, full_check=True)
    own = [value.name for value in (*model.graph.input, *model.graph.output)]
    assert own == [names["image"], names["out"]]
    made = [name for node in model.graph.node for name in node.output]
    all_names = [names["image"], *made, *(constant.name for constant in model.graph.initializer)]
    assert len(set(all_names)) == len(all_names) == 5
    assert {value.name for value in model.graph.value_info} <= set(made)
    (got,) = results(model)
    np.testing.assert_array_equal(got, expected)
