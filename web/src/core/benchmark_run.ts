import { Fault } from "./fault.ts";

/** Times a model as an app runs it: every run in order, the first ones uncounted but kept. */
export class BenchmarkRun {
  constructor(
    readonly warmup: number,
    readonly runs: number,
    private readonly now: () => number = () => performance.now(),
  ) {
    if (warmup < 0 || runs < 1) {
      throw new Fault(`got ${warmup} warm-ups and ${runs} runs, expected at least 0 and 1`);
    }
  }

  /** Times in ms of all runs, the warm-up included. `progress` is told how many are done, outside the timed part. */
  async times(run: () => Promise<unknown>, progress: (done: number) => void = () => {}): Promise<number[]> {
    const times: number[] = [];
    while (times.length < this.warmup + this.runs) {
      const start = this.now();
      await run();
      times.push(this.now() - start);
      progress(times.length);
    }
    return times;
  }
}
