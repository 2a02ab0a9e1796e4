/** The vectors that Python wrote (docs/vectors.md); tests are started in web/. */
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { BundleFiles } from "../src/core/bundle_check.ts";
import type { Rotation } from "../src/core/affine.ts";
import { FrameGeometry, type Scale } from "../src/core/frame_geometry.ts";
import type { Size } from "../src/core/size.ts";

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
export interface GeometryCase {
  sensor: [number, number];
  rotation: Rotation;
  mirrored: boolean;
  artifact: [number, number];
  artifact_sees: "upright" | "sensor";
  artifact_scale: Scale;
  view: [number, number];
  view_scale: Scale;
  sensor_from_artifact: number[];
  sensor_from_view: number[];
  artifact_from_view: number[];
  pixels: { view: [number, number]; artifact: [number, number]; sensor: [number, number] }[];
}

export function geometryOf(vector: GeometryCase): FrameGeometry {
  return new FrameGeometry({
    sensor: sizeOf(vector.sensor),
    rotation: vector.rotation,
    mirrored: vector.mirrored,
    artifact: sizeOf(vector.artifact),
    upright: vector.artifact_sees === "upright",
    artifactScale: vector.artifact_scale,
    view: sizeOf(vector.view),
    viewScale: vector.view_scale,
  });
}

export const sizeOf = ([width, height]: [number, number]): Size => ({ width, height });
