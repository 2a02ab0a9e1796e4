import assert from "node:assert/strict";
import { test } from "node:test";
import { BenchmarkRun } from "../src/core/benchmark_run.ts";
import { Fault } from "../src/core/fault.ts";
import { LatestFrame } from "../src/core/latest_frame.ts";
import { frameRate, minuteMedians, type Summary, summaryOf } from "../src/core/statistics.ts";
import { vectors } from "./vectors.ts";

interface ExpectedSummary {
  p50_ms: number;
  p90_ms: number;
  p99_ms: number;
  mean_ms: number;
  min_ms: number;
}

const found = vectors<{
  summaries: (ExpectedSummary & { samples_ms: number[] })[];
  warm_up: { times_ms: number[]; warmup: number; summary: ExpectedSummary }[];
  live: {
    arrivals_ms: number[];
    durations_ms: number[];
    processed: number[];
    dropped: number;
    finished_ms: number[];
    fps: number;
  }[];
  minutes: { at_ms: number[]; times_ms: number[]; medians_ms: (number | null)[] }[];
}>("statistics.json");

function assertSummary(expected: ExpectedSummary, got: Summary): void {
  const pairs = [
    [expected.p50_ms, got.p50],
    [expected.p90_ms, got.p90],
    [expected.p99_ms, got.p99],
    [expected.mean_ms, got.mean],
    [expected.min_ms, got.least],
  ] as const;
  for (const [wanted, value] of pairs) assert.ok(Math.abs(wanted - value) < 1e-8, JSON.stringify(expected));
}

test("summaries are those of the vectors", () => {
  for (const entry of found.summaries) assertSummary(entry, summaryOf(entry.samples_ms));
});

test("warm-up runs are not counted", () => {
  for (const entry of found.warm_up) assertSummary(entry.summary, summaryOf(entry.times_ms, entry.warmup));
});

test("nothing but warm-up is a fault", () => {
  assert.throws(() => summaryOf([1, 2], 2), new Fault("got 2 times with 2 of them warm-up, expected more"));
});

test("medians by the minute are those of the vectors", () => {
  for (const entry of found.minutes) {
    assert.deepEqual(minuteMedians(entry.at_ms, entry.times_ms), entry.medians_ms);
  }
});

test("frames are processed and dropped as in the vectors", () => {
  for (const entry of found.live) {
    const frames = new LatestFrame<number>();
    const processed: number[] = [];
    const finished: number[] = [];
    let freeAt = -Infinity;
    const start = (at: number): boolean => {
      const frame = frames.poll();
      if (frame === undefined) return false;
      processed.push(frame);
      freeAt = at + entry.durations_ms[(processed.length - 1) % entry.durations_ms.length]!;
      finished.push(freeAt);
      return true;
    };
    entry.arrivals_ms.forEach((at, frame) => {
      while (freeAt <= at && start(freeAt));
      frames.offer(frame);
      if (freeAt <= at) start(at);
    });
    start(freeAt);
    assert.deepEqual(processed, entry.processed);
    assert.equal(frames.dropped, entry.dropped);
    entry.finished_ms.forEach((at, run) => assert.ok(Math.abs(at - finished[run]!) < 1e-6));
    assert.ok(Math.abs(entry.fps - frameRate(finished)) < 1e-8);
  }
});

test("every run is timed, the warm-up first", async () => {
  let now = 0;
  let runs = 0;
  const done: number[] = [];
  const times = await new BenchmarkRun(2, 3, () => now).times(
    async () => {
      now += ++runs;
    },
    (count) => {
      done.push(count);
      now += 1000;
    },
  );
  assert.deepEqual(times, [1, 2, 3, 4, 5]);
  assert.deepEqual(done, [1, 2, 3, 4, 5]);
});

test("no runs is a fault", () => {
  assert.throws(
    () => new BenchmarkRun(0, 0),
    new Fault("got 0 warm-ups and 0 runs, expected at least 0 and 1"),
  );
});
