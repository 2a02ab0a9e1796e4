import type { LiveView } from "../lens/live_view.ts";
import { element, say } from "./elements.ts";

/** How much of the network's change is shown; it stays while networks, files and pictures change. */
export function wireAmount(view: LiveView): void {
  const slider = element<HTMLInputElement>("amount");
  slider.addEventListener("input", () => {
    view.amount = slider.valueAsNumber / 100;
    slider.ariaValueText = `${slider.value} %`;
    say("percent", `${slider.value} %`);
  });
}
