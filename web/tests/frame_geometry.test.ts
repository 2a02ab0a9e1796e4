import assert from "node:assert/strict";
import { test } from "node:test";
import type { Affine } from "../src/core/affine.ts";
import { geometryOf, sizeOf } from "./camera_frame.ts";
import { type GeometryCase, vectors } from "./vectors.ts";

const { cases } = vectors<{ cases: GeometryCase[] }>("geometry.json");

function assertMatrix(expected: number[], got: Affine, name: string): void {
  got.columns().forEach((value, index) => {
    assert.ok(Math.abs(value - expected[index]!) < 1e-6, `${name}: ${got.columns()}, expected ${expected}`);
  });
}

test("matrices are those of the vectors", () => {
  assert.equal(cases.length, 160);
  for (const vector of cases) {
    const geometry = geometryOf(vector);
    const name = JSON.stringify(vector).slice(0, 200);
    assertMatrix(vector.sensor_from_artifact, geometry.sensorFromArtifact, `sensor_from_artifact of ${name}`);
    assertMatrix(vector.sensor_from_view, geometry.sensorFromView, `sensor_from_view of ${name}`);
    assertMatrix(vector.artifact_from_view, geometry.artifactFromView, `artifact_from_view of ${name}`);
  }
});

test("pixels of the view come from those of the vectors", () => {
  for (const vector of cases) {
    const geometry = geometryOf(vector);
    const view = sizeOf(vector.view);
    for (const pixel of vector.pixels) {
      const [x, y] = [pixel.view[0] / view.width, pixel.view[1] / view.height];
      for (const [frame, map] of [
        ["artifact", geometry.artifactFromView],
        ["sensor", geometry.sensorFromView],
      ] as const) {
        const size = sizeOf(vector[frame]);
        const [across, down] = map.map(x, y);
        assert.ok(Math.abs(across * size.width - pixel[frame][0]) < 1e-4, JSON.stringify(pixel));
        assert.ok(Math.abs(down * size.height - pixel[frame][1]) < 1e-4, JSON.stringify(pixel));
      }
    }
  }
});
