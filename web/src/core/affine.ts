/**
 * A linear map of the plane about the middle (0.5, 0.5) of a frame, in coordinates from 0 to 1 with y down: all that
 * turning, mirroring, cropping and fitting need.
 */
export class Affine {
  static readonly IDENTITY = new Affine(1, 0, 0, 1);

  constructor(
    readonly xx: number,
    readonly xy: number,
    readonly yx: number,
    readonly yy: number,
  ) {}

  static scaled(x: number, y: number): Affine {
    return new Affine(x, 0, 0, y);
  }

  /** From the upright picture back into the frame that was turned by so many degrees clockwise. */
  static unturned(degrees: Rotation): Affine {
    switch (degrees) {
      case 0:
        return Affine.IDENTITY;
      case 90:
        return new Affine(0, 1, -1, 0);
      case 180:
        return new Affine(-1, 0, 0, -1);
      case 270:
        return new Affine(0, -1, 1, 0);
    }
  }

  /** This map after `first`. */
  after(first: Affine): Affine {
    return new Affine(
      this.xx * first.xx + this.xy * first.yx,
      this.xx * first.xy + this.xy * first.yy,
      this.yx * first.xx + this.yy * first.yx,
      this.yx * first.xy + this.yy * first.yy,
    );
  }

  inverse(): Affine {
    const determinant = this.xx * this.yy - this.xy * this.yx;
    return new Affine(
      this.yy / determinant,
      -this.xy / determinant,
      -this.yx / determinant,
      this.xx / determinant,
    );
  }

  /** Where (x, y) goes. */
  map(x: number, y: number): [number, number] {
    const [across, down] = [x - 0.5, y - 0.5];
    return [this.xx * across + this.xy * down + 0.5, this.yx * across + this.yy * down + 0.5];
  }

  /** 4x4, column by column, as OpenGL takes it. */
  columns(): number[] {
    const [x, y] = this.map(0, 0);
    return [this.xx, this.yx, 0, 0, this.xy, this.yy, 0, 0, 0, 0, 1, 0, x, y, 0, 1];
  }
}

/** Degrees clockwise. */
export type Rotation = 0 | 90 | 180 | 270;
