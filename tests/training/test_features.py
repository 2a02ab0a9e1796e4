"""Frozen feature networks: VGG19 block by block, EfficientNet-Lite0 against TensorFlow's padding and batch normalisation."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from afterlens.training import features
from afterlens.training.features import VGG19, EfficientNetLite0, SameConv, features_file, load_features
from afterlens.training.losses import FeatureLoss
from afterlens.training.media.errors import UserError
from tests.training.vgg import write_vgg_weights

# --- VGG19 --------------------------------------------------------------------------------------------------


def vgg_features(image: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, block by block, in float64."""
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    x = (image.double() - mean) / deviation
    first_of_block: list[Tensor] = []
    for block in ([0, 2], [5, 7], [10, 12, 14, 16], [19, 21, 23, 25], [28]):
        if first_of_block:
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).amax(dim=(3, 5))
        for layer in block:
            weight, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
            x = F.conv2d(x, weight.double(), bias.double(), padding=1).clamp_min(0.0)
            if layer == block[0]:
                first_of_block.append(x)
    return first_of_block


def test_vgg_loss_is_the_mean_difference_of_five_features(
    tmp_path: Path, pair: tuple[Tensor, Tensor]
) -> None:
    weights = write_vgg_weights(tmp_path / "vgg19.safetensors")
    loss = FeatureLoss(VGG19(tmp_path / "vgg19.safetensors"))
    one, other = pair
    features = zip(vgg_features(one, weights), vgg_features(other, weights), strict=True)
    each = [float((a - b).abs().mean()) for a, b in features]
    got = float(loss(one, other))
    print(got, each)
    assert min(each) > 0.01, "every layer takes part"
    assert got == pytest.approx(sum(each) / 5, rel=1e-4)
    assert float(loss(one, one)) == 0.0

    result = one.clone().requires_grad_()
    target = other.clone().requires_grad_()
    loss(result, target).backward()
    assert result.grad is not None and float(result.grad.abs().sum()) > 0.0
    assert target.grad is None and all(weight.grad is None for weight in loss.parameters())


def test_vgg_weights_that_are_absent_or_wrong_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.safetensors: no such file"):
        VGG19(tmp_path / "none.safetensors")
    path = tmp_path / "vgg19.safetensors"
    weights = write_vgg_weights(path)
    for changed, message in (
        ({"features.28.weight": None}, "VGG19 weight features.28.weight is absent, .*docs/training.md"),
        (
            {"features.0.weight": torch.zeros(64, 1, 3, 3)},
            r"is of shape \(64, 1, 3, 3\), expected shape \(64, 3, 3, 3\)",
        ),
    ):
        save_file({name: value for name, value in {**weights, **changed}.items() if value is not None}, path)
        with pytest.raises(UserError, match=message):
            VGG19(path)


