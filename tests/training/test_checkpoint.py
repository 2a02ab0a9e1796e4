"""Checkpoints: what is written comes back bit for bit, whole or not at all, and nothing foreign is taken for one."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from afterlens.training import checkpoint
from afterlens.training.checkpoint import (
    load_checkpoint,
    load_frozen,
    load_tensors,
    load_weights,
    remove_partial_files,
    save_checkpoint,
)
from afterlens.training.media.errors import UserError
from afterlens.training.state import TrainingState, _averaged
from afterlens.training.task import OptimizerSettings

METADATA = {"task": "reflection", "step": 3, "best": None, "recipe": {"widths": [1, 2], "name": "Ä"}}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "weight": torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(5, 7).t(),
        "count": torch.tensor(2**40),
        "half": torch.randn(3).to(torch.bfloat16),
        "grown": torch.randn(2, requires_grad=True),
    }


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/a.safetensors"
    save_checkpoint(path, tensors(), METADATA)
    got, metadata = load_checkpoint(path)
    assert metadata == METADATA
    assert got.keys() == tensors().keys()
    for name, value in tensors().items():
        assert got[name].dtype == value.dtype and torch.equal(got[name], value), name
    with safe_open(path, framework="numpy") as file:  # by the format's own reader, in another framework
        assert file.metadata().keys() == {"afterlens"}
        assert (file.get_tensor("transposed") == tensors()["transposed"].numpy()).all()


def test_file_is_readable_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "a.safetensors", tensors(), METADATA)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


def test_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors(), METADATA)

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .*a.safetensors: No space left on device"):
        save_checkpoint(path, {"other": torch.zeros(9)}, {})
    assert list(tmp_path.iterdir()) == [path]
    assert load_checkpoint(path)[1] == METADATA


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors(), METADATA)
    (tmp_path / ".hidden").write_text("the user's own")

    class Killed(BaseException):
        pass

    def killed(temporary: Path) -> None:
        raise Killed

    # What SIGKILL leaves: the temporary file stays because no handler runs.
    monkeypatch.setattr("afterlens.training.media.images.remove", lambda temporary: None)
    monkeypatch.setattr("afterlens.training.media.images._sync", killed)
    with pytest.raises(Killed):
        checkpoint.save_checkpoint(path, {"other": torch.zeros(9)}, {})
    assert len(list(tmp_path.iterdir())) == 3
    remove_partial_files(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".hidden", "a.safetensors"]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.safetensors: no such file"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="no such file"):
        load_checkpoint(tmp_path)

    pickled = tmp_path / "a.pth"
    torch.save({"weight": torch.zeros(3)}, pickled)
    with pytest.raises(UserError, match="a.pth: not a readable safetensors file"):
        load_checkpoint(pickled)

    save_file({"a": torch.zeros(3)}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="without afterlens metadata"):
        load_checkpoint(tmp_path / "bare.safetensors")
    assert load_tensors(tmp_path / "bare.safetensors")["a"].shape == (3,), "VGG19 weights come so"

    for text in ("not json", "[1]"):
        save_file({"a": torch.zeros(3)}, tmp_path / "odd.safetensors", metadata={"afterlens": text})
        with pytest.raises(UserError, match="odd.safetensors: its metadata is not"):
            load_checkpoint(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_cut_files_are_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors(), METADATA)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="a.safetensors: not a readable safetensors file"):
        load_checkpoint(path)


def test_weights_must_fit_name_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = nn.Conv2d(3, 4, 1)
    good = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    load_weights(network, good, path)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in good.items())
    for wrong, message in (
        (
            {**good, "weight": torch.zeros(4, 3, 3, 3)},
            r"weight weight is \(4, 3, 3, 3\), this network expects \(4, 3, 1, 1\)",
        ),
        ({"weight": good["weight"]}, "weight bias is absent"),
        ({**good, "extra": torch.zeros(1)}, r"weight extra is \(1,\), this network expects none"),
        ({f"network.{name}": value for name, value in good.items()}, "the whole state of a training run"),
    ):
        with pytest.raises(UserError, match=message):
            load_weights(network, wrong, path)


def test_helpers_are_loaded_frozen(tmp_path: Path) -> None:
    trained = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    save_file(trained.state_dict(), tmp_path / "helper.safetensors")
    helper = load_frozen(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), tmp_path / "helper.safetensors"
    )
    first, expected = (next(network.parameters()) for network in (helper, trained))
    assert torch.equal(first, expected)
    assert not helper.training and not any(weight.requires_grad for weight in helper.parameters())
    with pytest.raises(UserError, match="helper.safetensors: weight .* this network expects"):
        load_frozen(nn.Conv2d(3, 4, 3), tmp_path / "helper.safetensors")


def test_each_network_learns_at_its_own_multiple_of_the_rate() -> None:
    optimizers = {name: torch.optim.SGD([nn.Parameter(torch.zeros(1))], 9.0) for name in ("network", "judge")}
    settings = {"network": OptimizerSettings(), "judge": OptimizerSettings(rate=4.0)}
    TrainingState.set_learning_rate(SimpleNamespace(optimizers=optimizers, settings=settings), 0.25)  # type: ignore[arg-type]
    assert {name: found.param_groups[0]["lr"] for name, found in optimizers.items()} == {
        "network": 0.25,
        "judge": 1.0,
    }


def test_the_start_weights_count_as_the_first_of_the_average() -> None:
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
        average = _averaged(network, 0.999)
        before = 0.0
        for step, share in ((1, 2 / 11), (2, 3 / 12)):
            network.weight.fill_(float(step))
            average.update_parameters(network)
            (mean,) = average.module.parameters()
            before = share * before + (1 - share) * step
            assert float(mean) == pytest.approx(before)
