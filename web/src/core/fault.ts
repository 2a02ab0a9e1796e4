/** A bundle, a document or a request that cannot be used; the message is one line for people. */
export class Fault extends Error {}

/** The first line of whatever was thrown, for people. */
export function lineOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.split("\n")[0] ?? text;
}
