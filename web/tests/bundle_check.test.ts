import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BundleCheck } from "../src/core/bundle_check.ts";
import type { BundleEntry } from "../src/core/contract.ts";
import { MOST_CONTRACT_BYTES, readContract } from "../src/core/contract_reader.ts";
import { Fault } from "../src/core/fault.ts";
import { folderFiles, FOLDER, vectors } from "./vectors.ts";

const contracts = join(FOLDER, "contracts");
const expected = vectors<Record<"broken" | "damaged", Record<string, string>>>("contracts/expected.json");

const open = (name: string): Promise<BundleCheck> => BundleCheck.open(folderFiles(join(contracts, name)));

/** Of everything that a browser can use. */
async function faults(bundle: BundleCheck): Promise<string[]> {
  const { artifacts, golden } = bundle.contract;
  const lines: string[] = [];
  const entries: BundleEntry[] = [...artifacts.filter(({ format }) => format === "tflite"), ...golden];
  for (const entry of entries) {
    await bundle.read(entry).catch((error: Error) => lines.push(error.message));
  }
  return lines;
}

test("whole bundles have no fault", async () => {
  for (const name of readdirSync(join(contracts, "valid"))) {
    assert.deepEqual(await faults(await open(`valid/${name}`)), []);
  }
});

test("what an app needs is read", async () => {
  const { contract } = await open("valid/photo");
  assert.equal(contract.task, "photo");
  assert.deepEqual(contract.artifacts.map(({ format }) => format), ["tflite", "coreml"]);
  assert.deepEqual(contract.artifacts[0]!.inputs, [
    {
      name: "image", shape: [1, 2, 4, 3], layout: "NHWC", dtype: "float32", low: 0, high: 1, colourSpace: "sRGB",
      meaning: "the photo", kind: "image",
    },
  ]);
  assert.deepEqual(contract.golden.map(({ role }) => role), ["input", "output"]);
  assert.deepEqual(contract.proof!.results, [
    { file: "photo_4x2_float16.tflite", passed: true, maxError: 2.5e-4, psnr: 71.25 },
  ]);
  const clip = (await open("valid/clip")).contract;
  assert.equal(clip.proof, null);
  assert.deepEqual(clip.artifacts[0]!.inputs.map(({ name }) => name), ["current", "previous"]);
});

test("which frames of a camera a network gets is read, and older bundles do not say it", async () => {
  assert.deepEqual((await open("valid/clip")).contract.camera, { width: 1280, height: 720 });
  assert.equal((await open("valid/tagged")).contract.camera, "scaled");
  for (const older of ["photo", "version_1"]) {
    assert.equal((await open(`valid/${older}`)).contract.camera, "not said");
  }
});

test("what is no image is read", async () => {
  const { contract } = await open("valid/tagged");
  const [artifact] = contract.artifacts;
  assert.deepEqual(artifact!.inputs.map(({ name, kind }) => [name, kind]), [
    ["image", "image"],
    ["strength", "vector"],
  ]);
  assert.equal(artifact!.outputs[0]!.kind, "class");
  assert.equal(artifact!.selfTestFloor, null);
});

test("version 1 means the same without kinds, shapes and floors", async () => {
  const [old, current] = [(await open("valid/version_1")).contract, (await open("valid/photo")).contract];
  assert.deepEqual(current.artifacts.map(({ selfTestFloor }) => selfTestFloor), [45, null]);
  const artifacts = current.artifacts.map((artifact) => ({ ...artifact, selfTestFloor: null }));
  assert.deepEqual({ ...current, artifacts }, old);
});

test("broken contracts are refused with the line of the vectors", () => {
  const names = readdirSync(join(contracts, "broken")).map((name) => name.replace(/\.json$/, ""));
  assert.deepEqual(names.toSorted(), Object.keys(expected.broken).toSorted());
  for (const [name, line] of Object.entries(expected.broken)) {
    assert.throws(() => readContract(readFileSync(join(contracts, `broken/${name}.json`))), new Fault(line), name);
  }
});

test("damaged files are refused with the line of the vectors; a browser reads no packages", async () => {
  for (const [name, line] of Object.entries(expected.damaged)) {
    assert.deepEqual(await faults(await open(`damaged/${name}`)), name === "package_changed" ? [] : [line], name);
  }
});

test("the bytes that were compared are handed out", async () => {
  const bundle = await open("valid/photo");
  const [file] = bundle.contract.artifacts;
  const bytes = await bundle.read(file!);
  assert.deepEqual(Buffer.from(bytes), readFileSync(join(contracts, "valid/photo", file!.file)));
});

test("a folder without a contract is refused", async () => {
  await assert.rejects(open("nowhere"), new Fault("model.json: is missing"));
});

test("whatever bytes come, only a Fault is thrown", () => {
  const whole = readFileSync(join(contracts, "valid/photo/model.json"));
  let state = 7; // a linear congruential generator: the same bytes every time
  const random = (below: number): number => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
  let refused = 0;
  for (let round = 0; round < 3000; round++) {
    const bytes = Uint8Array.from(round % 3 === 0 ? whole.subarray(0, random(whole.length)) : whole);
    for (let change = random(3) + 1; change > 0 && bytes.length > 0; change--) {
      bytes[random(bytes.length)] = random(256);
    }
    try {
      readContract(bytes);
    } catch (error) {
      assert.ok(error instanceof Fault, String(error));
      assert.equal(error.message.split("\n").length, 1);
      refused++;
    }
  }
  assert.ok(refused > 1000);
  const deep = new TextEncoder().encode("[".repeat(100_000));
  assert.throws(() => readContract(deep), new Fault("model.json: is not valid JSON"));
  assert.throws(() => readContract(new Uint8Array(MOST_CONTRACT_BYTES + 1)), Fault);
});
