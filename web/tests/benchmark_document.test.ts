import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Checked,
  type Device,
  documentOf,
  liveOf,
  minutesOf,
  resultOf,
  type Runtime,
  type TimedFile,
  timingOf,
} from "../src/core/benchmark_document.ts";
import { vectors } from "./vectors.ts";

interface Run {
  created: string;
  device: Device;
  thermal_state: string[];
  low_power_mode: boolean;
  power_source: string;
  input: string;
  results: {
    id: string;
    runtime: Runtime;
    artifact: TimedFile;
    warmup: number;
    times_ms: number[];
    init_ms: number;
    peak_rss_bytes: number;
    max_error: number;
    self_test: Checked | null;
    live: null | {
      seconds: number;
      finished_ms: number[];
      dropped: number;
      input_ms: number[];
      model_ms: number[];
      output_ms: number[];
      draw_ms: number[];
    };
    sustained: null | {
      at_ms: number[];
      times_ms: number[];
      thermal_state: string[];
      battery_percent: number[];
    };
  }[];
}

/** The same keys and values; numbers up to rounding. */
function assertSame(expected: unknown, got: unknown, path: string): void {
  if (typeof expected === "number") {
    assert.ok(typeof got === "number" && Math.abs(expected - got) < 1e-8, `${path}: ${got}, expected ${expected}`);
  } else if (typeof expected !== "object" || expected === null) {
    assert.equal(got, expected, path);
  } else {
    assert.ok(typeof got === "object" && got !== null, path);
    assert.deepEqual(Object.keys(got).toSorted(), Object.keys(expected).toSorted(), path);
    for (const [key, value] of Object.entries(expected)) {
      assertSame(value, (got as Record<string, unknown>)[key], `${path}.${key}`);
    }
  }
}

test("the document is that of the vectors", () => {
  const { run, document } = vectors<{ run: Run; document: unknown }>("bench_expected.json");
  const { created, device, input, low_power_mode, power_source, thermal_state } = run;
  const got = documentOf({
    provenance: "measured-device",
    created,
    device,
    conditions: { thermal_state, low_power_mode, power_source, interleaved: false },
    input,
    results: run.results.map((one) =>
      resultOf({
        id: one.id,
        runtime: one.runtime,
        artifact: one.artifact,
        timing: timingOf(one.times_ms, one.warmup, one.init_ms, one.peak_rss_bytes),
        max_error: one.max_error,
        self_test: one.self_test,
        live:
          one.live &&
          liveOf(one.live.seconds, one.live.finished_ms, one.live.dropped, {
            input: one.live.input_ms,
            model: one.live.model_ms,
            output: one.live.output_ms,
            draw: one.live.draw_ms,
          }),
        sustained:
          one.sustained &&
          minutesOf(
            one.sustained.at_ms,
            one.sustained.times_ms,
            one.sustained.thermal_state.map((state, minute) => [state, one.sustained!.battery_percent[minute]!]),
          ),
      }),
    ),
  });
  assertSame(document, JSON.parse(JSON.stringify(got)), "document");
});
