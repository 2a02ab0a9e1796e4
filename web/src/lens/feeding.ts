import type { Rotation } from "../core/affine.ts";
import type { Artifact, CameraFrame } from "../core/contract.ts";
import { FrameGeometry, type Scale } from "../core/frame_geometry.ts";
import type { Size } from "../core/size.ts";

/** How frames come: size as the browser delivers them, and how they are to be shown. */
export interface FrameFormat {
  readonly size: Size;
  readonly rotation: Rotation;
  readonly mirrored: boolean;
}

/** How frames suit a network: as it was trained; scaled, because there are none of its size; the bundle does not say. */
export type Fit = "as trained" | "scaled" | "not said";

/** Every camera has it. */
const USUAL: Size = { width: 1280, height: 720 };

/**
 * How frames are brought to an artifact, by what its model.json says.
 *
 * What an under-display camera adds, ghosts and halos, is a fixed number of pixels of the frame that the network was
 * trained for: such a network gets the middle of that frame, unscaled, as it comes. Other networks may get the whole
 * frame scaled; upright where the artifact is square, else as it comes, of which it cuts off least.
 */
export class Feeding {
  readonly exact: Size | null;
  /** Size of the frames to ask the camera for. */
  readonly wanted: Size;
  private readonly size: Size;
  private readonly upright: boolean;

  constructor(
    private readonly camera: CameraFrame,
    artifact: Artifact,
  ) {
    this.size = { width: artifact.width, height: artifact.height };
    this.exact = typeof camera === "string" ? null : camera;
    this.upright = this.exact === null && artifact.width === artifact.height;
    this.wanted = this.exact ?? (holds(USUAL, this.size) ? USUAL : this.size);
  }

  /** `scale`: "crop" for what moves; a photo "fit"s, so that all of it is seen. */
  geometry(format: FrameFormat, view: Size, scale: Scale): FrameGeometry {
    return new FrameGeometry({
      sensor: this.exact === null ? format.size : this.size,
      rotation: format.rotation,
      mirrored: format.mirrored,
      artifact: this.size,
      upright: this.upright,
      artifactScale: scale,
      view,
      viewScale: "fit",
    });
  }

  /** The part of a frame that the geometry is about, from 0 to 1 about the frame's middle. */
  get part(): { across: number; down: number } {
    if (this.exact === null) return { across: 1, down: 1 };
    const [across, down] = [this.size.width / this.exact.width, this.size.height / this.exact.height];
    const most = Math.max(1, across, down);
    return { across: across / most, down: down / most };
  }

  /** Whether a camera that was opened for the other suits this one. */
  wantsSame(other: Feeding): boolean {
    const sameSize = this.wanted.width === other.wanted.width && this.wanted.height === other.wanted.height;
    return sameSize && (this.exact === null) === (other.exact === null);
  }

  fit(size: Size): Fit {
    if (this.camera === "not said") return "not said";
    const { exact } = this;
    if (exact === null) return "as trained";
    const same = size.width === exact.width && size.height === exact.height;
    return same && holds(exact, this.size) ? "as trained" : "scaled";
  }
}

function holds(outer: Size, inner: Size): boolean {
  return inner.width <= outer.width && inner.height <= outer.height;
}
