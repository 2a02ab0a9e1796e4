"""Which graphs are timed, of a bundle that is no square, and what they are fed."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from afterlens.benchmarks.graphs import Network, entries, golden_inputs, whole_artifacts
from afterlens.conversion.bundle.contract import Bundle, read_bundle
from afterlens.training.deployable import Deployable, Port
from afterlens.training.media.errors import UserError
from afterlens.training.media.images import read_photo
from tests.conversion.report.bundles import make_evaluated_bundle


@pytest.fixture
def bundle(tmp_path: Path, photo_path: Path) -> Bundle:
    """Of 32x24."""
    return read_bundle(make_evaluated_bundle(tmp_path / "bundle", photo_path))


def test_each_file_and_once_a_size_the_network_in_two_more_runtimes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Deployable, Path]] = []
    monkeypatch.setattr(
        "afterlens.conversion.tflite.onnx_export.export_onnx",
        lambda graph, path, optimize: written.append((graph, path)),
    )
    shape = (1, 3, 24, 32)
    ports = [(Port(name, shape, (0.0, 1.0)),) for name in ("image", "restored")]
    graph = Deployable(nn.Identity(), "tiny", "Tiny", "1", *ports)
    weights = tmp_path / "weights.safetensors"
    chosen = whole_artifacts(bundle, (32, 24))
    found = entries(bundle, chosen, Network({(24, 32): graph}, weights, None), tmp_path, threads=2)
    names = [f"TFLite {artifact.variant} 32x24" for artifact in chosen]
    assert [entry.id for entry in found] == [
        *names,
        "ONNX Runtime float32 32x24",
        "PyTorch eager float32 32x24",
    ]
    assert written == [(graph, tmp_path / "32x24.onnx")]
    paths = [*(bundle.path(artifact) for artifact in chosen), tmp_path / "32x24.onnx", weights]
    assert [entry.graph.path for entry in found] == paths
    for entry, artifact in zip(found, [*chosen, None, None], strict=True):
        assert (entry.graph.width, entry.graph.height, entry.graph.threads) == (32, 24, 2)
        assert (entry.graph.inputs, entry.graph.output) == (("image",), "restored")
        assert entry.artifact is artifact and entry.macs == chosen[0].macs


def test_sizes_are_width_by_height(bundle: Bundle) -> None:
    with pytest.raises(UserError, match="no TFLite artifact of 24x32, it has 32x24"):
        whole_artifacts(bundle, (24, 32))


def test_the_golden_picture_is_fed_with_its_channels_first(bundle: Bundle) -> None:
    (golden,) = (entry for entry in bundle.contract.golden if entry.role == "input")
    artifact = whole_artifacts(bundle, None)[0]
    fed = golden_inputs(bundle, artifact)["image"]
    assert fed.shape == (1, 3, 24, 32) and fed.flags.c_contiguous
    np.testing.assert_array_equal(fed[0].transpose(1, 2, 0), read_photo(bundle.path(golden)).rgb)
    bundle.path(golden).write_bytes(b"damaged")
    with pytest.raises(UserError, match="has 7 bytes, model.json says .*; convert again"):
        golden_inputs(bundle, artifact)
