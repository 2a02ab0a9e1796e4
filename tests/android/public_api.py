"""Which members of android.* a jar uses that are not public: `android-all`, against which it is compiled, has them all.

    python -m tests.android.public_api build/android/app/app-0.1.0.jar

The public ones are those of the package chaquopy-stubs-android, generated from API 36: by name, not by signature.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

STUBS = "chaquopy-stubs-android"
# `Method android/view/View.setAlpha:(F)V`, as javap comments an instruction.
USE = re.compile(r"// (?:Interface)?(?:Method|Field) (android/[\w/$]+)\.\"?(<init>|\w+)\"?:")
OF_ANY_OBJECT = frozenset("<init> getClass hashCode equals toString wait notify notifyAll".split())


@dataclass
class PublicClass:
    """Its own members, and the classes that it inherits more from, as the stub writes them."""

    members: set[str] = field(default_factory=set)
    bases: list[str] = field(default_factory=list)


def public_classes() -> dict[str, PublicClass]:
    """By name, such as android.hardware.camera2.CameraDevice$StateCallback."""
    found: dict[str, PublicClass] = {}
    for path in metadata.files(STUBS) or []:
        if path.suffix == ".pyi":
            package = ".".join(("android", *path.parent.parts[1:]))
            _add_classes(found, f"{package}.", ast.parse(path.read_text("utf-8")).body)
    return found


def _add_classes(found: dict[str, PublicClass], prefix: str, body: list[ast.stmt]) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[prefix + node.name] = PublicClass(
                {name for statement in node.body for name in _names(statement)},
                [ast.unparse(base).split("[")[0] for base in node.bases],
            )
            _add_classes(found, f"{prefix}{node.name}$", node.body)


def _names(statement: ast.stmt) -> list[str]:
    """What it defines; Java's names that are words of Python have a _ at their end."""
    if isinstance(statement, ast.FunctionDef):
        return [statement.name.rstrip("_")]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [target.id.rstrip("_") for target in targets if isinstance(target, ast.Name)]


def uses(jar: Path) -> set[tuple[str, str]]:
    """Classes of android.* and their members that the classes of a jar call, read or write."""
    with zipfile.ZipFile(jar) as archive:
        names = [
            name[:-6] for name in archive.namelist() if name.endswith(".class") and "META-INF" not in name
        ]
    command = ["javap", "-c", "-p", "-cp", str(jar), *names]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {(owner.replace("/", "."), member) for owner, member in USE.findall(text)}


def hidden(used: set[tuple[str, str]], public: dict[str, PublicClass]) -> list[str]:
    """Those that an app may not use."""
    return sorted(f"{owner}.{member}" for owner, member in used if not _is_public(owner, member, public))


def _is_public(owner: str, member: str, public: dict[str, PublicClass]) -> bool:
    found = public.get(owner)
    if found is None:
        return False
    if member in found.members or member in OF_ANY_OBJECT:
        return True
    bases = (_class_named(base, owner, public) for base in found.bases)
    return any(_is_public(base, member, public) for base in bases if base and base != owner)


def _class_named(text: str, owner: str, public: dict[str, PublicClass]) -> str | None:
    """A class as a stub names it: `android.view.View`, `View` of the same package, `Outer.Inner`."""
    for full in (text, f"{owner.rpartition('.')[0]}.{text}"):
        parts = full.split(".")
        for packages in range(len(parts) - 1, 0, -1):
            name = ".".join(parts[:packages]) + "." + "$".join(parts[packages:])
            if name in public:
                return name
    return None


if __name__ == "__main__":
    for jar in map(Path, sys.argv[1:]):
        print(jar, len(uses(jar)), *hidden(uses(jar), public_classes()), sep="\n  ")
