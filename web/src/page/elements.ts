/** The element of index.html with this id. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** Replaces the choices of a list, and keeps what was chosen where it is still there. */
export function fill(list: HTMLSelectElement, choices: readonly (readonly [value: string, text: string])[]): void {
  const chosen = list.value;
  list.replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  if (choices.some(([value]) => value === chosen)) list.value = chosen;
}

/** A line with its text; nothing is shown of an empty one. */
export function say(id: string, text: string): void {
  const line = element(id);
  line.textContent = text;
  line.hidden = text === "";
}

/** Offers a file to the user under this name. */
export function download(name: string, text: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
