import { Fault, lineOf } from "../core/fault.ts";

const INSTEAD = "Photos and clips can be dropped here all the same.";

/** What a browser threw when it was asked for the camera, as one sentence and what can be done. */
export function cameraTrouble(error: unknown): string {
  switch (error instanceof Error ? error.name : "") {
    case "NotAllowedError":
      return `The camera is not allowed. Allow it beside the page's address. ${INSTEAD}`;
    case "NotFoundError":
      return `This computer has no camera. ${INSTEAD}`;
    case "NotReadableError":
      return `Another program uses the camera. Close it and try again. ${INSTEAD}`;
    case "OverconstrainedError":
      return `This camera cannot be opened. Choose another one. ${INSTEAD}`;
    default:
      return `The camera stopped working (${lineOf(error)}). ${INSTEAD}`;
  }
}

export const CAMERA_ENDED = `The camera was switched off or unplugged. ${INSTEAD}`;

/** Why nothing works at this address or in this browser; null where all is well. */
export function pageTrouble(): string | null {
  if (!isSecureContext) {
    return (
      "Browsers give the camera, WebGPU and threads only to pages over https or at http://localhost. " +
      "Open this page on the computer that `afterlens live` runs on."
    );
  }
  if (!("requestVideoFrameCallback" in HTMLVideoElement.prototype)) {
    return "This browser is too old for live pictures. Use Chrome, Edge, Safari or Firefox of this or the last year.";
  }
  return null;
}

/** What the graphics of this browser lack. */
export function canvasTrouble(error: unknown): string {
  return error instanceof Fault
    ? `Pictures cannot be drawn here: ${error.message}. Switch on hardware acceleration in the browser's settings.`
    : lineOf(error);
}

export const NO_WEBGPU = "This browser has no WebGPU here, so networks run on the CPU.";

export const gpuRefused = (error: unknown): string => `The GPU refused: ${lineOf(error)}. The CPU does it.`;

export const FIT_NOTES = {
  "as trained": "",
  scaled: "These frames do not have the size that the network was trained for, so they are scaled.",
  "not said":
    "This network's model.json is older and does not say how it wants a camera's frames, so they are scaled. Convert it again.",
} as const;

export const UNREADABLE = "This file is no photo or clip that the browser can show.";

export const NOT_LIVE = "This network is no filter for pictures: only its self-test can run here.";
