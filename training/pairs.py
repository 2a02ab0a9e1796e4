"""Pairs of a degraded photo and its ground truth: which file belongs to which, by the naming of public test sets.

for pair in find_pairs(Path("test_reflection/synthetic_ceilnet50")):
    pair.name, pair.input, pair.target
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import SUFFIXES, read_photo


@dataclass(frozen=True)
class Pair:
    """A degraded photo and its ground truth."""

    name: str
    input: Path
    target: Path


@dataclass(frozen=True)
class Scene:
    """The inputs of a network by name, and the ground truth."""

    name: str
    inputs: dict[str, Path]
    target: Path


FOLDERS = (
    ("input", "target"),
    ("blended", "transmission_layer"),  # Real20 and the training sets of ERRNet and IBCLN
)
"""Two subfolders with the same stems in both: (inputs, targets)."""

STEMS = (
    ("*-input", "*-label1"),  # CEILNet
    ("blend_*", "gt_*"),
    ("lq_*", "gt_*"),
    ("udc_*", "ref_*"),  # AlignFormer: under-display camera, second camera
    ("*_ambient", "*_ambient_T"),  # flash / no-flash triples: T is the transmission layer
    ("*_shadow", "*_shadow_free_original"),  # ISTD
    ("*_shadow", "*_gt"),  # portrait shadows
)
"""File stems (without suffix) side by side in one folder: (input, target); * is the same text in both."""


def find_pairs(folder: Path) -> list[Pair]:
    """Pair inputs and targets by the first convention that fits, FOLDERS before STEMS; sorted by name.

    Nothing is decoded; see `check_sizes`.

    Raises UserError where no convention fits, where an input has no target (leaving it out would change a mean
    unnoticed), and where two files share a stem.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of pairs, got {_file_or_nothing(folder)}")
    for inputs, targets in FOLDERS:
        if (folder / inputs).is_dir() and (folder / targets).is_dir():
            return _match(
                folder, _by_stem(folder / inputs), _by_stem(folder / targets), f"{inputs}/*", f"{targets}/*"
            )
    files = _by_stem(folder)
    for input_stem, target_stem in STEMS:
        inputs_by_name = _by_name(files, input_stem)
        targets_by_name = _by_name(files, target_stem)
        if inputs_by_name.keys() & targets_by_name.keys():
            return _match(folder, inputs_by_name, targets_by_name, input_stem, target_stem)
    raise UserError(_no_convention_fits(folder, files))


def match_folders(inputs: Path, targets: Path) -> list[Pair]:
    """Pair the photos of two folders by their stems; sorted by name. Targets without an input are ignored.

    Raises UserError as `find_pairs` does.
    """
    for folder in (inputs, targets):
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of photos, got {_file_or_nothing(folder)}")
    return _match(inputs, _by_stem(inputs), _by_stem(targets), f"{inputs.name}/*", f"{targets.name}/*")


def find_scenes(folder: Path, inputs: Sequence[str]) -> list[Scene]:
    """Ground truth in `folder/target`, and each named input in a subfolder of its name; sorted by name.

    A single input may follow any convention of `find_pairs` instead.

    Raises UserError as `find_pairs` does.
    """
    first = inputs[0]
    if len(inputs) == 1 and not (folder / first).is_dir():
        return [Scene(pair.name, {first: pair.input}, pair.target) for pair in find_pairs(folder)]
    pairs = match_folders(folder / first, folder / "target")
    others = {
        name: {pair.name: pair.target for pair in match_folders(folder / first, folder / name)}
        for name in inputs[1:]
    }
    return [
        Scene(
            pair.name,
            {first: pair.input, **{name: files[pair.name] for name, files in others.items()}},
            pair.target,
        )
        for pair in pairs
    ]


def check_sizes(pairs: Sequence[Pair], smallest: int) -> None:
    """Decode all pairs, so that a training run does not fail on one of them hours later.

    Raises UserError where a photo does not decode, the two of a pair differ in size, or a side has fewer than
    `smallest` pixels.
    """
    for pair in pairs:
        (height, width), other = (read_photo(path).rgb.shape[:2] for path in (pair.input, pair.target))
        if (height, width) != other or min(height, width) < smallest:
            raise UserError(
                f"{pair.input} is {width}x{height} and {pair.target} {other[1]}x{other[0]} pixels, "
                f"expected the same size and both sides of {smallest} or more"
            )


def _match(
    folder: Path, inputs: dict[str, Path], targets: dict[str, Path], input_rule: str, target_rule: str
) -> list[Pair]:
    alone = sorted(inputs.keys() - targets.keys())
    if alone:
        wanted = target_rule.replace("*", alone[0])
        raise UserError(
            f"{folder}: {len(alone)} of {len(inputs)} inputs ({input_rule}) have no counterpart ({target_rule}): "
            f"no {wanted} for {inputs[alone[0]].name}"
        )
    if not inputs:
        raise UserError(f"{folder}: no photos among the inputs ({input_rule})")
    return [Pair(name, inputs[name], targets[name]) for name in sorted(inputs)]


def _by_stem(folder: Path) -> dict[str, Path]:
    """The photos directly in `folder` by stem."""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith(".") or not file.is_file():
            continue
        if file.stem in files:
            raise UserError(
                f"{folder}: {files[file.stem].name} and {file.name} share a stem; keep one of them"
            )
        files[file.stem] = file
    return files


def _by_name(files: dict[str, Path], rule: str) -> dict[str, Path]:
    """The files whose stem fits `rule`, by the text that * stands for."""
    pattern = re.compile(re.escape(rule).replace(re.escape("*"), "(.+)"))
    matches = ((pattern.fullmatch(stem), file) for stem, file in files.items())
    return {match[1]: file for match, file in matches if match}


def _file_or_nothing(path: Path) -> str:
    return "a file" if path.exists() else "nothing"


def _no_convention_fits(folder: Path, files: dict[str, Path]) -> str:
    subfolders = sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())
    seen = subfolders + [file.name for file in files.values()]
    found = ", ".join(seen[:4]) + (", ..." if len(seen) > 4 else "") if seen else "nothing"
    expected = [f"{inputs}/ with {targets}/" for inputs, targets in FOLDERS]
    expected += [f"{inputs} with {targets}" for inputs, targets in STEMS]
    return (
        f"{folder}: no pairs of an input and its ground truth; found {found}; expected one of: {'; '.join(expected)} "
        "(clean photos can be degraded by a synthesis instead)"
    )
