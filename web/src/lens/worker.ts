/**
 * The model, in a classic worker so that the page never waits for it. One model a worker: closing the worker frees all
 * memory of the runtime, on the GPU too.
 */
import { type CompiledModel, getWebGpuDevice, loadAndCompile, loadLiteRt, supportsFeature, Tensor } from "@litertjs/core";
import { SIGNATURE } from "../core/contract.ts";
import { Fault, lineOf } from "../core/fault.ts";
import { unpack } from "../core/picture.ts";
import type { Accelerator, NamedInput, Processor, Reply, Request } from "./messages.ts";

interface ModuleOptions {
  locateFile: (file: string) => string;
  mainScriptUrlOrBlob: string;
}

declare const self: {
  Module?: ModuleOptions;
  onmessage: (event: MessageEvent<Request>) => void;
  postMessage(message: Reply, transfer: Transferable[]): void;
};

let model: CompiledModel | undefined;
const unpacked = new Map<string, Float32Array<ArrayBuffer>>();

self.onmessage = ({ data }) => {
  const answer = data.kind === "open" ? open(data) : run(data.inputs);
  answer.catch((error: unknown) => self.postMessage({ kind: "failed", message: lineOf(error) }, []));
};

async function open({ runtime, model: bytes, processor, threads }: Request & { kind: "open" }): Promise<void> {
  const hasThreads = (await supportsFeature("relaxedSimd")) && (await supportsFeature("threads"));
  const script = `${runtime}litert_wasm_${hasThreads ? "threaded" : "compat"}_internal.js`;
  // In a worker, the runtime looks for its files beside the worker's script, and its threads would load that one.
  self.Module = { locateFile: (file) => runtime + file, mainScriptUrlOrBlob: script };
  await loadLiteRt(script);
  if (processor === "webgpu" && getWebGpuDevice() === null) {
    throw new Fault("this browser has no WebGPU adapter for it");
  }
  const numThreads = hasThreads ? threads : 1;
  model = await loadAndCompile(bytes, {
    accelerator: processor,
    // As in the proof; half floats would be faster on some GPUs.
    ...(processor === "webgpu" ? { gpuOptions: { precision: "fp32" } } : { cpuOptions: { numThreads } }),
  });
  if (processor === "webgpu" && !runsOnGpu(model)) {
    throw new Fault("WebGPU does not take all of its operators");
  }
  self.postMessage({ kind: "opened", accelerator: describe(processor, numThreads) }, []);
}

/** LiteRT takes the CPU in its place without a word but on the console. */
function runsOnGpu(compiled: CompiledModel): boolean {
  return compiled.isFullyAccelerated && compiled.options.accelerator === "webgpu";
}

function describe(processor: Processor, threads: number): Accelerator {
  if (processor === "wasm") {
    const counted = threads === 1 ? "1 thread" : `${threads} threads`;
    return { processor, name: `CPU (wasm, ${counted})`, threads, emulated: false };
  }
  const { vendor, architecture, isFallbackAdapter } = getWebGpuDevice()!.adapterInfo;
  const parts = ["WebGPU", vendor, architecture].filter((part) => part !== "");
  return { processor, name: `GPU (${parts.join(", ")})`, threads: null, emulated: isFallbackAdapter };
}

async function run(inputs: readonly NamedInput[]): Promise<void> {
  if (model === undefined) throw new Fault("no model is open");
  const begin = performance.now();
  const values = inputs.map(valuesOf);
  const unpackedAt = performance.now();
  const tensors: Record<string, Tensor> = {};
  const outputs = new Map<string, Float32Array<ArrayBuffer>>();
  try {
    inputs.forEach(({ name, shape }, index) => {
      tensors[name] = new Tensor(values[index]!, [...shape]);
    });
    const results = await model.run(SIGNATURE, tensors);
    for (const [name, tensor] of Object.entries(results)) {
      const found = await tensor.data();
      tensor.delete();
      if (!(found instanceof Float32Array)) throw new Fault(`${name}: expected float32`);
      outputs.set(name, found as Float32Array<ArrayBuffer>);
    }
  } finally {
    for (const tensor of Object.values(tensors)) tensor.delete();
  }
  const modelTime = performance.now() - unpackedAt;
  const handedBack = inputs.map(({ data }) => ("rgba" in data ? data.rgba.buffer : data.values.buffer));
  self.postMessage(
    { kind: "ran", outputs, inputs, unpackTime: unpackedAt - begin, modelTime },
    [...new Set([...[...outputs.values()].map(({ buffer }) => buffer), ...handedBack])],
  );
}

function valuesOf({ name, data }: NamedInput): Float32Array<ArrayBuffer> {
  if ("values" in data) return data.values;
  const into = unpacked.get(name) ?? new Float32Array((data.rgba.length / 4) * 3);
  unpacked.set(name, into);
  return unpack(data.rgba, data.low, data.high, into);
}
