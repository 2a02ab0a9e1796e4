"""The console command as a user meets it: its two output streams and its exit code."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import afterlens.cli
from afterlens.training.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
VERBS = [command.callback.__name__ for command in afterlens.cli.app.registered_commands if command.callback]


Cli = Callable[..., Any]  # the fixture `cli`: arguments -> code, stdout, stderr


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)


def assert_one_line(result: Any, code: int, *parts: str) -> None:
    assert result.code == code, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


# --- help ----------------------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
sys.argv = ["afterlens", "--help"]
import afterlens.cli
try:
    afterlens.cli.main()
except SystemExit as end:
    assert end.code == 0
heavy = {"torch", "tensorflow", "coremltools", "numpy", "cv2", "PIL", "onnx", "matplotlib", "accelerate"}
print("loaded:", sorted(heavy & set(sys.modules)))
"""
    result = run_python(script)
    assert result.stdout.splitlines()[-1] == "loaded: []"


def test_the_verbs_are_all_there() -> None:
    assert {"train", "evaluate", "restore", "convert", "verify", "bench", "info", "psf", "align"} <= set(
        VERBS
    )


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_help_opens_with_a_command_of_that_verb(cli: Cli, verb: str) -> None:
    result = cli(*verb.split(), "--help")
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert f"afterlens {verb or 'restore'} " in lines[0]
    assert any("Usage" in line for line in lines[1:4])


def pasted(cli: Cli, verb: str, folder: Path) -> list[list[str]]:
    """The commands that the help of a verb opens with, word by word, with build/ put into `folder`."""
    words = shlex.split(cli(verb, "--help").stdout.splitlines()[0])
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(str(folder / word) if word.startswith("build/") else word)
    return [command[1:] for command in commands]


@pytest.mark.parametrize("verb", ["info", "evaluate", "restore", "train", "psf", "align"])
def test_the_command_that_help_opens_with_works(
    cli: Cli, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (command,) = pasted(cli, verb, tmp_path)
    result = cli(*command)
    assert result.code == 0, result.stderr


def test_the_commands_on_a_bundle_that_help_opens_with_work(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (convert,) = pasted(cli, "convert", tmp_path)
    result = cli(*convert)
    assert result.code == 0, result.stderr
    for verb in ("verify", "lint", "bench", "compare", "report"):
        first, command = pasted(cli, verb, tmp_path)
        assert first == convert
        result = cli(*command)
        assert result.code == 0, result.stderr


def test_help_says_which_variants_are_made_by_default(cli: Cli) -> None:
    from afterlens.conversion.bundle.variants import VARIANTS

    words = " ".join(cli("convert", "--help").stdout.split())
    made, _, more = words.partition("Variants: ")[2].partition(" by default; also ")
    for variant in VARIANTS:
        assert (variant.file_ending in made) is variant.is_default, variant.file_ending
        assert (variant.file_ending in more.partition(". ")[0]) is not variant.is_default, variant.file_ending


def test_the_program_is_named_as_it_can_be_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "afterlens", "--help"]
    environment = {**ENVIRONMENT, "PATH": str(tmp_path)}  # no afterlens there
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"{sys.executable} -m afterlens restore reflection ")


# --- results -------------------------------------------------------------------------------------------------


