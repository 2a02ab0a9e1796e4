import type { Artifact } from "../core/contract.ts";
import type { BundleCheck } from "../core/bundle_check.ts";
import { Fault } from "../core/fault.ts";
import type { Accelerator, NamedInput, Processor, Reply, Request } from "./messages.ts";

export interface Ran {
  readonly outputs: ReadonlyMap<string, Float32Array<ArrayBuffer>>;
  /** Handed back, to be filled again. */
  readonly inputs: readonly NamedInput[];
  readonly unpackTime: number; // ms
  readonly modelTime: number;
}

/** An artifact that is ready to run, in a worker of its own. One run at a time. */
export class Model {
  private constructor(
    private readonly worker: Worker,
    readonly artifact: Artifact,
    readonly accelerator: Accelerator,
  ) {}

  /** Reads, checks and compiles. Throws a Fault where the file is damaged, or the processor refuses it. */
  static async open(bundle: BundleCheck, artifact: Artifact, processor: Processor): Promise<Model> {
    if ([...artifact.inputs, ...artifact.outputs].some(({ dtype }) => dtype !== "float32")) {
      throw new Fault(`${artifact.file}: expected float32 in and out`);
    }
    const bytes = await bundle.read(artifact);
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "classic" });
    try {
      const runtime = new URL("litert/", document.baseURI).href;
      const threads = Math.min(MOST_THREADS, navigator.hardwareConcurrency);
      const request: Request = { kind: "open", runtime, model: bytes, processor, threads };
      const reply = await ask(worker, request, [bytes.buffer]);
      if (reply.kind !== "opened") throw new Fault(`the worker answered ${reply.kind}`);
      return new Model(worker, artifact, reply.accelerator);
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  /** The inputs' memory goes to the worker and comes back with the outputs. */
  async run(inputs: readonly NamedInput[]): Promise<Ran> {
    const buffers = inputs.map(({ data }) => ("rgba" in data ? data.rgba.buffer : data.values.buffer));
    const reply = await ask(this.worker, { kind: "run", inputs }, [...new Set(buffers)]);
    if (reply.kind !== "ran") throw new Fault(`the worker answered ${reply.kind}`);
    return reply;
  }

  /** At once; a run that goes on is given up and never answers. */
  close(): void {
    this.worker.terminate();
  }
}

/** More do not help networks this small, and take the page's own core. */
const MOST_THREADS = 4;

function ask(worker: Worker, request: Request, transfer: Transferable[]): Promise<Reply> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => {
      if (data.kind === "failed") reject(new Fault(data.message));
      else resolve(data);
    };
    worker.onerror = (event) => reject(new Fault(event.message || "the worker could not be started"));
    worker.postMessage(request, transfer);
  });
}
