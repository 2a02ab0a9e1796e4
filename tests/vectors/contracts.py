"""contracts/: whole bundles, texts of model.json with one fault each, bundles with one damaged file each.

Every implementation must take `valid`, and refuse the others with exactly the line of expected.json (docs/vectors.md).
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]
Files = dict[str, bytes]  # by path

STAND_IN = b"a stand-in for a converted file\n"
VARIANTS = (
    *(
        "float32",
        "float16",
        "dynamic_range_quant",
        "full_integer_quant",
        "integer_quant_with_int16_act",
        "mixed",
    ),
    *("int8", "palettized6", "palettized4"),
)
FILE = "the name of a file inside the bundle"
NOT_JSON = "model.json: is not valid JSON"


def text_of(document: Json) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def files() -> Files:
    """Everything under contracts/."""
    found: Files = {}
    for name, bundle in valid().items():
        found |= {f"valid/{name}/{path}": data for path, data in bundle.items()}
    for name, (text, _) in broken().items():
        found[f"broken/{name}.json"] = text
    for name, (bundle, _) in damaged().items():
        found |= {f"damaged/{name}/{path}": data for path, data in bundle.items()}
    found["expected.json"] = text_of(
        {
            "broken": {name: line for name, (_, line) in broken().items()},
            "damaged": {name: line for name, (_, line) in damaged().items()},
        }
    )
    return found


def valid() -> dict[str, Files]:
    """A photo task with a file for each platform; a task with two inputs and no proof; inputs and outputs that are not
    images; and a bundle of version 1, which is still read."""
    return {
        "photo": bundle(photo(), PHOTO_FILES),
        "clip": bundle(clip(), CLIP_FILES),
        "tagged": bundle(tagged(), TAGGED_FILES),
        "version_1": bundle(version_1(), PHOTO_FILES),
    }


def bundle(contract: Json, contents: Mapping[str, bytes]) -> Files:
    return {"model.json": text_of(contract), **contents}


PHOTO_FILES: Files = {
    "photo_4x2_float16.tflite": STAND_IN,
    "photo_4x2_float16.mlpackage/Manifest.json": b"{}\n",
    "photo_4x2_float16.mlpackage/Data/weights.bin": bytes(range(64)),
    "golden/4x2_input_image.png": b"a stand-in for a picture\n",
    "golden/4x2_output_restored.float32": bytes(4 * 2 * 3 * 4),
}
CLIP_FILES: Files = {
    "clip_4x2_mixed.tflite": STAND_IN,
    "golden/4x2_input_current.png": b"the frame\n",
    "golden/4x2_input_previous.png": b"the frame before\n",
    "golden/4x2_output_restored.png": b"the answer\n",
}
TAGGED_FILES: Files = {
    "tagged_4x2_float16.tflite": STAND_IN,
    "golden/4x2_input_image.png": b"a stand-in for a picture\n",
    "golden/4x2_input_strength.float32": bytes(4 * 4),
    "golden/4x2_output_label.float32": bytes(3 * 4),
}


def photo() -> Json:
    image = tensor("image", "the photo")
    restored = tensor("restored", "the restored photo")
    coreml = {"shape": [2, 4, 3], "layout": "image", "dtype": "uint8", "range": [0.0, 255.0]}
    return {
        "schema_version": 2,
        "task": "photo",
        "title": "A photo's task",
        "version": "1",
        "artifacts": [
            artifact(PHOTO_FILES, "photo_4x2_float16.tflite", "tflite", "float16", [image], [restored])
            | {"self_test_floor_db": 45.0},
            artifact(
                PHOTO_FILES,
                "photo_4x2_float16.mlpackage",
                "coreml",
                "float16",
                [image | coreml],
                [restored | coreml],
            ),
        ],
        "golden": [
            golden(PHOTO_FILES, "4x2_input_image.png", "input", "image", "png"),
            golden(PHOTO_FILES, "4x2_output_restored.float32", "output", "restored", "float32"),
        ],
        "provenance": provenance(),
        "proof": {
            "passed": True,
            "images": 7,
            "results": [
                {"file": "photo_4x2_float16.tflite", "passed": True, "max_error": 2.5e-4, "psnr": 71.25}
            ],
        },
    }


def clip() -> Json:
    frames = [tensor("current", "the frame"), tensor("previous", "the frame before it")]
    return {
        "schema_version": 2,
        "task": "clip",
        "title": "A clip's task",
        "version": "2",
        "camera_frame": {"width": 1280, "height": 720},
        "artifacts": [
            artifact(CLIP_FILES, "clip_4x2_mixed.tflite", "tflite", "mixed", frames, [tensor("restored", "")])
        ],
        "golden": [
            golden(CLIP_FILES, "4x2_input_current.png", "input", "current", "png"),
            golden(CLIP_FILES, "4x2_input_previous.png", "input", "previous", "png"),
            golden(CLIP_FILES, "4x2_output_restored.png", "output", "restored", "png"),
        ],
        "provenance": provenance(),
    }


def tagged() -> Json:
    """An image and a vector go in, a score for each of three classes comes out."""
    strength = plain("strength", [1, 4], "vector", "how much of what to do")
    label = plain("label", [1, 3], "class", "what it shows")
    image = tensor("image", "the photo")
    names = ("4x2_input_image.png", "4x2_input_strength.float32", "4x2_output_label.float32")
    return {
        "schema_version": 2,
        "task": "tagged",
        "title": "A photo, how strongly, and what it shows",
        "version": "1",
        "artifacts": [
            artifact(
                TAGGED_FILES, "tagged_4x2_float16.tflite", "tflite", "float16", [image, strength], [label]
            )
            | {"self_test_floor_db": None}
        ],
        "golden": [
            golden(TAGGED_FILES, names[0], "input", "image", "png"),
            golden(TAGGED_FILES, names[1], "input", "strength", "float32") | {"shape": [1, 4]},
            golden(TAGGED_FILES, names[2], "output", "label", "float32") | {"shape": [1, 3]},
        ],
        "provenance": provenance(),
        "proof": None,
        "camera_frame": None,
    }


def version_1() -> Json:
    """The photo's bundle of before inputs and outputs had a kind: golden files have a width and a height."""
    document = photo()
    document["schema_version"] = 1
    for entry in document["artifacts"]:
        entry.pop("self_test_floor_db", None)
        for tensor_ in (*entry["inputs"], *entry["outputs"]):
            del tensor_["kind"]
    for entry in document["golden"]:
        height, width, _ = entry.pop("shape")
        entry |= {"width": width, "height": height}
    return document


