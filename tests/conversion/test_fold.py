"""Batch normalizations and parametrizations folded into the weights: the same results, and none of them left."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from afterlens.conversion.fold import fold
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError

SHAPE = (1, 3, 8, 10)


class Net(nn.Module):
    """`parts` put together by `order`, a function of them and the picture."""

    def __init__(self, order: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.order = nn.ModuleDict(parts), order

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.order(x, **self.parts),)


def conv(groups: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(3, 3, 3, padding=1, groups=groups, bias=bias)


def transposed_in_groups() -> dict[str, nn.Module]:
    """4 channels in 2 groups become 6, normalized, then 3."""
    transposed = nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2, bias=False)
    return {"e": nn.Conv2d(3, 4, 1), "a": transposed, "b": nn.BatchNorm2d(6), "c": nn.Conv2d(6, 3, 1)}


def used_like(module: nn.Module) -> Deployable:
    """A deployable whose batch normalisations have seen something."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn(part.num_features)
            part.running_var = torch.rand(part.num_features) + 0.1
            if part.affine:
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    ports = [Port(name, SHAPE, (0.0, 1.0)) for name in ("image", "result")]
    return Deployable(module.eval(), "net", "Net", "1", (ports[0],), (ports[1],))


@pytest.mark.parametrize(
    ("net", "left"),
    [
        (Net(lambda x, a, b: b(a(x)), a=conv(), b=nn.BatchNorm2d(3)), 0),
        # The order of the calls counts, not that of the modules.
        (Net(lambda x, b, a: b(torch.relu(a(x))), b=nn.BatchNorm2d(3), a=conv()), 1),
        (Net(lambda x, b, a: torch.relu(b(a(x))), b=nn.BatchNorm2d(3, affine=False), a=conv(bias=False)), 0),
        (Net(lambda x, a, b: a(b(x)), a=conv(groups=3), b=nn.BatchNorm2d(3)), 1),
        (Net(lambda x, a, b: b(a(x)), a=nn.ConvTranspose2d(3, 3, 3, padding=1), b=nn.BatchNorm2d(3)), 0),
        (
            Net(
                lambda x, a, b: b(a(x)),
                a=nn.ConvTranspose2d(3, 3, 3, padding=1, groups=3),
                b=nn.BatchNorm2d(3),
            ),
            0,
        ),
        (Net(lambda x, e, a, b, c: c(b(a(e(x)))), **transposed_in_groups()), 0),
        # A convolution that is read elsewhere too, or called twice, must stay as it is.
        (Net(lambda x, a, b: (y := a(x)) + b(y), a=conv(), b=nn.BatchNorm2d(3)), 1),
        (Net(lambda x, a, b: b(a(a(x))), a=conv(), b=nn.BatchNorm2d(3)), 1),
        (Net(lambda x, a, c, b: b(a(x)) + b(c(x)), a=conv(), c=conv(), b=nn.BatchNorm2d(3)), 1),
        (Net(lambda x, a, b: b(a(x)), a=weight_norm(conv()), b=nn.BatchNorm2d(3)), 0),
        (Net(lambda x, a: a(x), a=weight_norm(conv())), 0),
        (Net(lambda x, a: a(x), a=nn.Sequential(conv(), nn.Sequential(nn.BatchNorm2d(3)))), 0),
    ],
)
def test_results_stay_and_weights_become_what_is_stored(net: Net, left: int) -> None:
    """`left`: normalizations that cannot be folded into a convolution and become a factor and an offset."""
    deployable = used_like(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold(deployable)
    picture = torch.rand(SHAPE)
    with torch.no_grad():
        expected, got = net(picture)[0], folded.module(picture)[0]
    print(f"largest difference {(expected - got).abs().max():.1e} of {expected.abs().max():.1f}")
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    names = [name for name, _ in folded.module.named_parameters()]
    assert sum(name.endswith("factor") for name in names) == left, names
    assert not any("arametri" in f"{name} {type(part)}" for name, part in folded.module.named_modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.module.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()), "not ours"


def test_a_network_without_any_stays_as_it_is() -> None:
    net = Net(lambda x, a: a(x), a=conv())
    assert fold(used_like(net)).module.state_dict().keys() == net.state_dict().keys()


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    net = Net(lambda x, a: a(x), a=conv())
    net.held = (value for value in "")  # type: ignore[assignment]
    with pytest.raises(UserError, match="net: the module cannot be copied .*generator"):
        fold(used_like(net))
