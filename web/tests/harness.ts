/** The renderer alone, for tests/web: draws the golden camera frames of tests/vectors/golden. */
import { decodePng } from "../src/lens/golden.ts";
import { Renderer } from "../src/lens/renderer.ts";
import { type CameraFrame, geometryOf, sizeOf } from "./camera_frame.ts";

const WHOLE = { across: 1, down: 1 };

/** RGBA of the artifact's input and of the view, from the top, in base64. */
async function drawn(frame: CameraFrame, sensor: string, divider: number, line: number): Promise<[string, string]> {
  const picture = await decodePng(Uint8Array.from(atob(sensor), (letter) => letter.charCodeAt(0)));
  const [artifact, view] = [sizeOf(frame.artifact), sizeOf(frame.view)];
  const geometry = geometryOf(frame);
  const canvas = Object.assign(document.createElement("canvas"), view);
  const renderer = new Renderer(canvas);
  renderer.take(new ImageData(picture.rgba, picture.width, picture.height));
  const input = new Uint8ClampedArray(artifact.width * artifact.height * 4);
  renderer.read(geometry, WHOLE, artifact, input);
  renderer.promote();
  // What a network made of it: inverted colours.
  const restored = new Float32Array((input.length / 4) * 3);
  restored.forEach((_, value) => {
    restored[value] = (255 - input[Math.floor(value / 3) * 4 + (value % 3)]!) / 255;
  });
  renderer.upload(restored, artifact);
  renderer.draw(geometry, WHOLE, { low: 0, high: 1 }, divider, line);
  const screen = new OffscreenCanvas(view.width, view.height).getContext("2d")!;
  screen.drawImage(canvas, 0, 0);
  const shown = screen.getImageData(0, 0, view.width, view.height).data;
  canvas.getContext("webgl2")!.getExtension("WEBGL_lose_context")!.loseContext();
  return [base64(input), base64(shown)];
}

function base64(bytes: Uint8ClampedArray): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

Object.assign(globalThis, { drawn });
