"""What is publicly known of operators that phones' accelerators do not take, as plain data.

    for rule in RULES:
        print(rule.name, rule.severity, rule.source)

None of this was tried on a phone: each rule repeats what its source says, and a finding is a risk. What no public
source says is not here. docs/lint.md has the same table, and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

# What `--fail-on` takes.
CATEGORIES = {
    "fallback": "operators that the accelerator is not known to take",
    "dynamic": "shapes that are not fixed",
    "rank": "tensors of more dimensions than the accelerator takes, or of a rank with known faults",
    "layout": "operators that only move data, and shapes that waste memory",
    "range": "values too large for float16",
    "precision": "values and constants too small for float16, and operators known to lose precision",
}

_GPU = "TFLite GPU"
_NEURAL_ENGINE = "Neural Engine"
_FLOAT16 = "float16"

_TENSORFLOW = "https://github.com/tensorflow/tensorflow"
_LITERT_ISSUES = "https://github.com/google-ai-edge/LiteRT/issues"
_COREMLTOOLS = "https://github.com/apple/coremltools/issues"
# The check that the delegate itself makes of every operator, at the commit that was read.
_COMPATIBILITY = (
    f"{_TENSORFLOW}/blob/03a5e4e19a9c8200e13c85f1c637877fdf589be6"
    "/tensorflow/lite/tools/versioning/gpu_compatibility.cc"
)
_BUILDER = f"{_TENSORFLOW}/blob/master/tensorflow/lite/delegates/gpu/common/model_builder.cc"
_HELPER = (
    f"{_TENSORFLOW}/blob/1a768bcaac2c8d631bdc0dba30c86ae9accce7cf"
    "/tensorflow/lite/delegates/gpu/common/model_builder_helper.cc"
)
_OPENGL = (
    f"{_TENSORFLOW}/blob/c7ffe90138b2a238b8dd80da9aed0922208f4ccc"
    "/tensorflow/lite/delegates/gpu/gl/kernels/conv.cc"
)
_GPU_GUIDE = "https://www.tensorflow.org/lite/performance/gpu"
_APPLE_RESEARCH = "https://machinelearning.apple.com/research/neural-engine-transformers"
_HOLLANCE = "https://github.com/hollance/neural-engine/blob/master/docs"


@dataclass(frozen=True)
class Rule:
    """One thing that a source says about an accelerator."""

    name: str
    target: str  # "TFLite GPU" | "Neural Engine" | "float16"
    category: str  # of CATEGORIES
    severity: (
        str  # "error": refused or wrong; "warning": reported to fail or to be slow; "note": worth knowing
    )
    says: str
    source: str  # URL
    operators: tuple[
        str, ...
    ] = ()  # fires on every operator of these types; empty: gpu.py, neural_engine.py, ranges.py or constants.py checks


RULES = (
    Rule(
        "gpu-operator",
        _GPU,
        "fallback",
        "error",
        "The delegate's own check has no case for this operator.",
        _COMPATIBILITY,
    ),
    Rule(
        "gpu-version",
        _GPU,
        "fallback",
        "error",
        "The delegate takes this operator up to an older version than the file asks for.",
        _BUILDER,
    ),
    Rule(
        "gpu-options",
        _GPU,
        "fallback",
        "error",
        "The delegate's own check refuses these inputs or options of an operator that it otherwise takes.",
        _COMPATIBILITY,
    ),
    Rule(
        "gpu-type",
        _GPU,
        "fallback",
        "error",
        "Values must be float32 or float16, or 8-bit where quantized models are allowed; not int16.",
        _BUILDER,
    ),
    Rule(
        "gpu-identical-inputs",
        _GPU,
        "fallback",
        "error",
        "The same tensor twice is taken by ADD, MUL and CONCATENATION only.",
        f"{_LITERT_ISSUES}/9192",
    ),
    Rule(
        "gpu-batch",
        _GPU,
        "fallback",
        "error",
        "The first dimension is read as the batch and must be the same throughout (`Batch size mismatch`).",
        f"{_TENSORFLOW}/issues/60817",
    ),
    Rule(
        "gpu-relu-0-to-1",
        _GPU,
        "fallback",
        "error",
        "Accepted by LiteRT 2.1.3, refused by 2.1.5 and 2.1.6.",
        f"{_LITERT_ISSUES}/8598",
        ("RELU_0_TO_1",),
    ),
    Rule(
        "gpu-broadcast-to",
        _GPU,
        "fallback",
        "error",
        "Refused by the old delegate and by LiteRT's, at any rank.",
        f"{_LITERT_ISSUES}/9191",
        ("BROADCAST_TO",),
    ),
    Rule(
        "gpu-split",
        _GPU,
        "fallback",
        "warning",
        "Refused by the delegate of TensorFlow 2.3 (Operation is not supported); accepted by today's.",
        f"{_TENSORFLOW}/issues/42577",
        ("SPLIT", "SPLIT_V"),
    ),
    Rule(
        "gpu-groups",
        _GPU,
        "fallback",
        "note",
        "Phones without OpenCL use OpenGL, which refuses a convolution of more than one group; OpenCL takes it.",
        _OPENGL,
    ),
    Rule(
        "gpu-dynamic",
        _GPU,
        "dynamic",
        "error",
        "The delegate only supports static-sized tensors.",
        f"{_TENSORFLOW}/issues/48199",
    ),
    Rule(
        "gpu-rank",
        _GPU,
        "rank",
        "error",
        "Tensors have at most 4 dimensions (`bad input dims size`); a 5-D one is refused.",
        _HELPER,
    ),
    Rule(
        "gpu-rank-3",
        _GPU,
        "rank",
        "note",
        "A rank-3 attention block was taken in full and computed wrongly on Mali and Adreno; rank 4 was right.",
        f"{_LITERT_ISSUES}/8619",
    ),
    Rule(
        "gpu-rank-3-pad",
        _GPU,
        "rank",
        "warning",
        "PAD of a rank-3 tensor along another than the last axis came out shifted by a row.",
        f"{_LITERT_ISSUES}/9272",
    ),
    Rule(
        "gpu-mixed-rank",
        _GPU,
        "rank",
        "warning",
        "Element-wise operators with inputs of different ranks were misaligned: they pair the leading dimensions.",
        f"{_LITERT_ISSUES}/8980",
    ),
    Rule(
        "gpu-transpose",
        _GPU,
        "layout",
        "warning",
        "Moves the whole tensor and computes nothing; what is trivial on a CPU has a high cost on a mobile GPU.",
        _GPU_GUIDE,
        ("TRANSPOSE",),
    ),
    Rule(
        "gpu-reshape",
        _GPU,
        "layout",
        "note",
        "Reshaping operators are cheap on a CPU and costly on a mobile GPU.",
        _GPU_GUIDE,
        ("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "RESHAPE"),
    ),
    Rule(
        "gpu-quantized",
        _GPU,
        "precision",
        "note",
        "8-bit values are not computed as such: the delegate computes in floating point and rounds to the same steps, "
        "and only where quantized models are allowed.",
        _BUILDER,
    ),
    Rule(
        "ane-float32",
        _NEURAL_ENGINE,
        "fallback",
        "error",
        "A float16 model is eligible for Neural Engine, GPU and CPU; what is typed float32 executes on GPU and CPU.",
        "https://apple.github.io/coremltools/docs-guides/source/typed-execution-example.html",
    ),
    Rule(
        "ane-recurrent",
        _NEURAL_ENGINE,
        "fallback",
        "error",
        "Not supported on the Neural Engine, says a maintainer.",
        f"{_COREMLTOOLS}/1780",
        ("lstm", "gru", "rnn"),
    ),
    Rule(
        "ane-resample",
        _NEURAL_ENGINE,
        "fallback",
        "warning",
        "grid_sample ran on the CPU.",
        f"{_COREMLTOOLS}/1875",
        ("resample",),
    ),
    Rule(
        "ane-gather",
        _NEURAL_ENGINE,
        "fallback",
        "warning",
        "Gathering ran on the CPU only.",
        f"{_COREMLTOOLS}/1103",
        ("gather", "gather_along_axis", "gather_nd"),
    ),
    Rule(
        "ane-topk",
        _NEURAL_ENGINE,
        "fallback",
        "warning",
        "Left the Neural Engine in a compute plan on an M3 Pro, with the tiling and gathering behind it.",
        "https://github.com/roboflow/rf-detr/pull/1495",
        ("topk",),
    ),
    Rule(
        "ane-dilation",
        _NEURAL_ENGINE,
        "fallback",
        "note",
        "Dilated convolutions are listed as known not to work, with the remark that some of the list are guesses.",
        f"{_HOLLANCE}/unsupported-layers.md",
    ),
    Rule(
        "ane-dimension",
        _NEURAL_ENGINE,
        "fallback",
        "error",
        "A dimension above 16384: ONNX Runtime does not give such inputs to Core ML, which fails to load them.",
        f"{_COREMLTOOLS}/1003",
    ),
    Rule(
        "ane-dynamic",
        _NEURAL_ENGINE,
        "dynamic",
        "error",
        "With flexible ranges only the default shape runs on the Neural Engine, says an Apple engineer.",
        "https://developer.apple.com/forums/thread/724930",
    ),
    Rule(
        "ane-rank",
        _NEURAL_ENGINE,
        "rank",
        "error",
        "Core ML does not support tensors with a rank greater than 5.",
        f"{_COREMLTOOLS}/1723",
    ),
    Rule(
        "ane-rank-5",
        _NEURAL_ENGINE,
        "rank",
        "warning",
        "The most conducive data format of the Neural Engine is 4-D and channels-first.",
        _APPLE_RESEARCH,
    ),
    Rule(
        "ane-transpose",
        _NEURAL_ENGINE,
        "layout",
        "warning",
        "Transposes copy memory; Apple's own reference implementation is written to avoid them.",
        _APPLE_RESEARCH,
        ("transpose",),
    ),
    Rule(
        "ane-last-axis",
        _NEURAL_ENGINE,
        "layout",
        "note",
        "The last axis is padded to 64 bytes: a narrow one wastes up to 32 times its memory in float16.",
        _APPLE_RESEARCH,
    ),
    Rule(
        "ane-softplus",
        _NEURAL_ENGINE,
        "precision",
        "warning",
        "On the Neural Engine the output drops to 0 above an input of about 10.4.",
        f"{_COREMLTOOLS}/2687",
        ("softplus", "softplus_parametric"),
    ),
    Rule(
        "ane-log-sum-exp",
        _NEURAL_ENGINE,
        "precision",
        "warning",
        "On the Neural Engine the sum of exponentials overflows float16 from an input of about 7.6.",
        f"{_COREMLTOOLS}/2690",
        ("reduce_log_sum_exp",),
    ),
    Rule(
        "fp16-overflow",
        _FLOAT16,
        "range",
        "error",
        "Values that float16 stores as infinity (65520 and more), or that are not finite to begin with.",
        f"{_HOLLANCE}/16-bit.md",
    ),
    Rule(
        "fp16-headroom",
        _FLOAT16,
        "range",
        "warning",
        "Values above 30000, less than a factor of 2.2 below the largest of float16.",
        f"{_HOLLANCE}/16-bit.md",
    ),
    Rule(
        "fp16-sum",
        _FLOAT16,
        "range",
        "warning",
        "A sum behind a mean or a pool above 65504: LiteRT's GPU delegate adds up in float16 and returned NaN.",
        f"{_LITERT_ISSUES}/9249",
    ),
    Rule(
        "fp16-unmeasured",
        _FLOAT16,
        "range",
        "warning",
        "The ranges of this size could not be measured: there is no Core ML package of it that our executor runs.",
        "lint.md",
    ),
    Rule(
        "fp16-constant",
        _FLOAT16,
        "range",
        "error",
        "A constant that float16 stores as infinity, or that is infinite already.",
        "https://github.com/apple/coremltools/pull/2669",
    ),
    Rule(
        "fp16-epsilon",
        _FLOAT16,
        "precision",
        "warning",
        "A lone constant, such as an epsilon, that is 0 or subnormal (below 6.1e-5) in float16: it may no longer keep "
        "a division or a logarithm from zero.",
        f"{_HOLLANCE}/16-bit.md",
    ),
    Rule(
        "fp16-subnormal",
        _FLOAT16,
        "precision",
        "note",
        "More than a twentieth of the values are subnormal (below 6.1e-5) in float16; hardware may flush them to 0.",
        f"{_HOLLANCE}/16-bit.md",
    ),
)

BY_NAME = {rule.name: rule for rule in RULES}


def markdown() -> str:
    """The rules as the table of docs/lint.md."""
    head = ("rule", "of", "category", "severity", "what the source says", "source")
    rows = [(f"`{r.name}`", r.target, r.category, r.severity, r.says, f"[source]({r.source})") for r in RULES]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))
