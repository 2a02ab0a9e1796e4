import { Affine, type Rotation } from "./affine.ts";
import type { Size } from "./size.ts";

/** How a picture is brought to another size, in proportion and centred: it fills the target, or all of it is inside. */
export type Scale = "crop" | "fit";

export interface Frames {
  /** Of the camera's frames. */
  readonly sensor: Size;
  /** What brings the sensor's picture upright. */
  readonly rotation: Rotation;
  /** Whether the view is flipped left to right, as users expect of a camera that looks at them. */
  readonly mirrored: boolean;
  /** Of the network's input. */
  readonly artifact: Size;
  /** Whether the artifact sees the upright picture, or the sensor's own orientation. */
  readonly upright: boolean;
  readonly artifactScale: Scale;
  readonly view: Size;
  readonly viewScale: Scale;
}

/** Where a camera's pixels go: from the sensor into the artifact, and back onto the screen (docs/vectors.md). */
export class FrameGeometry {
  /** For each point of the artifact's input, the point of the sensor's frame that it is taken from. */
  readonly sensorFromArtifact: Affine;
  /** For each point of the view, the point of the sensor's frame that is shown there. */
  readonly sensorFromView: Affine;
  /** For each point of the view, the point of the artifact's output that is shown there. */
  readonly artifactFromView: Affine;
  /** What both the artifact and the frame hold, upright, in pixels of the frame that need not be whole. */
  readonly shown: Size;

  constructor({ sensor, rotation, mirrored, artifact, upright, artifactScale, view, viewScale }: Frames) {
    const turnsAside = rotation % 180 !== 0;
    const uprightFrame = turned(sensor, turnsAside);
    const seen = upright ? uprightFrame : sensor;
    const unturned = Affine.unturned(rotation);
    const taken = placed(seen, artifact, artifactScale);
    this.sensorFromArtifact = upright ? unturned.after(taken) : taken;

    const factor = factorOf(seen, artifact, artifactScale);
    const common = {
      width: Math.min(seen.width, artifact.width / factor),
      height: Math.min(seen.height, artifact.height / factor),
    };
    const shown = turned(common, turnsAside && !upright);
    this.shown = shown;
    const inside = Affine.scaled(shown.width / uprightFrame.width, shown.height / uprightFrame.height);
    const mirror = Affine.scaled(mirrored ? -1 : 1, 1);
    this.sensorFromView = unturned.after(inside).after(mirror).after(placed(shown, view, viewScale));
    this.artifactFromView = this.sensorFromArtifact.inverse().after(this.sensorFromView);
  }
}

function turned(size: Size, aside: boolean): Size {
  return aside ? { width: size.height, height: size.width } : size;
}

/** Pixels of `outer` for each pixel of `inner`. */
function factorOf(inner: Size, outer: Size, scale: Scale): number {
  const [across, down] = [outer.width / inner.width, outer.height / inner.height];
  return scale === "crop" ? Math.max(across, down) : Math.min(across, down);
}

/** From `outer` into `inner`, which lies in its middle. */
function placed(inner: Size, outer: Size, scale: Scale): Affine {
  const factor = factorOf(inner, outer, scale);
  return Affine.scaled(outer.width / (factor * inner.width), outer.height / (factor * inner.height));
}
