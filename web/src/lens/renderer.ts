import { Affine } from "../core/affine.ts";
import { Fault } from "../core/fault.ts";
import type { FrameGeometry } from "../core/frame_geometry.ts";
import type { Size } from "../core/size.ts";
import { bindQuad, plainTexture, Program } from "./gl.ts";
import { ARTIFACT_FRAGMENT, OFFSCREEN_VERTEX, SCREEN_FRAGMENT, SCREEN_VERTEX } from "./shaders.ts";

/** Anything that a browser can put into a texture. */
export type FrameImage = HTMLVideoElement | ImageBitmap | ImageData;

/** The part of the frame that the geometry is about, about the frame's middle. */
export interface Part {
  readonly across: number;
  readonly down: number;
}

/**
 * Frames into an artifact's input, and the raw frame left of a divider and the result right of it onto a canvas, by
 * WebGL 2. Android's renderer has the same shaders, and both must draw the pictures of tests/vectors/golden.
 */
export class Renderer {
  private readonly gl: WebGL2RenderingContext;
  private readonly toArtifact: Program;
  private readonly toScreen: Program;
  private frame: WebGLTexture; // that is shown
  private next: WebGLTexture; // that is being worked on
  private readonly result: WebGLTexture;
  private readonly target: WebGLTexture;
  private readonly framebuffer: WebGLFramebuffer;
  private targetSize: Size = { width: 0, height: 0 };
  private hasResult = false;

  /** Throws a Fault where the browser has no WebGL 2. */
  constructor(readonly canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (gl === null) throw new Fault("this browser has no WebGL 2");
    this.gl = gl;
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.toArtifact = new Program(gl, OFFSCREEN_VERTEX, ARTIFACT_FRAGMENT);
    this.toScreen = new Program(gl, SCREEN_VERTEX, SCREEN_FRAGMENT);
    this.frame = plainTexture(gl);
    this.next = plainTexture(gl);
    this.result = plainTexture(gl);
    this.target = plainTexture(gl);
    this.framebuffer = gl.createFramebuffer();
    bindQuad(gl);
  }

  /** The next frame, to be read; what is shown stays. */
  take(image: FrameImage): void {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.next);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
  }

  /** From now on the frame that was taken is shown: once its result is there, so that both sides show one moment. */
  promote(): void {
    [this.frame, this.next] = [this.next, this.frame];
  }

  /** The next frame as the artifact's input, in 8 bits, written into `into` (width x height x 4). */
  read(geometry: FrameGeometry, part: Part, size: Size, into: Uint8ClampedArray): void {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    if (size.width !== this.targetSize.width || size.height !== this.targetSize.height) {
      this.targetSize = size;
      gl.bindTexture(gl.TEXTURE_2D, this.target);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, size.width, size.height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.target, 0);
    }
    gl.viewport(0, 0, size.width, size.height);
    this.toArtifact.use();
    this.bind(0, this.next);
    this.toArtifact.texture("frame", 0);
    this.toArtifact.matrix("sensorFromArtifact", geometry.sensorFromArtifact.columns());
    this.toArtifact.matrix("textureFromSensor", Affine.scaled(part.across, part.down).columns());
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.readPixels(0, 0, size.width, size.height, gl.RGBA, gl.UNSIGNED_BYTE, into);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  /** From now on this is the result: RGB in float32, row by row. */
  upload(values: Float32Array, size: Size): void {
    const { gl } = this;
    gl.bindTexture(gl.TEXTURE_2D, this.result);
    // Half floats are finer than the screen, and unlike float32 every WebGL 2 interpolates them.
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB16F, size.width, size.height, 0, gl.RGB, gl.FLOAT, values);
    this.hasResult = true;
  }

  /** Only the raw frame is shown until the next result. */
  forgetResult(): void {
    this.hasResult = false;
  }

  /**
   * Draws the canvas.
   *
   * @param range of the output's values: black and white.
   * @param divider its place in parts of the view's width: at 1 all is raw, at 0 all is restored.
   * @param amount how much of the result's change is shown: 0 is the raw frame, 1 the result.
   * @param line width of a white line on it, in pixels.
   */
  draw(
    geometry: FrameGeometry,
    part: Part,
    range: { low: number; high: number },
    divider: number,
    amount: number,
    line = 0,
  ): void {
    const { gl, canvas, toScreen } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    toScreen.use();
    this.bind(0, this.frame);
    this.bind(1, this.hasResult ? this.result : this.frame);
    toScreen.texture("frame", 0);
    toScreen.texture("result", 1);
    toScreen.matrix("sensorFromView", geometry.sensorFromView.columns());
    toScreen.matrix("artifactFromView", geometry.artifactFromView.columns());
    toScreen.matrix("textureFromSensor", Affine.scaled(part.across, part.down).columns());
    toScreen.number("low", range.low);
    toScreen.number("range", range.high - range.low);
    toScreen.number("divider", this.hasResult ? divider : 1);
    toScreen.number("amount", amount);
    toScreen.number("viewWidth", canvas.width);
    toScreen.number("halfLine", line / 2);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /** Waits until everything is drawn, to time it. */
  finish(): void {
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  /** Paints it black. */
  clear(): void {
    this.hasResult = false;
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, null);
    this.gl.clearColor(0, 0, 0, 1);
    this.gl.clear(this.gl.COLOR_BUFFER_BIT);
  }

  private bind(unit: number, texture: WebGLTexture): void {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(this.gl.TEXTURE_2D, texture);
    this.gl.activeTexture(this.gl.TEXTURE0);
  }
}
