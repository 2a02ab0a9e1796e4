/** The renderer alone, for tests/web: draws the golden camera frames of tests/vectors/golden. */
import { decodePng } from "../src/lens/golden.ts";
import { Renderer } from "../src/lens/renderer.ts";
import { type CameraFrame, geometryOf, sizeOf } from "./camera_frame.ts";

const WHOLE = { across: 1, down: 1 };

interface Shown {
  divider: number;
  line: number;
  amount?: number;
  range?: [number, number];
}

/** RGBA of the artifact's input and of the view, from the top, in base64. */
async function drawn(frame: CameraFrame, sensor: string, shown: Shown): Promise<[string, string]> {
  const picture = await decodePng(Uint8Array.from(atob(sensor), (letter) => letter.charCodeAt(0)));
  // What a network made of it: inverted colours.
  const inverted = (input: Uint8ClampedArray): Float32Array => {
    const restored = new Float32Array((input.length / 4) * 3);
    restored.forEach((_, value) => {
      restored[value] = (255 - input[Math.floor(value / 3) * 4 + (value % 3)]!) / 255;
    });
    return restored;
  };
  return screen(frame, new ImageData(picture.rgba, picture.width, picture.height), inverted, shown).map(base64) as [string, string];
}

/** The view of a plain frame of this level, and of a result of these values, over and over; in base64. */
function plain(frame: CameraFrame, level: number, values: (number | null)[], shown: Shown): string {
  const [width, height] = frame.sensor;
  const image = new ImageData(new Uint8ClampedArray(width * height * 4).fill(level), width, height);
  const restored = (input: Uint8ClampedArray): Float32Array =>
    Float32Array.from({ length: (input.length / 4) * 3 }, (_, at) => values[at % values.length] ?? NaN);
  return base64(screen(frame, image, restored, shown)[1]);
}

function screen(
  frame: CameraFrame,
  image: ImageData,
  network: (input: Uint8ClampedArray) => Float32Array,
  { divider, line, amount = 1, range = [0, 1] }: Shown,
): [Uint8ClampedArray, Uint8ClampedArray] {
  const [artifact, view] = [sizeOf(frame.artifact), sizeOf(frame.view)];
  const geometry = geometryOf(frame);
  const canvas = Object.assign(document.createElement("canvas"), view);
  const renderer = new Renderer(canvas);
  renderer.take(image);
  const input = new Uint8ClampedArray(artifact.width * artifact.height * 4);
  renderer.read(geometry, WHOLE, artifact, input);
  renderer.promote();
  renderer.upload(network(input), artifact);
  const [low, high] = range;
  renderer.draw(geometry, WHOLE, { low, high }, divider, amount, line);
  const copy = new OffscreenCanvas(view.width, view.height).getContext("2d")!;
  copy.drawImage(canvas, 0, 0);
  const shown = copy.getImageData(0, 0, view.width, view.height).data;
  canvas.getContext("webgl2")!.getExtension("WEBGL_lose_context")!.loseContext();
  return [input, shown];
}

function base64(bytes: Uint8ClampedArray): string {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

Object.assign(globalThis, { drawn, plain });
