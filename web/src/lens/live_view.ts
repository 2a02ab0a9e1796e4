import type { Rotation } from "../core/affine.ts";
import { FrameGeometry } from "../core/frame_geometry.ts";
import type { Size } from "../core/size.ts";
import { frameRate } from "../core/statistics.ts";
import { type Feeding, type Fit, type FrameFormat } from "./feeding.ts";
import type { Model } from "./model.ts";
import { LivePipeline, type StageTimes } from "./pipeline.ts";
import type { FrameImage, Part, Renderer } from "./renderer.ts";

/** Of the last seconds. */
export interface LiveReport {
  readonly stages: StageTimes;
  readonly draw: number; // ms until the newest picture was drawn
  readonly fps: number; // results a second
  readonly dropped: number; // frames since the start that the model was too slow for
  readonly fit: Fit;
}

const WHOLE: Part = { across: 1, down: 1 };
const KEPT = 60; // results that the frame rate is taken of

/** What is on the canvas: the raw preview at once, the result beside it as soon as there is a model. */
export class LiveView {
  private pipeline: LivePipeline | null = null;
  private feeding: Feeding | null = null;
  private image: FrameImage | null = null;
  private frame: Size | null = null; // of the image
  private moves = true;
  private mirrored = false;
  private turned: Rotation = 0;
  private dividerAt = 0.5;
  private amountShown = 1;
  private finished: number[] = [];
  private drawTime = 0;
  private willDraw = false;

  /**
   * @param onArranged told the proportions of the picture: make the canvas as large as fits, then call `resized`.
   * @param onResult called after every result.
   * @param onFailure told what the model threw; the raw preview goes on.
   */
  constructor(
    private readonly renderer: Renderer,
    private readonly onArranged: (shown: Size) => void,
    private readonly onResult: () => void,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  /** What is about to be loaded: from now on the raw preview shows what that will see. Null: no model. */
  expect(feeding: Feeding | null): void {
    this.pipeline?.close();
    this.pipeline = null;
    this.feeding = feeding;
    this.arrange();
  }

  /** The model that was expected. */
  load(model: Model): void {
    this.pipeline = new LivePipeline(
      this.renderer,
      model,
      () => ({ geometry: this.geometry(), part: this.part }),
      () => {
        this.finished.push(performance.now());
        if (this.finished.length > KEPT) this.finished.shift();
        this.draw();
        this.onResult();
      },
      this.onFailure,
    );
    this.arrange();
  }

  /** Frames of another source come from now on. */
  begin(moves: boolean, mirrored: boolean): void {
    this.image = null;
    this.frame = null;
    this.moves = moves;
    this.mirrored = mirrored;
    this.renderer.clear();
    this.restart();
  }

  readonly takeFrame = (image: FrameImage, size: Size): void => {
    const { frame } = this;
    [this.image, this.frame] = [image, size];
    if (frame?.width !== size.width || frame.height !== size.height) this.arrange();
    else this.offer();
  };

  get rotation(): Rotation {
    return this.turned;
  }

  set rotation(rotation: Rotation) {
    this.turned = rotation;
    this.arrange();
  }

  get mirror(): boolean {
    return this.mirrored;
  }

  set mirror(mirrored: boolean) {
    this.mirrored = mirrored;
    this.draw();
  }

  /** In parts of the view's width: at 1 all is raw, at 0 all is restored. */
  get divider(): number {
    return this.dividerAt;
  }

  set divider(divider: number) {
    this.dividerAt = divider;
    this.draw();
  }

  /** How much of the network's change is shown: 0 is the frame as it came, 1 what the network made of it. */
  get amount(): number {
    return this.amountShown;
  }

  set amount(amount: number) {
    this.amountShown = amount;
    this.draw();
  }

  /** Null before the first result. */
  get report(): LiveReport | null {
    const { pipeline, feeding, frame } = this;
    if (pipeline === null || pipeline.stages === null || feeding === null || frame === null) return null;
    const { stages, dropped } = pipeline;
    return { stages, draw: this.drawTime, fps: frameRate(this.finished), dropped, fit: feeding.fit(frame) };
  }

  /** The canvas has another size. */
  resized(): void {
    this.draw();
  }

  /** With the screen's next picture. */
  draw(): void {
    if (this.willDraw) return;
    this.willDraw = true;
    requestAnimationFrame(() => {
      this.willDraw = false;
      this.drawNow();
    });
  }

  /** At once; `finish` waits until it is done, to time it. */
  drawNow(finish = false): void {
    if (this.frame === null || this.renderer.canvas.width === 0) return;
    const begin = performance.now();
    const { low, high } = this.pipeline?.model.artifact.outputs[0] ?? { low: 0, high: 1 };
    this.renderer.draw(this.geometry(), this.part, { low, high }, this.dividerAt, this.amountShown);
    if (finish) this.renderer.finish();
    this.drawTime = performance.now() - begin;
  }

  private get part(): Part {
    return this.feeding?.part ?? WHOLE;
  }

  private geometry(): FrameGeometry {
    const format: FrameFormat = { size: this.frame!, rotation: this.turned, mirrored: this.mirrored };
    const { width, height } = this.renderer.canvas;
    const view = { width, height };
    if (this.feeding !== null) return this.feeding.geometry(format, view, this.moves ? "crop" : "fit");
    return new FrameGeometry({
      ...{ sensor: format.size, rotation: format.rotation, mirrored: format.mirrored },
      ...{ artifact: format.size, upright: false, artifactScale: "crop", view, viewScale: "fit" },
    });
  }

  /** To the model; the raw preview shows every frame until the first result. */
  private offer(): void {
    if (this.image === null) return;
    if (this.pipeline === null || this.pipeline.restored === 0) {
      this.renderer.take(this.image);
      this.renderer.promote();
      this.draw();
    }
    this.pipeline?.offer(this.image);
  }

  private restart(): void {
    this.finished = [];
    this.pipeline?.restart();
  }

  private arrange(): void {
    this.restart();
    if (this.frame === null) return;
    this.onArranged(this.geometry().shown);
    this.offer();
  }
}
