import type { LiveView } from "../lens/live_view.ts";
import { element } from "./elements.ts";

const HOLD_MS = 250;

/** The divider is dragged, moved by arrow keys, or out of the way while the picture is held. */
export function wireDivider(view: LiveView): void {
  const [picture, handle] = [element("picture"), element("divider")];
  const move = (to: number): void => {
    view.divider = Math.min(1, Math.max(0, to));
    handle.style.left = `${view.divider * 100}%`;
    handle.ariaValueNow = `${Math.round(view.divider * 100)}`;
  };
  handle.addEventListener("pointerdown", (event) => {
    event.stopPropagation();
    handle.setPointerCapture(event.pointerId);
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const { left, width } = picture.getBoundingClientRect();
    move((event.clientX - left) / width);
  });
  handle.addEventListener("keydown", ({ key }) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05, Home: -1, End: 1 }[key];
    if (step !== undefined) move(view.divider + step);
  });

  let hold: ReturnType<typeof setTimeout> | undefined;
  let kept: number | null = null;
  picture.addEventListener("pointerdown", () => {
    hold = setTimeout(() => {
      kept = view.divider;
      view.divider = 1;
    }, HOLD_MS);
  });
  const release = (): void => {
    clearTimeout(hold);
    if (kept !== null) view.divider = kept;
    kept = null;
  };
  for (const event of ["pointerup", "pointercancel", "pointerleave"]) picture.addEventListener(event, release);
}
