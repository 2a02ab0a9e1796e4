import type { Artifact } from "./contract.ts";
import { frameRate, minuteMedians, summaryOf } from "./statistics.ts";

/** What a page or an app measured, as benchmarks/schema.json has it, so that `afterlens compare` and `report` read it. */
export interface BenchmarkDocument {
  readonly schema_version: 2;
  readonly provenance: "measured-device" | "measured-emulator";
  readonly created: string; // start of the run, ISO 8601, UTC
  readonly device: Device;
  readonly conditions: Conditions;
  readonly input: string;
  readonly machine: null; // the host's yardstick
  readonly results: readonly Result[];
  readonly ratios: readonly [];
}

export interface Device {
  readonly name: string;
  readonly os: string;
  readonly soc: string | null;
  readonly cpu: string | null;
  readonly cores: number;
  readonly memory_bytes: number | null;
}

/** What the page cannot know is left out or null. */
export interface Conditions {
  readonly interleaved: boolean;
  readonly thermal_state: readonly string[] | null;
  readonly low_power_mode?: boolean;
  readonly power_source: string | null;
}

export interface Runtime {
  readonly name: "tflite";
  readonly version: string;
  readonly threads: number | null;
  readonly compute_unit: "cpu" | "gpu"; // what was asked for
  readonly delegate: string | null; // what ran
}

export interface TimedFile {
  readonly task: string;
  readonly variant: string;
  readonly width: number;
  readonly height: number;
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly parameters: number;
  readonly macs: number;
}

export interface Timing {
  readonly warmup: number;
  readonly runs: number;
  readonly p50_ms: number;
  readonly p90_ms: number;
  readonly p99_ms: number;
  readonly mean_ms: number;
  readonly min_ms: number;
  readonly init_ms: number | null;
  readonly first_ms: number | null;
  readonly peak_rss_bytes: number | null;
  readonly samples_ms: readonly number[];
}

/** How close the output of a golden input came to the golden output, and how close it had to come, in dB. */
export interface Checked {
  readonly psnr: number;
  readonly floor: number;
}

/** Two percentiles of times in ms. */
export interface Stage {
  readonly p50_ms: number;
  readonly p90_ms: number;
}

export type StageName = "input" | "model" | "output" | "draw";

/** The whole live path, and where the time of a frame goes. */
export interface Live {
  readonly seconds: number;
  readonly fps: number;
  readonly dropped: number;
  readonly stages: Readonly<Record<StageName, Stage>>;
}

/** One minute of a long run; the state is that of its end. */
export interface Minute {
  readonly p50_ms: number | null; // null where no run ended in it
  readonly thermal_state: string | null;
  readonly battery_percent: number | null;
}

export interface Result {
  readonly id: string;
  readonly runtime: Runtime;
  readonly artifact: TimedFile;
  readonly timing: Timing;
  readonly achieved_gflops: number;
  readonly share_of_matmul: null;
  readonly max_error: number | null;
  readonly self_test: Checked | null;
  readonly live: Live | null;
  readonly sustained: readonly Minute[] | null;
}

export function fileOf(task: string, artifact: Artifact): TimedFile {
  const { variant, width, height, file, sha256, bytes, parameters, macs } = artifact;
  return { task, variant, width, height, file, sha256, bytes, parameters, macs };
}

/** Of times in ms, the first `warmup` of them uncounted. */
export function timingOf(
  times: readonly number[],
  warmup: number,
  init: number | null,
  peakRssBytes: number | null,
): Timing {
  const found = summaryOf(times, warmup);
  return {
    warmup,
    runs: times.length - warmup,
    p50_ms: found.p50,
    p90_ms: found.p90,
    p99_ms: found.p99,
    mean_ms: found.mean,
    min_ms: found.least,
    init_ms: init,
    first_ms: times[0]!,
    peak_rss_bytes: peakRssBytes,
    samples_ms: times.slice(warmup),
  };
}

/** Of the moments at which results were finished, in ms, and the times of each stage. */
export function liveOf(
  seconds: number,
  finished: readonly number[],
  dropped: number,
  stages: Readonly<Record<StageName, readonly number[]>>,
): Live {
  const stageOf = (times: readonly number[]): Stage => {
    const { p50, p90 } = summaryOf(times);
    return { p50_ms: p50, p90_ms: p90 };
  };
  return {
    seconds,
    fps: frameRate(finished),
    dropped,
    stages: {
      input: stageOf(stages.input),
      model: stageOf(stages.model),
      output: stageOf(stages.output),
      draw: stageOf(stages.draw),
    },
  };
}

/** Of runs that began `at` so many ms and took `times`, with the thermal state and battery of each minute. */
export function minutesOf(
  at: readonly number[],
  times: readonly number[],
  states: readonly (readonly [string | null, number | null])[],
): Minute[] {
  const medians = minuteMedians(at, times);
  return states.map(([thermal_state, battery_percent], minute) => ({
    p50_ms: medians[minute] ?? null,
    thermal_state,
    battery_percent,
  }));
}

export function resultOf(
  measured: Omit<Result, "achieved_gflops" | "share_of_matmul">,
): Result {
  return {
    ...measured,
    achieved_gflops: (2 * measured.artifact.macs) / measured.timing.p50_ms / 1e6,
    share_of_matmul: null,
  };
}

export function documentOf(
  measured: Omit<BenchmarkDocument, "schema_version" | "machine" | "ratios">,
): BenchmarkDocument {
  return { schema_version: 2, ...measured, machine: null, ratios: [] };
}
