"""The workflow of this project, and the one that docs/ci.md offers, as far as they can be checked without running."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import afterlens.cli

ROOT = Path(__file__).parents[1]
OWN = ROOT / ".github" / "workflows" / "ci.yml"
GUIDE = ROOT / "docs" / "ci.md"

ACTIONS = {"actions/checkout@v4", "actions/setup-python@v5", "actions/cache@v4", "actions/upload-artifact@v4"}


def text_of(source: Path) -> str:
    text = source.read_text("utf-8")
    if source.suffix == ".md":
        (text,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return text


def steps_of(source: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(text_of(source))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def against_the_schema(path: Path) -> subprocess.CompletedProcess[str]:
    """The schema comes with the tool: nothing is fetched."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        str(path),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [OWN, GUIDE], ids=lambda path: path.name)
def test_workflows_follow_the_schema(source: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(text_of(source))
    result = against_the_schema(good)
    assert result.returncode == 0, result.stdout
    bad.write_text(text_of(source).replace("runs-on:", "run-on:", 1))
    assert against_the_schema(bad).returncode == 1, "the schema would not notice a wrong key"


@pytest.mark.parametrize("source", [OWN, GUIDE], ids=lambda path: path.name)
def test_only_known_actions_are_used(source: Path) -> None:
    assert {step["uses"] for step in steps_of(source) if "uses" in step} <= ACTIONS


def test_our_own_runs_what_make_test_runs_and_core_ml_itself() -> None:
    lines = "\n".join(step.get("run", "") for step in steps_of(OWN))
    assert "make test" in lines
    tests = re.findall(r"tests/[\w./]+", lines)
    assert "tests/conversion/coreml/test_predict.py" in tests
    assert all((ROOT / path).exists() for path in tests), tests
    pins = (ROOT / "constraints.txt").read_text()
    (packages,) = re.findall(r"pip install -c constraints\.txt \\\n(.*)\\\n", lines)
    for package in packages.split():
        assert re.search(f"^{package}==", pins, re.MULTILINE), f"{package} is not pinned"


def commands(source: Path) -> list[list[str]]:
    """The words of every afterlens command of a document."""
    blocks = re.findall(r"```(?:sh|yaml)\n(.*?)```", source.read_text("utf-8"), re.DOTALL)
    lines = re.findall(r"^\s*(?:run: )?(afterlens .*)$", "\n".join(blocks), re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("source", [GUIDE, ROOT / "docs" / "external.md"], ids=lambda path: path.name)
def test_the_commands_of_the_documents_exist(source: Path) -> None:
    verbs = typer.main.get_command(afterlens.cli.app).commands  # type: ignore[attr-defined]
    found = commands(source)
    assert len(found) >= 6
    for verb, *words in found:
        assert verb in verbs, verb
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        for word in words:
            assert not word.startswith("-") or word in known, f"{verb} {word}"
