import {
  type BenchmarkDocument,
  type Device,
  documentOf,
  fileOf,
  type Live,
  liveOf,
  resultOf,
  timingOf,
} from "../core/benchmark_document.ts";
import { BenchmarkRun } from "../core/benchmark_run.ts";
import type { BundleCheck } from "../core/bundle_check.ts";
import type { Artifact } from "../core/contract.ts";
import { Fault } from "../core/fault.ts";
import type { Picture } from "../core/picture.ts";
import { isLive } from "./choice.ts";
import { Feeding } from "./feeding.ts";
import { goldenFrame, goldenInputs, verdictOf } from "./golden.ts";
import { LiveView } from "./live_view.ts";
import type { Processor } from "./messages.ts";
import { Model, type Ran } from "./model.ts";
import type { Renderer } from "./renderer.ts";

export interface BenchmarkRequest {
  readonly bundle: BundleCheck;
  readonly artifact: Artifact;
  readonly processor: Processor;
  readonly warmup: number;
  readonly runs: number;
  readonly liveSeconds: number;
}

const FRAME_RATE = 30; // a second, as cameras have it

/**
 * Times one artifact in this browser, by the page's own parts: the golden input must come out right first, then single
 * runs, then the live path with the golden input in the place of a camera. Nothing falls back.
 *
 * @param progress told what begins, never while something is timed.
 */
export async function benchmark(
  request: BenchmarkRequest,
  device: Device,
  renderer: Renderer,
  progress: (line: string) => void,
): Promise<BenchmarkDocument> {
  const { bundle, artifact, processor, warmup, runs, liveSeconds } = request;
  const created = `${new Date().toISOString().slice(0, 19)}+00:00`;
  progress(`loading ${artifact.file}`);
  const begin = performance.now();
  const model = await Model.open(bundle, artifact, processor);
  try {
    const init = performance.now() - begin;
    progress("self-test");
    let inputs = await goldenInputs(bundle, model);
    const run = async (): Promise<Ran> => {
      const ran = await model.run(inputs);
      inputs = [...ran.inputs];
      return ran;
    };
    const first = performance.now();
    const ran = await run();
    const times = [performance.now() - first];
    const { test, maxError } = await verdictOf(bundle, model, ran);
    if (test !== null && !test.passed) {
      throw new Fault(`${artifact.file} fails its self-test and is not timed: ${test.line}`);
    }
    progress(`${runs} runs after ${warmup} warm-ups`);
    times.push(...(await new BenchmarkRun(warmup, runs).times(run)));
    const frame = isLive(artifact) ? await goldenFrame(bundle, model) : null;
    if (frame !== null) progress(`live for ${liveSeconds} seconds`);
    const live = frame === null ? null : await liveRun(model, frame, renderer, liveSeconds);
    const unit = processor === "webgpu" ? "gpu" : "cpu";
    return documentOf({
      provenance: model.accelerator.emulated ? "measured-emulator" : "measured-device",
      created,
      device,
      conditions: { thermal_state: null, power_source: null, interleaved: false },
      input:
        `the bundle's golden input (${inputs.map(({ name }) => name).join(", ")}); ` +
        `live: it comes ${FRAME_RATE} times a second in the place of a camera`,
      results: [
        resultOf({
          id: `LiteRT.js ${artifact.variant} ${artifact.width}x${artifact.height} ${unit}`,
          runtime: {
            name: "tflite",
            version: LITERT_VERSION,
            threads: model.accelerator.threads,
            compute_unit: unit,
            delegate: model.accelerator.name,
          },
          artifact: fileOf(bundle.contract.task, artifact),
          timing: timingOf(times, warmup + 1, init, null),
          max_error: maxError,
          self_test: test && { psnr: test.psnr, floor: test.floor },
          live,
          sustained: null,
        }),
      ],
    });
  } finally {
    model.close();
  }
}

/** Set by vite.config.ts from what is installed. */
declare const LITERT_VERSION: string;

/** A picture in the place of a camera. */
async function liveRun(
  model: Model,
  picture: Picture,
  renderer: Renderer,
  seconds: number,
): Promise<Live> {
  const image = new ImageData(picture.rgba, picture.width, picture.height);
  const stages = { input: [] as number[], model: [] as number[], output: [] as number[], draw: [] as number[] };
  const finished: number[] = [];
  let [begin, dropped, counts] = [0, 0, false];
  let failure: unknown = null;
  const onResult = (): void => {
    if (!counts) return;
    const report = view.report!;
    finished.push(performance.now() - begin);
    for (const stage of ["input", "model", "output"] as const) stages[stage].push(report.stages[stage]);
    view.drawNow(true);
    stages.draw.push(view.report!.draw);
  };
  const view = new LiveView(renderer, () => {}, onResult, (error) => (failure = error));
  view.expect(new Feeding("scaled", model.artifact));
  view.load(model);
  view.begin(true, false);
  view.divider = 0;
  try {
    let next = performance.now();
    const now = (): number => performance.now() - begin;
    while (!counts || now() < seconds * 1000 || finished.length < 2) {
      if (failure !== null) throw failure;
      view.takeFrame(image, picture);
      if (!counts && view.report !== null) {
        // The first result compiled shaders and touched memory.
        [begin, dropped, counts] = [performance.now(), view.report.dropped, true];
      }
      // A camera does not make up for frames that nobody took.
      next = Math.max(next, performance.now() - 1000 / FRAME_RATE) + 1000 / FRAME_RATE;
      await new Promise((resolve) => setTimeout(resolve, next - performance.now()));
    }
    return liveOf(now() / 1000, finished, view.report!.dropped - dropped, stages);
  } finally {
    view.expect(null);
  }
}

/** What a page may know of what it runs on. */
export function deviceOf(): Device {
  const { userAgent, hardwareConcurrency } = navigator;
  const browser = /(Firefox|Edg|OPR|Chrome|Version)\/([\d.]+)/.exec(userAgent);
  const system = /\(([^)]*)\)/.exec(userAgent)?.[1] ?? "unknown system";
  const name = browser === null ? "browser" : browser[1] === "Version" ? "Safari" : browser[1];
  return {
    name: `${name} on ${system}`,
    os: `${system}; ${name} ${browser?.[2] ?? ""}`.trim(),
    soc: null,
    cpu: null,
    cores: hardwareConcurrency,
    memory_bytes: null,
  };
}
