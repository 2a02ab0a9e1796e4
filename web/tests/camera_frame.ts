/** How a vector describes a camera's frame; apart from the files of vectors.ts, so that a page can use it, too. */
import type { Rotation } from "../src/core/affine.ts";
import { FrameGeometry, type Scale } from "../src/core/frame_geometry.ts";
import type { Size } from "../src/core/size.ts";

export interface CameraFrame {
  sensor: [number, number];
  rotation: Rotation;
  mirrored: boolean;
  artifact: [number, number];
  artifact_sees: "upright" | "sensor";
  artifact_scale: Scale;
  view: [number, number];
  view_scale: Scale;
}

export function geometryOf(frame: CameraFrame): FrameGeometry {
  return new FrameGeometry({
    sensor: sizeOf(frame.sensor),
    rotation: frame.rotation,
    mirrored: frame.mirrored,
    artifact: sizeOf(frame.artifact),
    upright: frame.artifact_sees === "upright",
    artifactScale: frame.artifact_scale,
    view: sizeOf(frame.view),
    viewScale: frame.view_scale,
  });
}

export const sizeOf = ([width, height]: [number, number]): Size => ({ width, height });