# --- EfficientNet-Lite0 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (5, 1)])
@pytest.mark.parametrize("size", [(16, 24), (7, 9)])
def test_padding_is_tensorflows(kernel: int, stride: int, size: tuple[int, int]) -> None:
    import tensorflow as tf

    torch.manual_seed(1)
    conv, x = SameConv(3, 4, kernel, stride, bias=False), torch.randn(1, 3, *size)
    expected = tf.nn.conv2d(
        x.permute(0, 2, 3, 1).numpy(), conv.weight.detach().permute(2, 3, 1, 0).numpy(), stride, "SAME"
    ).numpy()
    np.testing.assert_allclose(conv(x).detach().permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def random_tensors() -> dict[str, Tensor]:
    """Values for every weight of the real file, by its names."""
    torch.manual_seed(2)
    made: dict[str, Tensor] = {}

    def add(conv: str, normalisation: str, outputs: int, inputs: int, kernel: int) -> None:
        made[f"{conv}.weight"] = torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5
        made[f"{normalisation}.weight"] = 0.5 + torch.rand(outputs)
        made[f"{normalisation}.bias"] = 0.1 * torch.randn(outputs)
        made[f"{normalisation}.running_mean"] = 0.1 * torch.randn(outputs)
        made[f"{normalisation}.running_var"] = 0.5 + torch.rand(outputs)

    add("_conv_stem", "_bn0", 32, 3, 3)
    widths = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320]
    kernels = [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    for number, kernel in enumerate(kernels):
        block, inputs, outputs = f"_blocks.{number}.", widths[number], widths[number + 1]
        inner = inputs * (6 if number else 1)
        if number:
            add(f"{block}_expand_conv", f"{block}_bn0", inner, inputs, 1)
        add(f"{block}_depthwise_conv", f"{block}_bn1", inner, 1, kernel)
        add(f"{block}_project_conv", f"{block}_bn2", outputs, inner, 1)
    return made


def by_hand(image: Tensor, tensors: dict[str, Tensor]) -> list[Tensor]:
    """The network with its batch normalisations apart, on sides that are powers of two: there padding is simple."""

    def step(x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = tensors[f"{conv}.weight"]
        kernel = weight.shape[2]
        before = (kernel - stride) // 2
        after = kernel - stride - before
        x = F.pad(x, (before, after, before, after)) if kernel > 1 else x
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, variance = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"], eps=1e-3)

    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (image - mean[:, None, None]) / deviation[:, None, None]
    x = step(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    found = []
    for number in range(16):
        block = f"_blocks.{number}."
        y = step(x, f"{block}_expand_conv", f"{block}_bn0").clamp(0, 6) if number else x
        stride = 2 if number in (1, 3, 5, 11) else 1
        y = step(y, f"{block}_depthwise_conv", f"{block}_bn1", stride, groups=y.shape[1]).clamp(0, 6)
        y = step(y, f"{block}_project_conv", f"{block}_bn2")
        x = x + y if y.shape == x.shape and stride == 1 else y
        if number in (0, 2, 4, 10, 15):
            found.append(x)
    return found


def test_features_are_the_networks_with_folded_batch_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = random_tensors()
    monkeypatch.setattr(features, "_verified", lambda path: tensors)
    network = EfficientNetLite0(Path("unused.pth"))
    image = torch.rand(2, 3, 64, 64)
    got, expected = network(image), by_hand(image, tensors)
    assert [tuple(x.shape[1:]) for x in got] == [
        (16, 32, 32),
        (24, 16, 16),
        (40, 8, 8),
        (112, 4, 4),
        (320, 2, 2),
    ]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert not any(weight.requires_grad for weight in network.parameters())


def test_another_file_is_refused_before_it_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "efficientnet.pth"
    torch.save({"_fc.weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"SHA-256 is .*, expected 579344248a93e230... of efficientnet-lite0"):
        load_features(path)
    with pytest.raises(UserError, match="none.pth: cannot be read"):
        load_features(tmp_path / "none.pth")


def test_absent_package_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(
        UserError, match=r"install afterlens\[features\], or give a VGG19 file as loss.vgg_weights"
    ):
        features_file("")
    assert features_file("mine.safetensors") == Path("mine.safetensors")


@pytest.mark.skipif(
    importlib.util.find_spec(features._PACKAGE) is None, reason="the optional package is not installed"
)
def test_real_features_tell_a_blurred_photo_from_a_darker_one(photo: NDArray[np.float32]) -> None:
    loss = FeatureLoss(load_features(features_file("")))
    whole = torch.from_numpy(photo).permute(2, 0, 1)[None, :, :256, :256]
    blurred = F.avg_pool2d(F.pad(whole, (3, 3, 3, 3), mode="reflect"), 7, stride=1)
    squared = float((blurred - whole).square().mean())
    darker = whole * (1.0 - (squared / float(whole.square().mean())) ** 0.5)  # at the same squared error
    a, b = float(loss(blurred, whole)), float(loss(darker, whole))
    print(f"blurred {a:.3f}, darker {b:.3f}")
    assert a > 1.5 * b
