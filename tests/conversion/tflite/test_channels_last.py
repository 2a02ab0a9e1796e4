"""Pictures that a file gives in PyTorch's order of axes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from afterlens.conversion.bundle.layout import Reference
from afterlens.conversion.tflite.channels_last import with_channels_last
from afterlens.conversion.tflite.graph import operator_names, pack, read_tflite
from afterlens.conversion.tflite.onnx2tf import finish_tflite
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from tests.conversion.tflite.files import File


class _Turned(nn.Module):
    """A picture of negative numbers, turned by a quarter."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (-image.transpose(2, 3),)


def _file(folder: Path, height: int, width: int, order: list[int], negative: bool = True) -> Path:
    """-image or |image|, its axes in an order of their own."""
    file, shape = File(), (1, height, width, 3)
    image, kept = file.tensor(shape), file.tensor(shape)
    axes = file.tensor((4,), np.int32, np.array(order))
    result = file.tensor(tuple(shape[axis] for axis in order))
    file.operator("NEG" if negative else "ABS", [image], [kept])
    file.operator("TRANSPOSE", [kept, axes], [result])
    file.graph.tensors[image].name = b"image"
    return file.write(folder / "source.tflite", [image], [result])


def _finish(folder: Path, source: Path, height: int, width: int) -> Path:
    ports = (
        (Port("image", (1, 3, height, width), (0.0, 1.0)),),
        (Port("out", (1, 3, width, height), (-1.0, 0.0)),),
    )
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    network = _Turned()
    reference = Reference({"image": image.numpy()}, {"out": network(image)[0].numpy()})
    target = folder / "finished.tflite"
    finish_tflite(source, target, Deployable(network, "t", "T", "1", *ports), reference, "float32")
    runner = Interpreter(str(target)).get_signature_runner()
    got = runner(image=image.permute(0, 2, 3, 1).numpy().copy())["out"]
    np.testing.assert_allclose(got, network(image)[0].permute(0, 2, 3, 1), atol=1e-6)
    return target


@pytest.mark.parametrize(("height", "width"), [(5, 7), (3, 3)], ids=["oblong", "all axes alike"])
@pytest.mark.parametrize(("order", "operators"), [((0, 3, 2, 1), 3), ((0, 2, 1, 3), 2)])
def test_a_picture_in_pytorchs_order_is_given_with_its_channels_last(
    height: int, width: int, order: list[int], operators: int, tmp_path: Path
) -> None:
    source = _file(tmp_path, height, width, list(order))
    names = operator_names(read_tflite(_finish(tmp_path, source, height, width)))
    assert names == ["NEG", "TRANSPOSE", "TRANSPOSE"][:operators]


def test_a_wrong_picture_is_refused_in_either_order(tmp_path: Path) -> None:
    for order in ([0, 3, 2, 1], [0, 2, 1, 3]):
        with pytest.raises(UserError, match="no output of the float32 file is 'out'"):
            _finish(tmp_path, _file(tmp_path, 3, 3, order, negative=False), 3, 3)


def test_the_operators_code_is_added_where_the_file_has_none(tmp_path: Path) -> None:
    file, shape = File(), (1, 3, 5, 7)
    image, result = file.tensor(shape), file.tensor(shape)
    file.operator("ABS", [image], [result])
    model = file.finish([image], [result])
    made = with_channels_last(model, result)
    assert model.subgraphs[0].outputs == [made]
    assert [code.version for code in model.operatorCodes] == [1, 1]
    interpreter = Interpreter(model_content=bytes(pack(model)))
    interpreter.allocate_tensors()
    values = -np.arange(105, dtype=np.float32).reshape(shape)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(got, -values.transpose(0, 2, 3, 1))
