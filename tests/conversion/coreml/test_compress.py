"""Compressed Core ML packages against coremltools' own and against the definition of each form."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from torch import Tensor, nn

from afterlens.conversion.bundle.contract import digest
from afterlens.conversion.convert import convert
from afterlens.conversion.coreml import compress as compress_module
from afterlens.conversion.coreml.check import compression_faults
from afterlens.conversion.coreml.compress import (
    COMPRESSED_VARIANTS,
    REPRESENTATIONS,
    THRESHOLD,
    Weight,
    compress,
    compressed,
    nothing_to_compress,
    weights_of,
)
from afterlens.conversion.coreml.convert import convert_coreml, minimum_coreml
from afterlens.conversion.mil.interpret import MilProgram
from afterlens.conversion.mil.package import read_package
from afterlens.training.media.errors import UserError
from tests.conversion.coreml.packages import Small, deployable, operations, overwrite, saved


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_nothing_but_the_weights_changes(small: Path, forms: dict[str, Path], variant: str) -> None:
    assert compression_faults(small, forms[variant], variant) == []
    assert minimum_coreml(forms[variant]) == "iOS 16, macOS 13"
    weights = weights_of(read_package(small))
    assert len(weights) == 4 and all(w.values.size >= THRESHOLD for w in weights.values())
    operators = [o for o in MilProgram.load(forms[variant]).operators() if o.op_type.startswith("constexpr_")]
    assert {o.name for o in operators} == set(weights)
    assert digest(forms[variant])[1] < digest(small)[1]


def test_the_same_weights_give_the_same_bytes(small: Path, forms: dict[str, Path], tmp_path: Path) -> None:
    for variant, path in forms.items():
        compress(small, variant, tmp_path / "again.mlpackage")
        assert digest(tmp_path / "again.mlpackage") == digest(path)
        assert (path / "Manifest.json").read_bytes() == (small / "Manifest.json").read_bytes()
    convert_coreml(deployable(Small()), tmp_path / "small.mlpackage")
    assert digest(tmp_path / "small.mlpackage") == digest(small)


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_operators_have_the_form_that_coremltools_gives_them(
    small: Path, plain: dict[str, Path], variant: str, cto: ModuleType, tmp_path: Path
) -> None:
    """Attributes, their types and whether they lie in the model or in the weight file."""
    import coremltools

    model = coremltools.models.MLModel(str(small), skip_model_load=True)
    if variant == "int8":
        config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=THRESHOLD - 1)
        theirs = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
    else:
        config = cto.OpPalettizerConfig(
            mode="uniform", nbits=int(variant[-1]), weight_threshold=THRESHOLD - 1
        )
        theirs = cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))
    theirs.save(str(tmp_path / "theirs.mlpackage"))
    form, expected = (
        {
            operation.outputs[0].name.removesuffix("_quantized").removesuffix("_palettized"): (
                operation.type,
                operation.outputs[0].type.SerializeToString(deterministic=True),
                {
                    name: (
                        value.type.SerializeToString(deterministic=True),
                        value.blobFileValue.fileName,
                        None
                        if name == "name"
                        else value.immediateValue.SerializeToString(deterministic=True),
                    )
                    for name, value in operation.attributes.items()
                },
            )
            for operation in operations(path)
            if operation.type.startswith("constexpr_")
        }
        for path in (plain[variant], tmp_path / "theirs.mlpackage")
    )
    assert len(form) == 4
    assert form == expected
    assert abs(digest(plain[variant])[1] - digest(tmp_path / "theirs.mlpackage")[1]) < 2000


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_coremltools_reads_the_weights_that_were_meant(
    small: Path, plain: dict[str, Path], variant: str, cto: ModuleType
) -> None:
    import coremltools

    model = coremltools.models.MLModel(str(plain[variant]), skip_model_load=True)
    operators = cto.decompress_weights(model)._mil_program.functions["main"].operations
    dense = {o.weight.name: o.weight.val for o in operators if "conv" in o.op_type}
    for name, weight in weights_of(read_package(small)).items():
        (found,) = (value for key, value in dense.items() if key.startswith(name))
        np.testing.assert_array_equal(found.astype(np.float32), compressed(weight, variant).expanded())


@pytest.mark.parametrize("variant", COMPRESSED_VARIANTS[:3])
def test_the_package_computes_with_these_weights(small: Path, plain: dict[str, Path], variant: str) -> None:
    picture = {"image": np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)}
    weights = {name: compressed(w, variant).expanded() for name, w in weights_of(read_package(small)).items()}
    got = MilProgram.load(plain[variant]).run(picture, eight_bit=False)["restored"]
    expected = MilProgram.load(small).run(picture, eight_bit=False, constants=weights)["restored"]
    exact = MilProgram.load(small).run(picture, eight_bit=False)["restored"]
    np.testing.assert_array_equal(got, expected)
    assert not np.array_equal(got, exact)


def test_weights_of_the_threshold_are_compressed_and_smaller_ones_are_not(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variant that would be no other package than one there is already says so."""
    package = read_package(small)
    monkeypatch.setattr(compress_module, "THRESHOLD", 1)
    sizes = {name: weight.values.size for name, weight in weights_of(package).items()}
    for threshold in sorted({*sizes.values(), *(size + 1 for size in sizes.values())})[:-1]:
        monkeypatch.setattr(compress_module, "THRESHOLD", threshold)
        assert weights_of(package).keys() == {name for name, size in sizes.items() if size >= threshold}
    assert nothing_to_compress(small, "int8") is None
    monkeypatch.setattr(compress_module, "THRESHOLD", max(sizes.values()) + 1)
    for variant in COMPRESSED_VARIANTS:
        assert "so it would be the float16 package" in (nothing_to_compress(small, variant) or "")
    assert nothing_to_compress(small, "float16") is None


