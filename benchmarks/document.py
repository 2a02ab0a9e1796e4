"""Benchmark documents: the JSON that the host benchmark and the apps write.

document = read_document(Path("bench.json"))
for result in document["results"]:
    print(result["id"], result["timing"]["p50_ms"])

`schema.json`, which the apps validate against, is generated from these classes (`python -m afterlens.schemas`).
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from afterlens.conversion.bundle.strict_json import (
    STRICT,
    Count,
    Positive,
    Sha256,
    Text,
    parse,
    read_json,
)
from afterlens.training.media.errors import UserError

SCHEMA_FILE = Path(__file__).with_name("schema.json")
SCHEMA_VERSION = 2
MAX_BYTES = 64 << 20

AboveZero = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Shape = Annotated[str, Field(pattern="^(scalar|[0-9]+(x[0-9]+)*)$")]


class Device(TypedDict):
    """What the benchmark ran on."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: Text
    """Model as sold, e.g. 'Pixel 9' or 'x86_64 host'; never a host or user name."""
    os: Text
    """Name and version, e.g. 'Android 16 (API 36)'."""
    soc: NotRequired[Text | None]
    """Of a phone, its system-on-chip: manufacturer and model; null where it does not say."""
    cpu: Text | None
    """Processor; null where the system does not say."""
    cores: Positive
    """Logical cores that the process may use."""
    memory_bytes: Positive | None
    """Physical memory; null where the system does not say."""


class Conditions(TypedDict):
    """What else bears on the numbers."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    interleaved: bool
    """Whether the results took turns in every round, so that disturbances hit all of them."""
    load_average: NotRequired[tuple[NotNegative, NotNegative]]
    """Runnable processes over the last minute, before and after the run."""
    thermal_state: NotRequired[tuple[str, str] | None]
    """As the phone reports it, before and after the run; null where it does not."""
    low_power_mode: NotRequired[bool]
    power_source: NotRequired[Literal["battery", "ac", "usb", "wireless", "dock"] | None]
    """At the start of the run; null where the phone does not say. Charging warms a phone."""


class Machine(TypedDict):
    """Matrix-product rate of this machine, measured in the same rounds with the same number of threads."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    matmul_gflops: AboveZero
    """At the median time: what the shares compare with, as they are taken at the median too."""
    matmul_gflops_best: AboveZero
    """At the shortest time."""
    matmul_size: Positive
    """Side of the square float32 matrices."""
    threads: Positive
    library: Text
    samples_ms: NotRequired[list[AboveZero]]
    """Every counted product, in order: the n-th was computed in the same round as the n-th sample of each result."""


class Runtime(TypedDict):
    """What ran the graph."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: Literal["tflite", "onnxruntime", "pytorch", "coreml"]
    version: Text
    threads: Positive | None
    """Null where the runtime does not let one choose."""
    compute_unit: Literal["cpu", "gpu", "npu", "all"]
    """What was asked for."""
    delegate: str | None
    """What really ran, as the runtime reports it, e.g. 'XNNPACK, 212 of 214 nodes'; null where there is none."""


class TimedArtifact(TypedDict):
    """What was timed."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    task: Text
    variant: Text
    """float32, float16, ... as in model.json."""
    width: Positive
    height: Positive
    file: str | None
    """Name in the bundle; null for a graph that is not one of its artifacts (PyTorch, ONNX)."""
    sha256: Sha256 | None
    """As model.json gives it; null without a file."""
    bytes: Positive | None
    parameters: Count
    macs: Count
    """Multiply-accumulates of one inference."""


class Timing(TypedDict):
    """One inference, from an input in memory to outputs in memory, in the runtime's own layout."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    warmup: Count
    """Uncounted inferences before the counted ones."""
    runs: Positive
    p50_ms: AboveZero
    p90_ms: AboveZero
    p99_ms: AboveZero
    mean_ms: AboveZero
    min_ms: AboveZero
    init_ms: AboveZero | None
    """From the file to ready to run, in a fresh process, without the import of the runtime."""
    first_ms: NotRequired[AboveZero | None]
    """The first inference of that fresh process: weights are packed and memory is touched."""
    peak_rss_bytes: Positive | None
    """Most resident memory of that fresh process, runtime included."""
    idle_rss_bytes: NotRequired[Positive | None]
    """Resident memory of that process before the graph was loaded; the difference is the graph's."""
    samples_ms: NotRequired[list[AboveZero]]
    """Every counted inference, in order."""


class OperatorType(TypedDict):
    """All operators of one type."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    type: Text
    count: Positive
    ms: NotNegative
    """Of all of them."""
    share: Share
    """Of sum_ms."""
    gflops: NotNegative | None
    share_of_matmul: NotNegative | None


class Operator(TypedDict):
    """One operator of the file."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    index: Count
    """In the file."""
    type: Text
    """By its name in TFLite's schema."""
    input: Shape
    """The largest that is computed."""
    weights: Shape | None
    """Of a convolution or matrix product."""
    output: Shape
    """The largest."""
    outside: bool | None
    """Whether it counts for outside_share."""
    ms: AboveZero | None
    """Null where the runtime does not take it alone."""
    gflops: NotNegative | None
    """10^9 floating-point operations a second; null where they are not counted."""
    share_of_matmul: NotNegative | None
    """gflops over matmul_gflops."""


