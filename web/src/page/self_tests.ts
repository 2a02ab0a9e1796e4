import type { BundleCheck } from "../core/bundle_check.ts";
import { lineOf } from "../core/fault.ts";
import { textOf } from "../core/size.ts";
import { runnable } from "../lens/choice.ts";
import { goldenInputs, verdictOf } from "../lens/golden.ts";
import type { Processor } from "../lens/messages.ts";
import { Model } from "../lens/model.ts";
import { element } from "./elements.ts";

/** Runs every file of a bundle on its golden input, one after the other, and shows how close each comes. */
export async function selfTests(bundle: BundleCheck, processor: Processor): Promise<void> {
  const table = document.createElement("table");
  const results = element("results");
  results.replaceChildren(heading("Self-test: the golden input, compared with PyTorch's output"), table);
  results.hidden = false;
  table.append(row("th", ["file", "dB", "floor", ""]));
  for (const artifact of runnable(bundle.contract)) {
    const cells = row("td", [`${textOf(artifact)} ${artifact.variant}`, "…", artifact.selfTestFloor?.toFixed(2) ?? "–", ""]);
    table.append(cells);
    const [, found, , verdict] = cells.cells;
    try {
      const model = await Model.open(bundle, artifact, processor);
      try {
        const { test } = await verdictOf(bundle, model, await model.run(await goldenInputs(bundle, model)));
        found!.textContent = test?.psnr.toFixed(2) ?? "–";
        verdict!.textContent = test === null ? "nothing to compare" : test.passed ? "passed" : "failed";
        verdict!.className = test === null ? "" : test.passed ? "good" : "bad";
      } finally {
        model.close();
      }
    } catch (error) {
      found!.textContent = "–";
      verdict!.textContent = lineOf(error);
      verdict!.className = "bad";
    }
  }
}

export function heading(text: string): HTMLElement {
  const line = document.createElement("h2");
  line.textContent = text;
  return line;
}

function row(kind: "td" | "th", texts: readonly string[]): HTMLTableRowElement {
  const line = document.createElement("tr");
  line.append(
    ...texts.map((text) => {
      const cell = document.createElement(kind);
      cell.textContent = text;
      return cell;
    }),
  );
  return line;
}
