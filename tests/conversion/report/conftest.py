from pathlib import Path

import pytest

from tests.conversion.report.bundles import make_bundle, make_evaluated_bundle


@pytest.fixture
def tiny(tmp_path: Path, photo_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny", photo_path)


@pytest.fixture
def judged(tmp_path: Path, photo_path: Path) -> Path:
    """A bundle of all variants with a proof against ground truth."""
    return make_evaluated_bundle(tmp_path / "judged", photo_path)