def plain(name: str, shape: list[int], kind: str, meaning: str) -> Json:
    """Numbers that are not an image."""
    values = {"shape": shape, "layout": "array", "colour_space": "none", "kind": kind}
    return tensor(name, meaning) | values


def tensor(name: str, meaning: str) -> Json:
    return {
        "name": name,
        "shape": [1, 2, 4, 3],
        "layout": "NHWC",
        "dtype": "float32",
        "range": [0.0, 1.0],
        "colour_space": "sRGB",
        "meaning": meaning,
        "kind": "image",
    }


def artifact(
    contents: Files, file: str, form: str, variant: str, inputs: list[Json], outputs: list[Json]
) -> Json:
    sha256, size = digest(contents, file)
    return {
        "file": file,
        "format": form,
        "variant": variant,
        "width": 4,
        "height": 2,
        "sha256": sha256,
        "bytes": size,
        "minimum_runtime": "TFLite 2.8" if form == "tflite" else "iOS 16",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": 100,
        "macs": 2000,
    }


def golden(contents: Files, file: str, role: str, name: str, encoding: str) -> Json:
    sha256, size = digest(contents, f"golden/{file}")
    return {
        "file": f"golden/{file}",
        "role": role,
        "tensor": name,
        "encoding": encoding,
        "shape": [2, 4, 3],
        "sha256": sha256,
        "bytes": size,
    }


def provenance() -> Json:
    return {
        "checkpoint_sha256": "ab" * 32,
        "recipe": {"width": 16, "nested": {"any": [1, None, "text"]}},
        "data_licence": "CC BY 4.0",
        "tools": {"onnx2tf": "1.29.16"},
        "step": 1000,
    }


def digest(contents: Files, file: str) -> tuple[str, int]:
    """As `sha256sum` and `wc -c` find them; of a folder, the digest of what `sha256sum` prints for its files."""
    if file in contents:
        return hashlib.sha256(contents[file]).hexdigest(), len(contents[file])
    inside = sorted(name.removeprefix(f"{file}/") for name in contents if name.startswith(f"{file}/"))
    parts = [contents[f"{file}/{name}"] for name in inside]
    listing = "".join(
        f"{hashlib.sha256(part).hexdigest()}  {name}\n" for name, part in zip(inside, parts, strict=True)
    )
    return hashlib.sha256(listing.encode()).hexdigest(), sum(len(part) for part in parts)


