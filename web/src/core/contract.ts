import type { Size } from "./size.ts";

/** All of a bundle's model.json (conversion/bundle/contract.schema.json). Apps hold no constants of their own. */
export interface Contract {
  readonly task: string;
  readonly title: string;
  readonly version: string;
  readonly artifacts: readonly Artifact[];
  readonly golden: readonly GoldenFile[];
  readonly proof: Proof | null;
  readonly camera: CameraFrame;
}

/**
 * Which of a camera's frames a network may get: any, scaled; the middle of one of an exact size, unscaled and in the
 * sensor's orientation, because what it removes has a fixed number of pixels; or the bundle is older than this question.
 */
export type CameraFrame = "scaled" | "not said" | Size;

/** A file that model.json names, with its digest. */
export interface BundleEntry {
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
}

/** One converted file of one fixed size. */
export interface Artifact extends BundleEntry {
  readonly format: "tflite" | "coreml";
  readonly variant: string;
  readonly width: number; // pixels
  readonly height: number;
  readonly minimumRuntime: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly parameters: number;
  readonly macs: number;
  readonly selfTestFloor: number | null; // dB that a device must reach on the golden inputs; null where none is given
}

/** One input or output, bound by its name in the signature SIGNATURE. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly layout: "NHWC" | "image" | "array"; // "array" for what is no picture, "image" in Core ML files
  readonly dtype: "float32" | "uint8";
  readonly low: number; // smallest and largest value
  readonly high: number;
  readonly colourSpace: string;
  readonly meaning: string;
  readonly kind: "image" | "vector" | "class";
}

/** A real input, or what PyTorch made of it in float32. */
export interface GoldenFile extends BundleEntry {
  readonly role: "input" | "output";
  readonly tensor: string;
  readonly encoding: "png" | "float32"; // 8-bit RGB, value / 255; little-endian, in C order
  readonly shape: readonly number[]; // of a picture: height, width, 3
}

/** What `afterlens verify` found, in short. */
export interface Proof {
  readonly passed: boolean;
  readonly images: number;
  readonly results: readonly ProofResult[];
}

/** The worst case of one artifact against PyTorch: largest error in units of [0, 1], and PSNR in dB. */
export interface ProofResult {
  readonly file: string;
  readonly passed: boolean;
  readonly maxError: number;
  readonly psnr: number;
}

/** The signature of every TFLite file. */
export const SIGNATURE = "serving_default";

/** The name of the contract in a bundle. */
export const CONTRACT_FILE = "model.json";
