import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { GoldenFile, TensorSpec } from "../src/core/contract.ts";
import { Fault } from "../src/core/fault.ts";
import { goldenPicture, goldenValues, unpack } from "../src/core/picture.ts";
import { selfTestOf } from "../src/core/self_test.ts";
import { FOLDER, vectors } from "./vectors.ts";

const noPng = (): never => assert.fail("no PNG here");

function output(low: number, high: number): TensorSpec {
  return {
    name: "restored", shape: [1], layout: "NHWC", dtype: "float32", low, high, colourSpace: "sRGB", meaning: "",
    kind: "image",
  };
}

function golden(name: string, ...shape: number[]): Promise<Float32Array> {
  const file: GoldenFile = {
    file: name, role: "output", tensor: "restored", encoding: "float32", shape, sha256: "", bytes: 1,
  };
  return goldenValues(file, new Uint8Array(readFileSync(join(FOLDER, "golden", name))), noPng);
}

test("verdicts are those of the vectors", async () => {
  const { self_tests: cases } = vectors<{
    self_tests: {
      got: string;
      expected: string;
      range: [number, number];
      floor_db: number;
      psnr_db: number;
      passed: boolean;
      line: string;
    }[];
  }>("golden.json");
  assert.equal(cases.length, 6);
  for (const vector of cases) {
    const [got, wanted] = [await golden(vector.got, 24, 32, 3), await golden(vector.expected, 24, 32, 3)];
    const found = selfTestOf(output(...vector.range), got, wanted, vector.floor_db);
    assert.ok(Math.abs(found.psnr - vector.psnr_db) < 1e-5, vector.line);
    assert.equal(found.passed, vector.passed);
    assert.equal(found.line, vector.line);
  }
});

test("errors are taken as parts of the output's range", () => {
  const [black, grey] = [new Float32Array(3), new Float32Array(3).fill(25.5)];
  assert.ok(Math.abs(selfTestOf(output(0, 255), grey, black, 0).psnr - 20) < 1e-4);
});

test("an output of another size is a fault", () => {
  assert.throws(
    () => selfTestOf(output(0, 1), new Float32Array(6), new Float32Array(3), 40),
    new Fault("restored: the output has 6 values, expected 3"),
  );
});

test("a golden file of another size is a fault", async () => {
  await assert.rejects(
    golden("expected.float32", 25, 32, 3),
    new Fault("expected.float32: has 9216 bytes, expected 9600 for [25, 32, 3]"),
  );
  const png: GoldenFile = {
    file: "a.png", role: "input", tensor: "image", encoding: "png", shape: [2, 3, 3], sha256: "", bytes: 1,
  };
  const turned = async () => ({ width: 2, height: 3, rgba: new Uint8ClampedArray(24) });
  await assert.rejects(
    goldenPicture(png, new Uint8Array(0), turned),
    new Fault("a.png: has the shape [3, 2, 3], model.json says [2, 3, 3]"),
  );
});

test("levels become floats as in Python, and into the range of the input", () => {
  const rgba = Uint8ClampedArray.from([0, 51, 255, 255, 1, 2, 3, 255]);
  assert.deepEqual([...unpack(rgba, 0, 1)], [0, 51, 255, 1, 2, 3].map((level) => Math.fround(level / 255)));
  assert.deepEqual([...unpack(rgba, -1, 1)].slice(0, 3), [-1, Math.fround(-1 + Math.fround(51 / 255) * 2), 1]);
});
