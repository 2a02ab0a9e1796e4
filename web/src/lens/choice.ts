import type { Artifact, Contract } from "../core/contract.ts";
import type { Processor } from "./messages.ts";

/** The variants for a processor, the best first, as in the Android app: CPUs are fastest with 8-bit integers. */
const PREFERRED: Readonly<Record<Processor, readonly string[]>> = {
  webgpu: ["float16", "float32"],
  wasm: ["mixed", "full_integer_quant", "dynamic_range_quant", "float32", "float16"],
};

/** What a browser can run: of frames in and a picture out, live too. */
export function runnable(contract: Contract): Artifact[] {
  return contract.artifacts.filter(({ format }) => format === "tflite");
}

/** Whether a camera can feed it: with its frame, or with that and the one before it. Other pictures it does not have. */
export function isLive({ inputs, outputs }: Artifact): boolean {
  const [, second] = inputs;
  const fed = inputs.length === 1 || (inputs.length === 2 && second!.name === "previous");
  return fed && [...inputs, outputs[0]!].every(({ kind }) => kind === "image");
}

/** The artifact to begin with: the smallest, in the variant that suits the processor best. */
export function bestFor(processor: Processor, artifacts: readonly Artifact[]): Artifact | undefined {
  const rank = ({ variant }: Artifact): number => {
    const found = PREFERRED[processor].indexOf(variant);
    return found < 0 ? PREFERRED[processor].length : found;
  };
  const area = ({ width, height }: Artifact): number => width * height;
  return artifacts.toSorted((a, b) => area(a) - area(b) || rank(a) - rank(b))[0];
}