class Operators(TypedDict):
    """Each operator of the file alone, in a file of its own with its own weights, in rounds of their own: medians. With
    one thread, its processor time, which leaves out the interruptions of a busy machine.
    """

    __pydantic_config__ = STRICT  # type: ignore[misc]

    rounds: Positive
    whole_ms: AboveZero
    """The whole file, in the same rounds."""
    sum_ms: NotNegative
    """Of the operators."""
    matmul_gflops: AboveZero
    """The yardstick of machine, in these rounds."""
    outside_share: Share | None
    """Inferred: share of sum_ms of the operators that reduce a large picture for the network, and rebuild it: they work on
    more pixels than the first convolution that reads a picture of at most four channels, or on more than that writes
    with more channels. Null without such a convolution.
    """
    types: list[OperatorType]
    """The most expensive first."""
    operators: list[Operator]
    """In the file's order, without those that are computed when it loads."""


class SelfTest(TypedDict):
    """The golden input, run on the device before anything was timed, against the golden output."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    psnr: float
    """dB, of the output furthest from its golden one."""
    floor: float
    """dB that it had to reach: `self_test_floor_db` of model.json."""


class Stage(TypedDict):
    """Times of one part of the live path, over all frames."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    p50_ms: NotNegative
    p90_ms: NotNegative


class Stages(TypedDict):
    """Where the time of a frame goes."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    input: Stage
    """Drawn at the artifact's size and read into the model's input."""
    model: Stage
    output: Stage
    """Uploaded for the screen."""
    draw: NotRequired[Stage]
    """The camera's picture and the result drawn. Older documents lack it."""


class Live(TypedDict):
    """The app's live path: frames come as a camera's do, one is in the model, the newest waits."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    seconds: AboveZero
    fps: NotNegative
    """Results a second, from the first to the last."""
    dropped: Count
    """Frames that a newer one replaced before the model was free."""
    stages: Stages


class Minute(TypedDict):
    """One minute of the sustained run, with the state at its end."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    p50_ms: AboveZero | None
    """Median inference of those begun in it; null without one."""
    thermal_state: str | None
    battery_percent: Annotated[int, Field(ge=0, le=100)] | None


class Result(TypedDict):
    """One graph in one runtime."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    id: Text
    """Unique in the document; the ratios refer to it."""
    runtime: Runtime
    artifact: TimedArtifact
    timing: Timing
    achieved_gflops: NotNegative
    """2 x macs over the median time."""
    share_of_matmul: NotNegative | None
    """achieved_gflops over machine.matmul_gflops; null without a machine."""
    max_error: NotNegative | None
    """Largest difference of the first output from PyTorch's float32, in [0, 1]; null where there is nothing to compare
    with.
    """
    operators: NotRequired[Operators]
    self_test: NotRequired[SelfTest | None]
    """Null where model.json sets no floor."""
    live: NotRequired[Live | None]
    """Null where it was not run: for artifacts that are no live filter."""
    sustained: NotRequired[list[Minute] | None]
    """Inference after inference without a rest, minute by minute; null where it was not asked for."""


class Ratio(TypedDict):
    """How many times as long `result` takes as `baseline`: the median over the rounds of the two times of one round."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    result: Text
    baseline: Text
    p50: AboveZero
    p10: AboveZero
    p90: AboveZero


class Document(TypedDict):
    """One document a run, written by the host benchmark and by the Android and iOS apps. Times are milliseconds, sizes are
    bytes, rates are 10^9 floating-point operations a second with one multiply-accumulate counted as two. Version 1 had
    neither soc, power_source, self_test, live nor sustained, and cpu and memory_bytes were never null.
    """

    __pydantic_config__ = STRICT  # type: ignore[misc]

    schema_version: Literal[2]
    provenance: Literal["measured-host", "measured-emulator", "measured-device"]
    """Where the numbers come from; a reader must never take a host's time for a phone's."""
    created: Text
    """Start of the run, UTC, ISO 8601."""
    device: Device
    conditions: Conditions
    input: Text
    """What was fed in, for people: the same to every result of one size."""
    machine: Machine | None
    """Null where it was not measured (phones)."""
    results: Annotated[list[Result], Field(min_length=1)]
    ratios: list[Ratio]


DOCUMENT: TypeAdapter[Document] = TypeAdapter(Document)


def read_document(path: Path) -> dict[str, Any]:
    """Read and check a benchmark document; one of version 1 becomes one of version 2, which holds all that it held.

    Raises UserError, one line, where it is none.
    """
    document = read_json(path, max_bytes=MAX_BYTES, remedy="expected a file of `afterlens bench`")
    if isinstance(document, dict) and document.get("schema_version") == 1:
        document["schema_version"] = SCHEMA_VERSION
    check(document, str(path))
    return dict(document)


def check(document: Any, name: str) -> None:
    """Raise UserError, naming `name`, unless the document fits the schema, and ratios refer to single results."""
    found = parse(DOCUMENT, document, name, remedy=f"expected what benchmarks/{SCHEMA_FILE.name} says")
    ids = [result["id"] for result in found["results"]]
    if len(set(ids)) < len(ids):
        raise UserError(f"{name}: two results have the same id")
    for ratio in found["ratios"]:
        for key, reference in (("result", ratio["result"]), ("baseline", ratio["baseline"])):
            if reference not in ids:
                raise UserError(f"{name}: the {key} {reference!r} of a ratio is not among the results")