@pytest.mark.parametrize("variant", ["palettized4", "palettized6"])
def test_palettes_of_outermost_layers_alone_would_be_the_int8_package(
    small: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nothing_to_compress(small, variant) is None
    largest = max(weight.values.size for weight in weights_of(read_package(small)).values())
    monkeypatch.setattr(compress_module, "THRESHOLD", largest)
    assert all(weight.outermost for weight in weights_of(read_package(small)).values())
    assert "so it would be the int8 package" in (nothing_to_compress(small, variant) or "")
    assert nothing_to_compress(small, "int8") is None


def test_a_form_says_how_large_it_is_in_the_file(small: Path, tmp_path: Path) -> None:
    """By which the plan of `mixed` decides: each form in turn against all in float16."""

    def bytes_of(plan: dict[str, str]) -> int:
        compress(small, "mixed", tmp_path / "planned.mlpackage", plan)
        return (tmp_path / "planned.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size

    weights = weights_of(read_package(small))
    plain = dict.fromkeys(weights, "float16")
    whole = bytes_of(plain)
    for name, weight in weights.items():
        stored = 64 + -(-2 * weight.values.size // 64) * 64
        for kind in REPRESENTATIONS[:-1]:
            saved_bytes = whole - bytes_of({**plain, name: kind})
            assert saved_bytes == stored - compressed(weight, kind).size(), (name, kind)


# int8


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_is_within_half_a_step_in_every_channel(axis: int) -> None:
    generator = np.random.default_rng(1)
    values = generator.standard_normal((24, 24, 3, 3)) * np.logspace(-9, 3, 24).reshape(-1, 1, 1, 1)
    values[5] = 0.0
    values = np.moveaxis(values, 0, axis).astype(np.float16).astype(np.float32)
    form = compressed(Weight(values, axis), "int8")
    scale = form.parameters["scale"].astype(np.float64)
    for channel in range(24):
        own = np.take(values, channel, axis).astype(np.float64)
        codes = np.take(form.parameters["quantized_data"], channel, axis)
        assert np.abs(codes * scale[channel] - own).max() <= scale[channel] / 2
        if np.abs(own).max() > 1e-3:  # below, float16 has no scale that fits
            assert np.abs(codes).max() in (126, 127)
    assert form.parameters["quantized_data"].min() >= -127
    assert not form.parameters["zero_point"].any()


# Palettes


class _Tint(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (image * 0.5,)


def test_a_package_without_large_weights_is_refused(tmp_path: Path) -> None:
    convert_coreml(deployable(_Tint()), tmp_path / "tint.mlpackage")
    with pytest.raises(UserError, match="no float16 weight of 2048 values"):
        compress(tmp_path / "tint.mlpackage", "int8", tmp_path / "out.mlpackage")


def test_a_weight_that_is_not_finite_is_named(small: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(small, tmp_path / "nan.mlpackage"))
    name = next(iter(weights_of(read_package(path))))
    overwrite(path, name, "val", lambda weight: np.where(weight == weight.max(), np.nan, weight))
    with pytest.raises(UserError, match=f"{name}.*not finite"):
        compress(path, "palettized6", tmp_path / "out.mlpackage")
    assert not (tmp_path / "out.mlpackage").exists()


def test_a_plan_of_another_package_is_refused(small: Path, tmp_path: Path) -> None:
    names = list(weights_of(read_package(small)))
    for plan in (None, {}, dict.fromkeys(names[1:], "int8"), dict.fromkeys(names, "int2")):
        with pytest.raises(ValueError, match="plan"):
            compress(small, "mixed", tmp_path / "out.mlpackage", plan)
    with pytest.raises(ValueError, match="plan"):
        compress(small, "int8", tmp_path / "out.mlpackage", dict.fromkeys(names, "int8"))


# Mixed


def test_a_bundle_of_compressed_packages_at_two_sizes(photo_path: Path, tmp_path: Path) -> None:
    """Without the float16 package, which is only made on the way; the plan of the first size is that of all."""
    network = Small()
    bundle = convert(
        [deployable(network, 32, 48), deployable(network, 48, 32)],
        tmp_path / "bundle",
        {"checkpoint_sha256": "0" * 64, "recipe": {"name": "test"}, "data_licence": "CC BY 4.0"},
        golden_photo=photo_path,
        variants=[f"{variant}.mlpackage" for variant in COMPRESSED_VARIANTS],
    )
    made = [(a.width, a.height, a.variant, a.minimum_runtime) for a in bundle.contract.artifacts]
    assert sorted(made) == sorted(
        (*size, variant, "iOS 16, macOS 13")
        for size in ((48, 32), (32, 48))
        for variant in COMPRESSED_VARIANTS
    )
    assert {path.suffix for path in bundle.folder.iterdir()} == {".mlpackage", ".json", ""}
    plans = [saved(bundle.path(a)) for a in bundle.contract.artifacts if a.variant == "mixed"]
    assert plans[0] == plans[1]
