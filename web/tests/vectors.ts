/** The vectors that Python wrote (docs/vectors.md); tests are started in web/. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { BundleFiles } from "../src/core/bundle_check.ts";
import type { CameraFrame } from "./camera_frame.ts";

export const FOLDER = resolve("..", "tests", "vectors");

export function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(join(FOLDER, name), "utf-8")) as T;
}

export function folderFiles(folder: string): BundleFiles {
  return {
    read: (name) => readFile(join(folder, name)).then((bytes) => new Uint8Array(bytes), () => null),
  };
}

/** One of geometry.json. */
export interface GeometryCase extends CameraFrame {
  sensor_from_artifact: number[];
  sensor_from_view: number[];
  artifact_from_view: number[];
  pixels: { view: [number, number]; artifact: [number, number]; sensor: [number, number] }[];
}