def broken() -> dict[str, tuple[bytes, str]]:
    """Texts of model.json and the lines that refuse them."""
    whole = text_of(photo())
    found = {
        "empty": (b"", NOT_JSON),
        "cut_off": (whole[:300], NOT_JSON),
        "not_a_number": (whole.replace(b"71.25", b"NaN"), NOT_JSON),
        "not_utf8": (whole.replace(b"A photo's", b"A \xff\xfe"), NOT_JSON),
        "a_list": (b"[1, 2]\n", "model.json: got a list, expected an object"),
        "other_version": changed(
            lambda d: d.update(schema_version=9), "schema_version: got 9, expected 1 or 2"
        ),
        "no_task": changed(lambda d: d.pop("task"), "task is missing"),
        "task_with_slash": changed(
            lambda d: d.update(task="../photo"),
            'task: got "../photo", expected small letters, digits and _, a letter first',
        ),
        "title_empty": changed(lambda d: d.update(title=""), 'title: got "", expected a text'),
        "unknown_key": changed(lambda d: d.update(colour="red"), 'unknown key "colour"'),
        "camera_frame_text": changed(
            lambda d: d.update(camera_frame="1280x720"), 'camera_frame: got "1280x720", expected an object'
        ),
        "camera_frame_zero": changed(
            lambda d: d.update(camera_frame={"width": 0, "height": 720}),
            "camera_frame.width: got 0, expected a whole number from 1 to 16384",
        ),
        "camera_frame_half": changed(
            lambda d: d.update(camera_frame={"width": 1280}), "camera_frame: height is missing"
        ),
        "no_artifacts": changed(
            lambda d: d.update(artifacts=[]), "artifacts: got 0 entries, expected 1 to 256"
        ),
        "artifacts_no_list": changed(
            lambda d: d.update(artifacts={}), "artifacts: got an object, expected a list"
        ),
        "leads_out": changed(
            first(file="../other.tflite"), f'artifacts[0].file: got "../other.tflite", expected {FILE}'
        ),
        "absolute": changed(
            first(file="/etc/passwd"), f'artifacts[0].file: got "/etc/passwd", expected {FILE}'
        ),
        "golden_outside": changed(
            lambda d: d["golden"][0].update(file="golden/../../a.png"),
            f'golden[0].file: got "golden/../../a.png", expected golden/ and {FILE}',
        ),
        "named_twice": changed(
            lambda d: d["golden"][0].update(file=d["golden"][1]["file"]),
            "golden[1].file: golden/4x2_output_restored.float32 is named twice",
        ),
        "other_format": changed(
            first(format="onnx"), 'artifacts[0].format: got "onnx", expected one of tflite, coreml'
        ),
        "other_variant": changed(
            first(variant="float64"),
            f'artifacts[0].variant: got "float64", expected one of {", ".join(VARIANTS)}',
        ),
        "width_text": changed(
            first(width="4"), 'artifacts[0].width: got "4", expected a whole number from 1 to 16384'
        ),
        "width_zero": changed(
            first(width=0), "artifacts[0].width: got 0, expected a whole number from 1 to 16384"
        ),
        "width_fraction": changed(
            first(width=4.5), "artifacts[0].width: got 4.5, expected a whole number from 1 to 16384"
        ),
        "bytes_negative": changed(
            first(bytes=-1), "artifacts[0].bytes: got -1, expected a whole number of at least 1"
        ),
        "sha256_short": changed(
            first(sha256="abc"),
            'artifacts[0].sha256: got "abc", expected 64 hexadecimal digits in small letters',
        ),
        "runtime_null": changed(
            first(minimum_runtime=None), "artifacts[0].minimum_runtime: got null, expected a text"
        ),
        "no_inputs": changed(first(inputs=[]), "artifacts[0].inputs: got 0 entries, expected at least 1"),
        "input_name": changed(
            port(name="the image"),
            'artifacts[0].inputs[0].name: got "the image", expected letters, digits and _, no digit first',
        ),
        "layout": changed(
            port(layout="NCHW"),
            'artifacts[0].inputs[0].layout: got "NCHW", expected one of NHWC, image, array',
        ),
        "dtype": changed(
            port(dtype="int8"), 'artifacts[0].inputs[0].dtype: got "int8", expected one of float32, uint8'
        ),
        "shape_zero": changed(
            port(shape=[1, 0, 4, 3]),
            "artifacts[0].inputs[0].shape[1]: got 0, expected a whole number from 1 to 16384",
        ),
        "kind": changed(
            port(kind="text"), 'artifacts[0].inputs[0].kind: got "text", expected one of image, vector, class'
        ),
        "self_test_floor_text": changed(
            first(self_test_floor_db="45"), 'artifacts[0].self_test_floor_db: got "45", expected a number'
        ),
        "golden_shape_missing": changed(lambda d: d["golden"][0].pop("shape"), "golden[0]: shape is missing"),
        "golden_of_version_1": changed(
            lambda d: d["golden"][0].update(width=4, height=2), 'golden[0]: unknown key "width"'
        ),
        "golden_shape_empty": changed(
            lambda d: d["golden"][0].update(shape=[]), "golden[0].shape: got 0 entries, expected 1 to 8"
        ),
        "range_of_three": changed(
            port(range=[0, 0.5, 1]), "artifacts[0].inputs[0].range: got 3 entries, expected 2"
        ),
        "range_text": changed(
            port(range=[0, "1"]), 'artifacts[0].inputs[0].range[1]: got "1", expected a number'
        ),
        "role": changed(
            lambda d: d["golden"][0].update(role="target"),
            'golden[0].role: got "target", expected one of input, output',
        ),
        "encoding": changed(
            lambda d: d["golden"][0].update(encoding="jpeg"),
            'golden[0].encoding: got "jpeg", expected one of png, float32',
        ),
        "no_licence": changed(
            lambda d: d["provenance"].pop("data_licence"), "provenance: data_licence is missing"
        ),
        "proof_passed_text": changed(
            lambda d: d["proof"].update(passed="yes"), 'proof.passed: got "yes", expected true or false'
        ),
        "proof_error_negative": changed(
            lambda d: d["proof"]["results"][0].update(max_error=-0.5),
            "proof.results[0].max_error: got -0.5, expected a number of at least 0",
        ),
    }
    return found