def test_json_is_one_document_on_stdout(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    out = tmp_path / "out.png"
    result = cli("restore", "reflection", photo_path, "-o", out, "-c", random_checkpoint, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["images"] == [{"input": str(photo_path), "output": str(out), "width": 768, "height": 432}]
    with Image.open(out) as image:
        assert image.size == (768, 432)


def test_without_json_there_is_a_table(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    result = cli("restore", "reflection", photo_path, "-o", tmp_path / "[out].png", "-c", random_checkpoint)
    assert result.code == 0, result.stderr
    assert "768x432" in result.stdout
    assert "[out].png" in result.stdout  # not taken for markup


@pytest.mark.parametrize("name", ["[red]odd {name}", "-dash", "ümläut", os.fsdecode(b"\xff\xfe not utf-8")])
def test_any_file_name_will_do(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.jpg").write_bytes(photo_path.read_bytes())
    for form in ([], ["--json"]):
        result = cli(
            "restore", "reflection", tmp_path, "-o", tmp_path / "out", "-c", random_checkpoint, *form
        )
        assert result.code == 0, result.stderr
        assert (tmp_path / "out" / f"{name}.png").exists()
        (tmp_path / "out" / f"{name}.png").unlink()


def test_info_counts_what_the_network_has(cli: Cli, random_checkpoint: Path) -> None:
    from afterlens.training.checkpoint import load_tensors

    result = cli("info", "reflection", "-c", random_checkpoint, "--json")
    assert result.code == 0, result.stderr
    document = json.loads(result.stdout)
    # The lengths of normalised weights are part of the weights themselves once they are folded.
    assert document["parameters"] == sum(
        tensor.numel()
        for name, tensor in load_tensors(random_checkpoint).items()
        if not name.endswith("original0")
    )
    assert set(document["gmacs"]) == {"256x256", "1280x720"}


def test_info_says_what_the_bundled_weights_are_good_and_bad_at(cli: Cli, random_checkpoint: Path) -> None:
    for task in ("reflection", "udc", "deblur", "beard"):
        document = json.loads(cli("info", task, "--json").stdout)
        assert [port["shape"][1] for port in document["inputs"] + document["outputs"]]
        card = (ROOT / "training" / "pretrained" / f"{task}.md").read_text("utf-8")
        for key, topic in (("good_at", "Good at"), ("bad_at", "Bad at")):
            (line,) = (line for line in card.splitlines() if line.startswith(f"- **{topic}:**"))
            assert document[key].startswith(line.partition(":** ")[2][:40])
        data, terms = {"beard": ("rendered", "shipped"), "udc": ("free licences", "shipped")}.get(
            task, ("BSDS500", "non-commercial")
        )
        assert data in document["trained_on"] and terms in document["licence"]
    table = cli("info", "deblur").stdout
    for part in ("input previous", "output restored", "good at", "bad at", "licence", "cost at 1280x720"):
        assert part in table
    assert "(1, 3) in [0, 1]: how much beard" in cli("info", "beard").stdout  # no picture
    # Nobody has said anything about other weights.
    document = json.loads(cli("info", "reflection", "-c", random_checkpoint, "--json").stdout)
    assert document["good_at"] is document["licence"] is None


def test_libraries_cannot_print_into_the_result() -> None:
    script = """
import os
from afterlens.output import library_output_on_stderr
with library_output_on_stderr():
    print("from Python")
    os.write(1, b"from C\\n")
print("result")
"""
    result = run_python(script)
    assert result.stdout == "result\n"
    assert sorted(result.stderr.splitlines()) == ["from C", "from Python"]


# --- bad usage and bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["restore"], "Missing argument 'TASK'"),
        (["restor"], "restore"),
        (["--bogus"], "--bogus"),
        (["restore", "reflection", "a.jpg"], "--out"),
        (["restore", "reflection", "a.jpg", "-o", "b.png", "--runtime", "gpu"], "coreml"),
        (["restore", "reflections", "a.jpg", "-o", "b.png"], "expected one of reflection"),
        (["restore", "reflection", "absent.jpg", "-o", "b.png"], "absent.jpg: no such file"),
        (["restore", "reflection", "a.jpg", "-o", "b.png", "-c", "absent.safetensors"], "no such file"),
        (["evaluate", "reflection", "absent"], "absent: expected a folder"),
        (["convert", "reflection", "-o", "out", "--size", "720p"], "expected WIDTHxHEIGHT"),
        (["verify", "absent"], "no model.json here"),
        (["bench", "absent"], "no model.json here"),
        (["bench", "absent", "--size", "1280x"], "expected WIDTHxHEIGHT"),
        (["train", "reflection", "absent", "-o", "run"], "absent: no such file or folder"),
        (["train", "reflection", ".", "-o", "run", "-s", "training.stepz=3"], "unknown key 'stepz'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert_one_line(cli(*arguments), 2, part)
    assert [file.name for file in tmp_path.rglob("*")] == ["a.jpg"]


def test_no_verb_shows_the_help_and_fails(cli: Cli) -> None:
    result = cli()
    assert result.code == 2
    assert "Usage" in result.stdout + result.stderr
    assert "error" not in result.stderr


def test_a_bad_photo_among_good_ones_is_exit_code_1(
    cli: Cli, tmp_path: Path, random_checkpoint: Path, photo_path: Path
) -> None:
    bad, out = tmp_path / "bad.jpg", tmp_path / "out"
    bad.write_bytes(photo_path.read_bytes()[:9999])
    result = cli("restore", "reflection", bad, photo_path, "-o", out, "-c", random_checkpoint, "--json")
    assert result.code == 1
    assert f"skipped {bad}: " in result.stderr
    assert "1 of 2 photos could not be restored" in result.stderr.splitlines()[-1]
    assert json.loads(result.stdout)["failed"][0]["input"] == str(bad)
    assert [file.name for file in out.iterdir()] == ["room.png"]


def test_a_failed_gate_is_exit_code_1(cli: Cli, random_checkpoint: Path, photo_path: Path) -> None:
    evaluation = [
        "evaluate",
        "reflection",
        photo_path,
        "--synthesize",
        "shadow",
        "-c",
        random_checkpoint,
        "--json",
    ]
    result = cli(*evaluation, "--fail-under", "99")
    assert result.code == 1
    assert result.stderr.splitlines()[-1].startswith("error: gate failed: mean PSNR is ")
    assert json.loads(result.stdout)["count"] == 1
    assert cli(*evaluation, "--fail-under", "0").code == 0


def test_a_bug_is_one_line_unless_asked_for_more(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(name: str) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("afterlens.training.tasks.find_task", defect)
    assert_one_line(
        cli("info", "reflection"), 70, "internal error", "ZeroDivisionError: two lines", "AFTERLENS_DEBUG=1"
    )
    monkeypatch.setenv("AFTERLENS_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["afterlens", "info", "reflection"])
    with pytest.raises(ZeroDivisionError):
        afterlens.cli.main()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        SystemError("<built-in function imread> returned NULL without setting an exception"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=["Python", "PyTorch", "a library in C", "a library that is loaded"],
)
def test_too_little_memory_is_said_to_be_that(
    error: Exception, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(name: str) -> None:
        raise error

    monkeypatch.setattr("afterlens.training.tasks.find_task", out_of_memory)
    assert_one_line(cli("info", "reflection"), 2, "not enough memory")


def test_what_was_trained_is_shown_by_the_first_of_several_processes_alone(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, about = tmp_path / "best.safetensors", {"step": 7, "metrics": {"validation_gain": 1.239}}
    save_checkpoint(weights, {}, about)
    # The training itself has tests of its own.
    monkeypatch.setattr("afterlens.training.loop.train", lambda *_, **__: weights)
    command = ("train", "reflection", tmp_path, "-o", tmp_path / "run")
    for rank, shows in ((None, True), ("0", True), ("1", False)):
        monkeypatch.delenv("RANK", raising=False)
        if rank is not None:
            monkeypatch.setenv("RANK", rank)
        table, document = cli(*command), cli(*command, "--json")
        assert (table.code, document.code) == (0, 0), table.stderr
        if not shows:
            assert table.stdout == document.stdout == ""
            continue
        assert all(words in table.stdout for words in ("validation_gain", " 1.24 ", weights.name, " 7 "))
        assert json.loads(document.stdout) == {"weights": str(weights), **about}


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing_half_written(
    tmp_path: Path, random_checkpoint: Path, photo_path: Path, signal_number: int, code: int
) -> None:
    with Image.open(photo_path) as image:
        for number in range(200):
            image.save(tmp_path / f"{number:03}.jpg")
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "afterlens",
        "restore",
        "reflection",
        str(tmp_path),
        "-o",
        str(out),
    ]
    command += ["-c", str(random_checkpoint)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while not any(out.glob("[!.]*.png")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal_number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    written = sorted(out.iterdir())
    assert 0 < len(written) < 200
    for file in written:
        assert file.suffix == ".png", file
        with Image.open(file) as image:
            image.load()
