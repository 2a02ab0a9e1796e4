import { CONTRACT_FILE, type GoldenFile } from "./contract.ts";
import { Fault } from "./fault.ts";

/** 8-bit RGBA, row by row from the top. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8ClampedArray<ArrayBuffer>;
}

/** Decodes a PNG of 8-bit RGB. */
export type PngDecoder = (bytes: Uint8Array<ArrayBuffer>) => Promise<Picture>;

/** The values of a golden file, picture or not. Throws a Fault where it has another size than model.json says. */
export async function goldenValues(
  file: GoldenFile,
  bytes: Uint8Array<ArrayBuffer>,
  png: PngDecoder,
): Promise<Float32Array<ArrayBuffer>> {
  if (file.encoding === "float32") return floats(file, bytes);
  return unpack((await goldenPicture(file, bytes, png)).rgba, 0, 1);
}

/** A golden file that is a PNG. Throws a Fault where it is none, or has another size than model.json says. */
export async function goldenPicture(
  file: GoldenFile,
  bytes: Uint8Array<ArrayBuffer>,
  png: PngDecoder,
): Promise<Picture> {
  if (file.encoding !== "png" || file.shape.length !== 3 || file.shape[2] !== 3) {
    throw new Fault(`${file.file}: has the shape [${file.shape.join(", ")}], expected a picture's`);
  }
  const picture = await png(bytes);
  if (picture.height !== file.shape[0] || picture.width !== file.shape[1]) {
    throw new Fault(
      `${file.file}: has the shape [${picture.height}, ${picture.width}, 3], ` +
        `${CONTRACT_FILE} says [${file.shape.join(", ")}]`,
    );
  }
  return picture;
}

/** RGBA in 8 bits to RGB in float32, 0 to `low` and 255 to `high`. */
export function unpack(
  rgba: Uint8ClampedArray,
  low: number,
  high: number,
  into = new Float32Array((rgba.length / 4) * 3),
): Float32Array<ArrayBuffer> {
  if (into.length * 4 !== rgba.length * 3) {
    throw new Fault(`got ${rgba.length / 4} pixels, expected ${into.length / 3}`);
  }
  // As Python divides: value / 255, rounded once; then the range.
  const levels = Float32Array.from({ length: 256 }, (_, level) => low + Math.fround(level / 255) * (high - low));
  for (let pixel = 0, value = 0; pixel < rgba.length; pixel += 4) {
    into[value++] = levels[rgba[pixel]!]!;
    into[value++] = levels[rgba[pixel + 1]!]!;
    into[value++] = levels[rgba[pixel + 2]!]!;
  }
  return into;
}

function floats(file: GoldenFile, bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const expected = file.shape.reduce((product, side) => product * side, 4);
  if (bytes.length !== expected) {
    throw new Fault(
      `${file.file}: has ${bytes.length} bytes, expected ${expected} for [${file.shape.join(", ")}]`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: expected / 4 }, (_, index) => view.getFloat32(4 * index, true));
}

