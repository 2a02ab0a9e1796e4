import type { FrameGeometry } from "../core/frame_geometry.ts";
import { LatestFrame } from "../core/latest_frame.ts";
import type { Size } from "../core/size.ts";
import type { Model, Ran } from "./model.ts";
import type { FrameImage, Part, Renderer } from "./renderer.ts";

/** How long one frame took, in ms: drawn, read and unpacked into the model's input; in the model; its output uploaded. */
export interface StageTimes {
  readonly input: number;
  readonly model: number;
  readonly output: number;
}

/**
 * Camera frames through a model: one is in the model, the newest one waits, and what is shown is the last one with its
 * result.
 *
 * The first input is the frame to be restored; the second, where there is one, the frame that was restored before.
 */
export class LivePipeline {
  private readonly size: Size;
  private frames = new LatestFrame<FrameImage>();
  private current: Uint8ClampedArray<ArrayBuffer>;
  private previous: Uint8ClampedArray<ArrayBuffer>;
  private hasPrevious = false;
  private running = false;
  private closed = false;
  private epoch = 0;

  /** Of the newest result. */
  stages: StageTimes | null = null;
  /** Results so far. */
  restored = 0;

  constructor(
    private readonly renderer: Renderer,
    readonly model: Model,
    private readonly place: () => { geometry: FrameGeometry; part: Part },
    private readonly onResult: () => void,
    private readonly onFailure: (error: unknown) => void,
  ) {
    const { width, height } = model.artifact;
    this.size = { width, height };
    this.current = new Uint8ClampedArray(width * height * 4);
    this.previous = new Uint8ClampedArray(model.artifact.inputs.length > 1 ? this.current.length : 0);
  }

  /** Frames that a newer one replaced before the model was free. */
  get dropped(): number {
    return this.frames.dropped;
  }

  /** There is a new frame. Of a video, what it shows when the model is free will be taken. */
  offer(image: FrameImage): void {
    this.frames.offer(image);
    this.advance();
  }

  /** What comes now has nothing to do with what came before; a result on its way is thrown away. */
  restart(): void {
    this.epoch++;
    this.frames = new LatestFrame();
    this.hasPrevious = false;
    this.stages = null;
    this.restored = 0;
    this.renderer.forgetResult();
  }

  /** The model stays open. */
  close(): void {
    this.closed = true;
    this.renderer.forgetResult();
  }

  private advance(): void {
    if (this.running || this.closed) return;
    const image = this.frames.poll();
    if (image === undefined) return;
    this.running = true;
    this.run(image).catch((error: unknown) => {
      if (!this.closed) this.onFailure(error);
      this.closed = true;
    });
  }

  private async run(image: FrameImage): Promise<void> {
    const { epoch, renderer, size, model } = this;
    const begin = performance.now();
    [this.current, this.previous] = this.previous.length > 0 ? [this.previous, this.current] : [this.current, this.previous];
    const { geometry, part } = this.place();
    renderer.take(image);
    renderer.read(geometry, part, size, this.current);
    if (!this.hasPrevious && this.previous.length > 0) this.previous.set(this.current); // the first has none before it
    this.hasPrevious = true;
    const readTime = performance.now() - begin;
    const pictures = [this.current, this.previous];
    const ran = await model.run(
      model.artifact.inputs.map(({ name, shape, low, high }, index) => ({
        name,
        shape,
        data: { rgba: pictures[index]!, low, high },
      })),
    );
    this.takeBack(ran);
    this.running = false;
    if (this.closed) return;
    if (epoch === this.epoch) {
      const uploadBegin = performance.now();
      renderer.promote();
      renderer.upload(ran.outputs.get(model.artifact.outputs[0]!.name)!, size);
      this.stages = {
        input: readTime + ran.unpackTime,
        model: ran.modelTime,
        output: performance.now() - uploadBegin,
      };
      this.restored++;
      this.onResult();
    }
    this.advance();
  }

  private takeBack(ran: Ran): void {
    const [current, previous] = ran.inputs.map(({ data }) => data);
    if (current !== undefined && "rgba" in current) this.current = current.rgba;
    if (previous !== undefined && "rgba" in previous) this.previous = previous.rgba;
  }
}
