/** Width and height in pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

export const textOf = (size: Size): string => `${size.width}x${size.height}`;
