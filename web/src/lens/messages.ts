/** What the page and the worker with the model say to each other. */

export type Processor = "wasm" | "webgpu";

/** Of one input: a picture in 8 bits, RGBA, that becomes RGB from `low` to `high`, or the values themselves. */
export type InputData =
  | { readonly rgba: Uint8ClampedArray<ArrayBuffer>; readonly low: number; readonly high: number }
  | { readonly values: Float32Array<ArrayBuffer> };

export interface NamedInput {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: InputData;
}

export type Request =
  | {
      readonly kind: "open";
      readonly runtime: string; // address of the folder with the runtime's files
      readonly model: Uint8Array<ArrayBuffer>;
      readonly processor: Processor;
      readonly threads: number;
    }
  | { readonly kind: "run"; readonly inputs: readonly NamedInput[] };

export type Reply =
  | { readonly kind: "opened"; readonly accelerator: Accelerator }
  | {
      readonly kind: "ran";
      readonly outputs: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
      readonly inputs: readonly NamedInput[]; // handed back
      readonly unpackTime: number; // ms
      readonly modelTime: number;
    }
  | { readonly kind: "failed"; readonly message: string };

/** What the model runs on. */
export interface Accelerator {
  readonly processor: Processor;
  /** For people: "CPU (wasm, 2 threads)", "GPU (WebGPU, nvidia)". */
  readonly name: string;
  readonly threads: number | null;
  /** A processor that plays a GPU. */
  readonly emulated: boolean;
}
