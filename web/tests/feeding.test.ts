import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Artifact } from "../src/core/contract.ts";
import { readContract } from "../src/core/contract_reader.ts";
import { bestFor } from "../src/lens/choice.ts";
import { Feeding } from "../src/lens/feeding.ts";
import { FOLDER } from "./vectors.ts";

const clip = readContract(readFileSync(join(FOLDER, "contracts/valid/clip/model.json")));

function artifact(width: number, height: number, variant = "float32"): Artifact {
  return { ...clip.artifacts[0]!, width, height, variant };
}

const EXACT = { width: 1280, height: 720 };

test("a network for frames of a size gets their middle, unscaled", () => {
  const feeding = new Feeding(EXACT, artifact(256, 256));
  assert.deepEqual(feeding.wanted, EXACT);
  assert.deepEqual(feeding.part, { across: 0.2, down: 256 / 720 });
  assert.equal(feeding.fit(EXACT), "as trained");
  assert.equal(feeding.fit({ width: 640, height: 360 }), "scaled");
  const format = { size: EXACT, rotation: 90, mirrored: false } as const;
  const geometry = feeding.geometry(format, { width: 256, height: 256 }, "crop");
  assert.deepEqual(geometry.sensorFromArtifact.columns(), [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
});

test("a network larger than those frames gets them scaled, in proportion", () => {
  const feeding = new Feeding({ width: 640, height: 360 }, artifact(1280, 720));
  assert.deepEqual(feeding.part, { across: 1, down: 1 });
  assert.equal(feeding.fit({ width: 640, height: 360 }), "scaled");
});

test("other networks get the whole frame, and older bundles are told apart", () => {
  const feeding = new Feeding("scaled", artifact(256, 256));
  assert.deepEqual(feeding.wanted, EXACT);
  assert.deepEqual(feeding.part, { across: 1, down: 1 });
  assert.equal(feeding.fit({ width: 640, height: 480 }), "as trained");
  assert.equal(new Feeding("not said", artifact(256, 256)).fit(EXACT), "not said");
  assert.deepEqual(new Feeding("scaled", artifact(1920, 1080)).wanted, { width: 1920, height: 1080 });
});

test("a photo is shown whole", () => {
  const photo = { size: { width: 400, height: 300 }, rotation: 0, mirrored: false } as const;
  const feeding = new Feeding("scaled", artifact(256, 256));
  const view = { width: 400, height: 300 };
  assert.deepEqual(feeding.geometry(photo, view, "fit").shown, { width: 400, height: 300 });
  assert.deepEqual(feeding.geometry(photo, view, "crop").shown, { width: 300, height: 300 });
});

test("a camera is opened anew only where another network wants other frames", () => {
  const [one, other] = [new Feeding("scaled", artifact(256, 256)), new Feeding("not said", artifact(128, 64))];
  assert.ok(one.wantsSame(other));
  assert.ok(!one.wantsSame(new Feeding(EXACT, artifact(256, 256))), "its frames must not be scaled");
});

test("the smallest artifact comes first, in the variant that suits the processor", () => {
  const all = [artifact(512, 512, "mixed"), artifact(256, 256), artifact(256, 256, "float16"), artifact(256, 256, "mixed")];
  assert.equal(bestFor("wasm", all), all[3]);
  assert.equal(bestFor("webgpu", all), all[2]);
  assert.equal(bestFor("wasm", []), undefined);
});
