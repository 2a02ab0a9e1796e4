"""The pages for people: their links lead somewhere, their commands exist, and the functions that they name are there."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import afterlens.cli

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "PATENTS.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "training" / "pretrained").glob("*.md"),
    ]
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings: lower case, punctuation dropped, spaces to hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), f"{target}: {sorted(anchors(file))}"


def definitions(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.parse(file.read_text("utf-8")).body if isinstance(node, kinds)}


def test_every_claimed_element_names_a_function_that_exists() -> None:
    named = re.findall(r"`([\w/]+\.py):(\w+)`", (ROOT / "docs" / "claims.md").read_text("utf-8"))
    assert len(named) >= 30
    for file, function in named:
        assert function in definitions(ROOT / file), f"{file}:{function}"


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every afterlens command in a page's blocks."""
    blocks = re.findall(r"```(?:sh|yaml)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    for line in re.findall(r"^\s*(?:run: |accelerate launch .* -m )?(afterlens .*)$", joined, re.MULTILINE):
        yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    verbs = typer.main.get_command(afterlens.cli.app).commands  # type: ignore[attr-defined]
    for verb, *words in commands(page):
        assert verb in verbs, verb
        known = {option for parameter in verbs[verb].params for option in parameter.opts}
        for word in words:
            assert not word.startswith("-") or word in known, f"{verb} {word}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_recipe_keys_on_the_command_line_exist(page: Path) -> None:
    for verb, *words in commands(page):
        if verb != "train":
            continue
        recipe = tomllib.loads((ROOT / "training" / words[0] / "recipe.toml").read_text("utf-8"))
        for key in (words[place + 1].partition("=")[0] for place, word in enumerate(words) if word == "-s"):
            table, _, entry = key.partition(".")
            assert entry in recipe[table], f"{words[0]}: {key}"


def test_the_readme_s_tree_names_what_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    above, _, tree = text.partition("## Where things are")
    assert len(above.splitlines()) <= 150
    folders: list[tuple[int, Path]] = []
    (block,) = re.findall(r"```\n(.*?)```", tree, re.DOTALL)
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        words = re.match(r"\s*(\S+(?: \S+)*)", line)
        assert words is not None, line
        folders = [(depth, path) for depth, path in folders if depth < indent]
        parent = folders[-1][1] if folders else ROOT
        for name in words[1].split():
            assert (parent / name).exists(), f"{parent.relative_to(ROOT)}/{name}"
            if name.endswith("/"):
                folders.append((indent, parent / name))
