"""Which part may import which, read from the imports: data flows one way, and no arrow turns back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The parts of conversion/, folders and files. Each may import itself and the layers that follow its own.
LAYERS = (
    ("lint", "network"),
    ("convert", "verify", "external", "emulated"),
    ("coreml", "fold", "operator_counts"),
    ("tflite", "report", "restore"),
    ("examples",),
    ("bundle",),
    ("lower",),
    ("affine", "clamps", "elementary", "formulas", "norms", "sampling"),
    ("graph_edit", "mil", "capture"),
)
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}


def modules(folder: str) -> list[Path]:
    """All modules of a folder, relative to the root."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def imports(source: str) -> Iterator[tuple[str, ...]]:
    """What a module imports of ours, anywhere in it: ("conversion", "mil", "package", "read_package")."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *path = name.split(".")
            if package == "afterlens" and path:
                yield tuple(path)


def part_of(path: tuple[str, ...]) -> str:
    """The part of conversion/ that a path of an import or of a file belongs to."""
    return path[1].removesuffix(".py")


def turned_back(module: Path, source: str) -> list[str]:
    """The imports of a module of conversion/ that the layers forbid."""
    own = part_of(module.parts)
    found = []
    for path in imports(source):
        if path[0] != "conversion" or len(path) < 2 or part_of(path) == own:
            continue
        if LAYER_OF[part_of(path)] <= LAYER_OF[own]:
            found.append(f"{module} imports {'.'.join(path)}")
    return found


def test_every_part_of_conversion_has_its_layer() -> None:
    assert {part_of(module.parts) for module in modules("conversion")} - {"__init__"} == set(LAYER_OF)


def test_conversion_imports_downwards_only() -> None:
    found = [
        line
        for module in modules("conversion")
        for line in turned_back(module, (ROOT / module).read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "line", "allowed"),
    [
        ("conversion/tflite/graph.py", "from afterlens.conversion.bundle.contract import SIGNATURE", True),
        ("conversion/tflite/graph.py", "import afterlens.conversion.tflite.scales", True),
        (
            "conversion/bundle/contract.py",
            "def f():\n    from afterlens.conversion.tflite import graph",
            False,
        ),
        ("conversion/bundle/contract.py", "from afterlens.conversion import convert", False),
        ("conversion/tflite/graph.py", "import afterlens.conversion.report.report", False),
        ("conversion/mil/package.py", "from afterlens.training.media.errors import UserError", True),
    ],
)
def test_an_arrow_that_turns_back_is_seen(module: str, line: str, allowed: bool) -> None:
    assert (turned_back(Path(module), line) == []) == allowed


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("training", {"conversion", "benchmarks"}), ("conversion", {"benchmarks"})],
)
def test_folders_do_not_import_what_builds_on_them(folder: str, forbidden: set[str]) -> None:
    found = {
        f"{module} imports {'.'.join(path)}"
        for module in modules(folder)
        for path in imports((ROOT / module).read_text("utf-8"))
        if path[0] in forbidden
    }
    assert found == set()


def test_conversion_imports_no_task_by_name() -> None:
    tasks = {path.parent.name for path in (ROOT / "training").glob("*/task.py")}
    assert {"reflection", "udc", "deblur", "beard"} <= tasks
    found = {
        f"{module} imports {'.'.join(path)}"
        for module in modules("conversion")
        for path in imports((ROOT / module).read_text("utf-8"))
        if path[0] == "training" and len(path) > 1 and path[1] in tasks
    }
    assert found == set()
