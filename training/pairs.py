"""Which file of a folder is the ground truth of which: a short list of the naming habits of public test sets.

for pair in find_pairs(Path("test_reflection/synthetic_ceilnet50")):
    pair.name, pair.input, pair.truth
"""

import re
from dataclasses import dataclass
from pathlib import Path

from afterlens.training.media.errors import UserError
from afterlens.training.media.images import SUFFIXES


@dataclass(frozen=True)
class Pair:
    """A degraded photo and what it should have been."""

    name: str
    input: Path
    truth: Path


FOLDERS = (
    ("input", "target"),
    ("blended", "transmission_layer"),  # Real20 and the training sets of ERRNet and IBCLN
)
"""Two subfolders with the same stems in both: (inputs, truths)."""

STEMS = (
    ("*-input", "*-label1"),  # CEILNet
    ("blend_*", "gt_*"),
    ("lq_*", "gt_*"),
    ("udc_*", "ref_*"),  # AlignFormer: under-display camera, second camera
    ("*_ambient", "*_ambient_T"),  # flash / no-flash triples: T is the transmission layer
    ("*_shadow", "*_shadow_free_original"),  # ISTD
    ("*_shadow", "*_gt"),  # portrait shadows
)
"""File stems (without suffix) side by side in one folder: (input, truth), the same text for * in both."""


def find_pairs(folder: Path) -> list[Pair]:
    """Pair inputs and truths by the first convention of FOLDERS, then of STEMS, that fits; sorted by name.

    Raises UserError where nothing fits, where an input of the convention that does fit has no truth (a
    missing one would change the mean unnoticed), and where two files claim one stem.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected a folder of pairs, got {'a file' if folder.exists() else 'nothing'}"
        )
    for inputs, truths in FOLDERS:
        if (folder / inputs).is_dir() and (folder / truths).is_dir():
            return _match(
                folder, _by_stem(folder / inputs), _by_stem(folder / truths), f"{inputs}/*", f"{truths}/*"
            )
    files = _by_stem(folder)
    for input_stem, truth_stem in STEMS:
        inputs_by_name = _by_name(files, input_stem)
        truths_by_name = _by_name(files, truth_stem)
        if inputs_by_name.keys() & truths_by_name.keys():
            return _match(folder, inputs_by_name, truths_by_name, input_stem, truth_stem)
    raise UserError(_nothing_fits(folder, files))


def match_folders(inputs: Path, truths: Path) -> list[Pair]:
    """Pair the photos of two folders by their stems; sorted by name.

    Raises UserError as `find_pairs` does; truths without an input are ignored.
    """
    for folder in (inputs, truths):
        if not folder.is_dir():
            raise UserError(
                f"{folder}: expected a folder of photos, got {'a file' if folder.exists() else 'nothing'}"
            )
    return _match(inputs, _by_stem(inputs), _by_stem(truths), f"{inputs}/*", f"{truths}/*")


def _match(
    folder: Path, inputs: dict[str, Path], truths: dict[str, Path], input_rule: str, truth_rule: str
) -> list[Pair]:
    alone = sorted(inputs.keys() - truths.keys())
    if alone:
        wanted = truth_rule.replace("*", alone[0])
        raise UserError(
            f"{folder}: {len(alone)} of {len(inputs)} inputs ({input_rule}) have no truth ({truth_rule}): "
            f"no {wanted} for {inputs[alone[0]].name}"
        )
    if not inputs:
        raise UserError(f"{folder}: no photos among the inputs ({input_rule})")
    return [Pair(name, inputs[name], truths[name]) for name in sorted(inputs)]


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
    """The files whose stem fits `rule`, by the text that its * stands for."""
    pattern = re.compile(re.escape(rule).replace(re.escape("*"), "(.+)"))
    matches = ((pattern.fullmatch(stem), file) for stem, file in files.items())
    return {match[1]: file for match, file in matches if match}


def _nothing_fits(folder: Path, files: dict[str, Path]) -> str:
    subfolders = sorted(f"{path.name}/" for path in folder.iterdir() if path.is_dir())
    seen = subfolders + [file.name for file in files.values()]
    found = ", ".join(seen[:4]) + (", ..." if len(seen) > 4 else "") if seen else "nothing"
    expected = [f"{inputs}/ with {truths}/" for inputs, truths in FOLDERS]
    expected += [f"{inputs} with {truths}" for inputs, truths in STEMS]
    return (
        f"{folder}: no pairs of input and truth; found {found}; expected one of: {'; '.join(expected)} "
        "(clean photos without pairs need a synthesis to degrade them)"
    )
