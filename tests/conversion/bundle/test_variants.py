import pytest

from afterlens.conversion.bundle.variants import (
    BUDGETS,
    FORMATS,
    VARIANTS,
    find,
    gate,
    label,
    precision_rank,
    refuse_unknown_budget,
    stored,
)
from afterlens.conversion.coreml.compress import COMPRESSED_VARIANTS
from afterlens.conversion.tflite.quantizer import SCHEMES
from afterlens.training.media.errors import UserError


def test_every_variant_can_be_written_and_nothing_else() -> None:
    small = {(v.format, v.name) for v in VARIANTS if not v.is_float}
    assert small == {("tflite", name) for name in SCHEMES} | {
        ("coreml", name) for name in COMPRESSED_VARIANTS
    }
    assert {v.format for v in VARIANTS} == set(FORMATS)


def test_every_variant_has_a_limit_against_pytorch_and_all_but_float32_a_budget() -> None:
    for variant in VARIANTS:
        limits = variant.gate
        assert limits.max_error is not None or limits.min_psnr is not None, variant
        assert (variant.budget is None) == (variant.name == "float32"), variant


def test_what_is_written_by_default_and_what_needs_pictures() -> None:
    assert [v.file_ending for v in VARIANTS if v.is_default] == [
        *("float32.tflite", "float16.tflite", "mixed.tflite"),
        *("float16.mlpackage", "int8.mlpackage", "palettized6.mlpackage"),
    ]
    assert [v.file_ending for v in VARIANTS if v.calibrated] == [
        *("integer_quant_with_int16_act.tflite", "mixed.tflite", "full_integer_quant.tflite")
    ]
    floats = [v.file_ending for v in VARIANTS if v.is_float]
    assert floats == ["float32.tflite", "float16.tflite", "float16.mlpackage"]


def test_formats_that_share_a_variant_name_share_its_budget() -> None:
    # A budget is given by name, on the command line and in a recipe.
    for variant in VARIANTS:
        if variant.budget is not None:
            assert BUDGETS[variant.name] == variant.budget


def test_names_and_labels_tell_the_variants_of_a_format_apart() -> None:
    for format_ in FORMATS:
        own = [v for v in VARIANTS if v.format == format_]
        assert (
            len({v.name for v in own})
            == len({v.label for v in own})
            == len({v.stored for v in own})
            == len(own)
        )


def test_the_most_precise_variant_comes_first() -> None:
    names = ["palettized4", "float16", "int8", "from_the_future"]
    assert sorted(names, key=lambda name: precision_rank("coreml", name)) == [
        *("float16", "int8", "palettized4"),
        "from_the_future",
    ]
    assert precision_rank("tflite", "float32") < precision_rank("tflite", "float16")
    assert precision_rank("tflite", "mixed") < precision_rank("tflite", "full_integer_quant")


def test_an_unknown_variant_keeps_its_name_and_has_no_gate() -> None:
    assert find("tflite", "int8") is None  # of Core ML only
    assert label("tflite", "int2") == stored("tflite", "int2") == "int2"
    with pytest.raises(
        UserError, match="unknown variant 'int8' of format 'tflite', expected one of float32, "
    ):
        gate("tflite", "int8")


@pytest.mark.parametrize("budgets", [{"float64": 0.1}, {"mixed": -0.1}, {"mixed": float("nan")}])
def test_budgets_of_unknown_variants_or_without_a_sensible_number_are_refused(
    budgets: dict[str, float],
) -> None:
    with pytest.raises(UserError, match=r"budget (float64|mixed)=.*: expected a number of dB, zero or more"):
        refuse_unknown_budget(budgets)
    refuse_unknown_budget(dict(BUDGETS))
