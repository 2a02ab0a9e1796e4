import type { BundleCheck } from "../core/bundle_check.ts";
import type { GoldenFile, TensorSpec } from "../core/contract.ts";
import { Fault } from "../core/fault.ts";
import { goldenPicture, goldenValues, type Picture } from "../core/picture.ts";
import { type SelfTest, selfTestOf } from "../core/self_test.ts";
import type { NamedInput } from "./messages.ts";
import type { Model, Ran } from "./model.ts";

/** Decodes a PNG as it is: no colour management, no premultiplied alpha. */
export async function decodePng(bytes: Uint8Array<ArrayBuffer>): Promise<Picture> {
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }), {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  }).catch(() => {
    throw new Fault("a golden picture is no PNG");
  });
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  canvas.drawImage(image, 0, 0);
  image.close();
  return { width, height, rgba: canvas.getImageData(0, 0, width, height).data };
}

/** A bundle's golden file of a tensor, the exact one if there are two. */
function find(bundle: BundleCheck, role: GoldenFile["role"], spec: TensorSpec): GoldenFile | undefined {
  const [whole, single] = [`${spec.shape}`, `${spec.shape.slice(1)}`];
  return bundle.contract.golden
    .filter((file) => file.role === role && file.tensor === spec.name && [whole, single].includes(`${file.shape}`))
    .sort((a, b) => Number(b.encoding === "float32") - Number(a.encoding === "float32"))[0];
}

/** The golden inputs of a model. Throws a Fault where the bundle has none. */
export async function goldenInputs(bundle: BundleCheck, { artifact }: Model): Promise<NamedInput[]> {
  const inputs: NamedInput[] = [];
  for (const spec of artifact.inputs) {
    const file = find(bundle, "input", spec);
    if (file === undefined) throw new Fault(`${artifact.file}: no golden input ${spec.name}`);
    const values = await goldenValues(file, await bundle.read(file), decodePng);
    inputs.push({ name: spec.name, shape: spec.shape, data: { values } });
  }
  return inputs;
}

/** The first golden input as a picture. */
export async function goldenFrame(bundle: BundleCheck, { artifact }: Model): Promise<Picture> {
  const file = find(bundle, "input", artifact.inputs[0]!);
  if (file === undefined) throw new Fault(`${artifact.file}: no golden input ${artifact.inputs[0]!.name}`);
  return goldenPicture(file, await bundle.read(file), decodePng);
}

export interface Verdict {
  /** Of the output furthest from its golden one; null where model.json sets no floor. */
  readonly test: SelfTest | null;
  /** Largest error of the first output, in parts of its range; null where its golden file is no float32. */
  readonly maxError: number | null;
}

/** Compare what a model made of the golden inputs with the golden outputs. */
export async function verdictOf(bundle: BundleCheck, { artifact }: Model, ran: Ran): Promise<Verdict> {
  let test: SelfTest | null = null;
  let maxError: number | null = null;
  for (const spec of artifact.outputs) {
    const file = find(bundle, "output", spec);
    if (file === undefined) continue;
    const golden = await goldenValues(file, await bundle.read(file), decodePng);
    const got = ran.outputs.get(spec.name);
    if (got === undefined) throw new Fault(`${artifact.file}: has no output ${spec.name}`);
    if (artifact.selfTestFloor !== null) {
      const found = selfTestOf(spec, got, golden, artifact.selfTestFloor);
      if (test === null || found.psnr < test.psnr || !found.passed) test = found;
    }
    if (spec === artifact.outputs[0] && file.encoding === "float32") {
      const largest = got.reduce((most, value, index) => Math.max(most, Math.abs(value - golden[index]!)), 0);
      maxError = largest / (spec.high - spec.low);
    }
  }
  return { test, maxError };
}
