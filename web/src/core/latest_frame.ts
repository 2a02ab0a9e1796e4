/**
 * Hands frames from a camera to one model, the newest only: while one is being worked on, one waits, and a newer one
 * takes its place. So the picture on the screen is never older than one run of the model.
 */
export class LatestFrame<T> {
  #waiting: T | undefined;
  #dropped = 0;

  /** Frames that were replaced before anybody took them. */
  get dropped(): number {
    return this.#dropped;
  }

  /** The camera has a frame. */
  offer(frame: T): void {
    if (this.#waiting !== undefined) this.#dropped++;
    this.#waiting = frame;
  }

  /** The waiting frame, if there is one. */
  poll(): T | undefined {
    const frame = this.#waiting;
    this.#waiting = undefined;
    return frame;
  }
}
