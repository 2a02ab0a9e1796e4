import type { Size } from "../core/size.ts";
import type { FrameImage } from "./renderer.ts";

/** Where frames come from. */
export interface Source {
  /** Frames follow each other; a photo stays. */
  readonly moves: boolean;
  /** A camera that looks at its user is shown as a mirror. */
  readonly mirrored: boolean;
  close(): void;
}

export type OnFrame = (image: FrameImage, size: Size) => void;

/** Opens the camera with frames of about this size. Throws what getUserMedia throws. */
export async function openCamera(
  wanted: Size,
  unscaled: boolean,
  deviceId: string | null,
  onFrame: OnFrame,
  onEnd: () => void,
): Promise<Source> {
  const constraints: MediaTrackConstraints & { resizeMode?: string } = {
    width: { ideal: wanted.width },
    height: { ideal: wanted.height },
    ...(deviceId === null ? {} : { deviceId: { exact: deviceId } }),
    ...(unscaled ? { resizeMode: "none" } : {}), // else the browser may scale frames to the size that was asked for
  };
  const stream = await navigator.mediaDevices.getUserMedia({ video: constraints, audio: false });
  const track = stream.getVideoTracks()[0]!;
  const video = document.createElement("video");
  video.srcObject = stream;
  const stop = await play(video, onFrame);
  track.addEventListener("ended", onEnd);
  return {
    moves: true,
    mirrored: track.getSettings().facingMode !== "environment",
    close: () => {
      track.removeEventListener("ended", onEnd);
      stop();
      track.stop();
    },
  };
}

/** Whether the browser can show a file: a photo, or the first frame of a clip. */
export async function isReadable(file: Blob, isClip: boolean): Promise<boolean> {
  if (!isClip) {
    const image = await createImageBitmap(file).catch(() => null);
    image?.close();
    return image !== null;
  }
  const address = URL.createObjectURL(file);
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  const answer = new Promise<boolean>((tell) => {
    video.addEventListener("loadeddata", () => tell(video.videoWidth > 0));
    video.addEventListener("error", () => tell(false));
  });
  video.src = address;
  const readable = await answer;
  video.removeAttribute("src");
  video.load();
  URL.revokeObjectURL(address);
  return readable;
}

/** Plays a clip over and over, without sound. Throws where the browser cannot play it. */
export async function openClip(file: Blob, onFrame: OnFrame): Promise<Source> {
  const address = URL.createObjectURL(file);
  const video = document.createElement("video");
  video.loop = true;
  video.src = address;
  const close = (stop: () => void): void => {
    stop();
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(address);
  };
  try {
    const stop = await play(video, onFrame);
    return { moves: true, mirrored: false, close: () => close(stop) };
  } catch (error) {
    close(() => {});
    throw error;
  }
}

/** One photo, upright. Throws where the browser cannot decode it. */
export async function openPhoto(file: Blob, onFrame: OnFrame): Promise<Source> {
  const image = await createImageBitmap(file, { imageOrientation: "from-image" });
  onFrame(image, { width: image.width, height: image.height });
  return { moves: false, mirrored: false, close: () => image.close() };
}

/** Calls back with every frame that the video shows; what is returned ends that. */
async function play(video: HTMLVideoElement, onFrame: OnFrame): Promise<() => void> {
  video.muted = true;
  video.playsInline = true;
  await video.play();
  let ended = false;
  const frame = (): void => {
    if (ended) return;
    onFrame(video, { width: video.videoWidth, height: video.videoHeight });
    video.requestVideoFrameCallback(frame);
  };
  video.requestVideoFrameCallback(frame);
  return () => {
    ended = true;
    video.pause();
    video.srcObject = null;
  };
}