def changed(change: Callable[[Json], object], fault: str) -> tuple[bytes, str]:
    """The photo's model.json after a change, and the line about it."""
    document = copy.deepcopy(photo())
    change(document)
    return text_of(document), f"model.json: {fault}"


def first(**values: Any) -> Callable[[Json], object]:
    return lambda document: document["artifacts"][0].update(values)


def port(**values: Any) -> Callable[[Json], object]:
    return lambda document: document["artifacts"][0]["inputs"][0].update(values)


def damaged() -> dict[str, tuple[Files, str]]:
    """Bundles whose model.json is right and whose files are not, and the lines that refuse them."""
    file, package = "photo_4x2_float16.tflite", "photo_4x2_float16.mlpackage"
    other = STAND_IN.swapcase()
    weights = f"{package}/Data/weights.bin"
    turned = PHOTO_FILES | {weights: bytes(reversed(range(64)))}
    good, bad = digest(PHOTO_FILES, package)[0], digest(turned, package)[0]
    return {
        "missing": (damage({file: None}), f"{file}: is missing"),
        "cut_off": (
            damage({file: STAND_IN[:-5]}),
            f"{file}: has {len(STAND_IN) - 5} bytes, model.json says {len(STAND_IN)}",
        ),
        "changed": (
            damage({file: other}),
            f"{file}: its sha256 is {hashlib.sha256(other).hexdigest()}, "
            f"model.json says {hashlib.sha256(STAND_IN).hexdigest()}",
        ),
        "package_changed": (
            bundle(photo(), turned),
            f"{package}: its sha256 is {bad}, model.json says {good}",
        ),
        "golden_missing": (
            damage({"golden/4x2_input_image.png": None}),
            "golden/4x2_input_image.png: is missing",
        ),
    }


def damage(changes: Mapping[str, bytes | None]) -> Files:
    """The photo's bundle with files replaced, or left out for None."""
    contents: dict[str, bytes | None] = {**PHOTO_FILES, **changes}
    return bundle(photo(), {name: data for name, data in contents.items() if data is not None})
