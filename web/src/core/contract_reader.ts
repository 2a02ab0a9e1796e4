import {
  type Artifact,
  type CameraFrame,
  type Contract,
  CONTRACT_FILE,
  type GoldenFile,
  type Proof,
  type TensorSpec,
} from "./contract.ts";
import { Fault } from "./fault.ts";
import { JsonNode } from "./json_node.ts";

/** A real one has 20 kB. */
export const MOST_CONTRACT_BYTES = 4 << 20;

/** Read the bytes of a model.json, which may come from anywhere. Throws a Fault as docs/vectors.md words it. */
export function readContract(bytes: Uint8Array): Contract {
  if (bytes.length > MOST_CONTRACT_BYTES) {
    throw new Fault(`${CONTRACT_FILE}: larger than ${MOST_CONTRACT_BYTES} bytes`);
  }
  return contractOf(new JsonNode(parse(bytes)));
}

function parse(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw new Fault(`${CONTRACT_FILE}: is not valid JSON`);
  }
}

function contractOf(node: JsonNode): Contract {
  const fields = node.fields(
    ["schema_version", "task", "title", "version", "artifacts", "golden", "provenance"],
    ["proof", "camera_frame"],
  );
  const version = fields.get("schema_version").oneOfNumbers(1, 2);
  checkProvenance(fields.get("provenance"));
  const proof = fields.nullable("proof");
  const contract: Contract = {
    task: fields.get("task").text("small letters, digits and _, a letter first", TASK),
    title: fields.get("title").text(),
    version: fields.get("version").text(),
    artifacts: fields.get("artifacts").list(1, 256).map(artifactOf),
    golden: fields
      .get("golden")
      .list(0, 256)
      .map((entry) => goldenOf(entry, version)),
    proof: proof === null ? null : proofOf(proof),
    camera: cameraOf(fields.optional("camera_frame")),
  };
  refuseTwins(contract);
  return contract;
}

function cameraOf(node: JsonNode | null): CameraFrame {
  if (node === null) return "not said";
  if (node.isNull) return "scaled";
  const fields = node.fields(["width", "height"]);
  return { width: side(fields.get("width")), height: side(fields.get("height")) };
}

function refuseTwins(contract: Contract): void {
  const seen = new Set<string>();
  for (const list of ["artifacts", "golden"] as const) {
    contract[list].forEach(({ file }, index) => {
      if (seen.has(file)) throw new Fault(`${CONTRACT_FILE}: ${list}[${index}].file: ${file} is named twice`);
      seen.add(file);
    });
  }
}

function artifactOf(node: JsonNode): Artifact {
  const fields = node.fields(
    [
      ...["file", "format", "variant", "width", "height", "sha256", "bytes", "minimum_runtime"],
      ...["inputs", "outputs", "parameters", "macs"],
    ],
    ["self_test_floor_db"],
  );
  return {
    file: fields.get("file").text(FILE_NAME, FILE),
    format: fields.get("format").oneOf(["tflite", "coreml"]),
    variant: fields.get("variant").oneOf(VARIANTS),
    width: side(fields.get("width")),
    height: side(fields.get("height")),
    sha256: sha256(fields.get("sha256")),
    bytes: fields.get("bytes").whole(1),
    minimumRuntime: fields.get("minimum_runtime").text(),
    inputs: fields.get("inputs").list(1).map(tensorOf),
    outputs: fields.get("outputs").list(1).map(tensorOf),
    parameters: fields.get("parameters").whole(0),
    macs: fields.get("macs").whole(0),
    selfTestFloor: fields.nullable("self_test_floor_db")?.number() ?? null,
  };
}

function tensorOf(node: JsonNode): TensorSpec {
  const fields = node.fields(
    ["name", "shape", "layout", "dtype", "range", "colour_space", "meaning"],
    ["kind"],
  );
  const range = fields
    .get("range")
    .list(2, 2)
    .map((end) => end.number());
  return {
    name: fields.get("name").text("letters, digits and _, no digit first", NAME),
    shape: fields.get("shape").list(1, 8).map(side),
    layout: fields.get("layout").oneOf(["NHWC", "image", "array"]),
    dtype: fields.get("dtype").oneOf(["float32", "uint8"]),
    low: range[0]!,
    high: range[1]!,
    colourSpace: fields.get("colour_space").text(),
    meaning: fields.get("meaning").text("a text", /^[^]*$/),
    kind: fields.optional("kind")?.oneOf(["image", "vector", "class"]) ?? "image",
  };
}

function goldenOf(node: JsonNode, version: 1 | 2): GoldenFile {
  const size = version === 1 ? ["width", "height"] : ["shape"];
  const fields = node.fields(["file", "role", "tensor", "encoding", "sha256", "bytes", ...size]);
  return {
    file: fields.get("file").text(`golden/ and ${FILE_NAME}`, GOLDEN_FILE),
    role: fields.get("role").oneOf(["input", "output"]),
    tensor: fields.get("tensor").text("a text", /^[^]*$/),
    encoding: fields.get("encoding").oneOf(["png", "float32"]),
    shape:
      version === 1
        ? [side(fields.get("height")), side(fields.get("width")), 3]
        : fields.get("shape").list(1, 8).map(side),
    sha256: sha256(fields.get("sha256")),
    bytes: fields.get("bytes").whole(1),
  };
}

/** Of where the weights come from, apps show nothing yet; it must be there all the same. */
function checkProvenance(node: JsonNode): void {
  const fields = node.fields(["checkpoint_sha256", "recipe", "data_licence", "tools"], "any");
  sha256(fields.get("checkpoint_sha256"));
  fields.get("recipe").fields([], "any");
  fields.get("data_licence").text();
  fields.get("tools").fields([], "any");
}

function proofOf(node: JsonNode): Proof {
  const fields = node.fields(["passed", "images", "results"]);
  const results = fields
    .get("results")
    .list()
    .map((entry) => {
      const result = entry.fields(["file", "passed", "max_error", "psnr"]);
      return {
        file: result.get("file").text(FILE_NAME, FILE),
        passed: result.get("passed").flag(),
        maxError: result.get("max_error").number(0),
        psnr: result.get("psnr").number(),
      };
    });
  return { passed: fields.get("passed").flag(), images: fields.get("images").whole(1), results };
}

const side = (node: JsonNode): number => node.whole(1, 16384);

const sha256 = (node: JsonNode): string => node.text("64 hexadecimal digits in small letters", SHA256);

const VARIANTS = [
  ...["float32", "float16", "dynamic_range_quant", "full_integer_quant", "integer_quant_with_int16_act"],
  ...["mixed", "int8", "palettized6", "palettized4"],
];
const FILE_NAME = "the name of a file inside the bundle";
const FILE = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const GOLDEN_FILE = /^golden\/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;
const SHA256 = /^[0-9a-f]{64}$/;
const TASK = /^[a-z][a-z0-9_]{0,63}$/;
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
