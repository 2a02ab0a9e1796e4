import type { TensorSpec } from "./contract.ts";
import { Fault } from "./fault.ts";

const MOST = 100; // dB

/**
 * Whether a runtime computes what PyTorch did, by PSNR and never by equality: the same file differs between processors
 * by up to 1e-6 in float, and by far more in integers.
 */
export interface SelfTest {
  readonly psnr: number; // dB
  readonly floor: number; // dB
  readonly passed: boolean;
  /** For people. */
  readonly line: string;
}

/** Compare the values of an output with the golden ones. Throws a Fault where their numbers differ. */
export function selfTestOf(
  output: TensorSpec,
  got: Float32Array,
  golden: Float32Array,
  floor: number,
): SelfTest {
  if (got.length !== golden.length) {
    throw new Fault(`${output.name}: the output has ${got.length} values, expected ${golden.length}`);
  }
  const range = output.high - output.low;
  let square = 0;
  let finite = true;
  got.forEach((value, index) => {
    const isFinite = Number.isFinite(value);
    finite &&= isFinite;
    square += isFinite ? ((value - golden[index]!) / range) ** 2 : 1;
  });
  const mean = square / got.length;
  const psnr = mean === 0 ? MOST : Math.min(MOST, -10 * Math.log10(mean));
  const reason = finite ? "" : ", and not every value is a finite number";
  return {
    psnr,
    floor,
    passed: finite && psnr >= floor,
    line:
      `${output.name}: ${psnr.toFixed(2)} dB from the golden output, ` +
      `at least ${floor.toFixed(2)} expected${reason}`,
  };
}
