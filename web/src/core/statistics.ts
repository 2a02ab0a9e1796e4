import { Fault } from "./fault.ts";

/** What is said of a series of times in ms. */
export interface Summary {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly mean: number;
  readonly least: number;
}

/** Of the times after the first `warmup`. Throws a Fault where none is left. */
export function summaryOf(times: readonly number[], warmup = 0): Summary {
  const counted = times.slice(warmup);
  if (counted.length === 0) {
    throw new Fault(`got ${times.length} times with ${warmup} of them warm-up, expected more`);
  }
  const ranked = counted.toSorted((a, b) => a - b);
  return {
    p50: percentile(ranked, 50),
    p90: percentile(ranked, 90),
    p99: percentile(ranked, 99),
    mean: counted.reduce((sum, time) => sum + time, 0) / counted.length,
    least: ranked[0]!,
  };
}

/** Frames a second between the first and the last of these moments in ms; 0 for fewer than two. */
export function frameRate(finished: readonly number[]): number {
  if (finished.length < 2) return 0;
  return (1000 * (finished.length - 1)) / (finished.at(-1)! - finished[0]!);
}

/** The median time of each minute since the start; null for a minute without a run. Moments and times in ms. */
export function minuteMedians(at: readonly number[], times: readonly number[]): (number | null)[] {
  const minutes: number[][] = [];
  at.forEach((moment, run) => {
    const minute = Math.floor(moment / 60_000);
    while (minutes.length <= minute) minutes.push([]);
    minutes[minute]!.push(times[run]!);
  });
  return minutes.map((found) => (found.length === 0 ? null : summaryOf(found).p50));
}

/** Of sorted values: at rank percent / 100 * (n - 1), linear between two ranks. */
function percentile(ranked: readonly number[], percent: number): number {
  const rank = (percent * (ranked.length - 1)) / 100;
  const below = Math.floor(rank);
  const above = Math.min(below + 1, ranked.length - 1);
  return ranked[below]! + (ranked[above]! - ranked[below]!) * (rank - below);
}
