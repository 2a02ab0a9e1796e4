"""proof.json as it may come from a stranger: what no verification writes is refused in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afterlens.conversion.bundle.proof import PROOF_FILE, read_proof
from afterlens.training.media.errors import UserError
from tests.conversion.report.bundles import make_evaluated_bundle


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory, photo_path: Path) -> str:
    """Of a bundle of all variants."""
    folder = make_evaluated_bundle(tmp_path_factory.mktemp("proof") / "bundle", photo_path)
    return (folder / PROOF_FILE).read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["artifacts"].append(d["artifacts"][0]), "the same file is named twice"),
        (lambda d: d["artifacts"].clear(), "$.artifacts: "),
        (lambda d: d["artifacts"][0].update(max_error=-0.1), "$.artifacts[0].max_error: "),
        (lambda d: d["artifacts"][0].update(psnr=1001.0), "$.artifacts[0].psnr: "),
        (lambda d: d["artifacts"][0].update(width=0), "$.artifacts[0].width: "),
        (lambda d: d["artifacts"][0].update(variant="int3"), "$.artifacts[0].variant: "),
        (lambda d: d["artifacts"][0].update(provenance="guessed"), "$.artifacts[0].provenance: "),
        (
            lambda d: d["artifacts"][1]["quality"]["worst"].update(heatmap="heatmaps/../../a.png"),
            "$.artifacts[1].quality.worst.heatmap: ",
        ),
        (lambda d: d["artifacts"][1]["quality"].update(ssim=1.1), "$.artifacts[1].quality.ssim: "),
        (lambda d: d["artifacts"][1]["quality"].update(rows=[]), "$.artifacts[1].quality.rows: "),
        (lambda d: d.update(golden_files=-1), "$.golden_files: "),
        (lambda d: d.update(surprise=1), "$.surprise: "),
        (lambda d: d.update(schema_version=1), "is a proof of an older version of afterlens"),
        (lambda d: d.update(schema_version=3), "$.schema_version: "),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    tmp_path: Path, proof: str, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = tmp_path / PROOF_FILE
    path.write_text(proof, "utf-8")
    assert read_proof(path).schema_version == 2
    document = json.loads(proof)
    change(document)
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(UserError) as error:
        read_proof(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and said in message and "\n" not in message
    assert "`afterlens verify`" in message
