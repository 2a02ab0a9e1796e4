import { CONTRACT_FILE } from "./contract.ts";
import { Fault } from "./fault.ts";

const MOST_SHOWN = 200; // characters

/** A value of model.json that knows where it stands: every reader throws a Fault that names its path. */
export class JsonNode {
  constructor(
    private readonly value: unknown,
    private readonly path = "",
  ) {}

  get isNull(): boolean {
    return this.value === null;
  }

  /** An object with all of `required`, and nothing that is neither required nor `optional`; "any" allows any key. */
  fields(required: readonly string[], optional: readonly string[] | "any" = []): Fields {
    const { value, path } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.wrong("an object");
    const entries = new Map<string, unknown>(Object.entries(value));
    const missing = required.find((key) => !entries.has(key));
    if (missing !== undefined) throw this.fault(`${missing} is missing`);
    if (optional !== "any") {
      const unknown = [...entries.keys()].find((key) => !required.includes(key) && !optional.includes(key));
      if (unknown !== undefined) throw this.fault(`unknown key "${unknown}"`);
    }
    return new Fields(entries, path);
  }

  list(atLeast = 0, atMost = Infinity): JsonNode[] {
    if (!Array.isArray(this.value)) throw this.wrong("a list");
    const { length } = this.value;
    if (length < atLeast || length > atMost) {
      const range = atMost === Infinity ? `at least ${atLeast}` : `${atLeast} to ${atMost}`;
      throw this.fault(`got ${length} entries, expected ${atLeast === atMost ? atLeast : range}`);
    }
    return this.value.map((entry, index) => new JsonNode(entry, `${this.path}[${index}]`));
  }

  /** A text; one that matches `pattern` entirely, which is called `expected` for people. */
  text(expected = "a text", pattern = /^[^]+$/): string {
    if (typeof this.value !== "string" || !pattern.test(this.value)) throw this.wrong(expected);
    return this.value;
  }

  oneOf<T extends string>(choices: readonly T[]): T {
    const found = choices.find((choice) => choice === this.value);
    if (found === undefined) throw this.wrong(`one of ${choices.join(", ")}`);
    return found;
  }

  oneOfNumbers<T extends number>(...choices: readonly T[]): T {
    const found = choices.find((choice) => choice === this.value);
    if (found === undefined) throw this.wrong(choices.join(" or "));
    return found;
  }

  whole(atLeast: number, atMost = Infinity): number {
    const { value } = this;
    const range = atMost === Infinity ? `of at least ${atLeast}` : `from ${atLeast} to ${atMost}`;
    // As JSON Schema has it, 4.0 is a whole number.
    if (typeof value !== "number" || !Number.isInteger(value) || value < atLeast || value > atMost) {
      throw this.wrong(`a whole number ${range}`);
    }
    return value;
  }

  number(atLeast = -Infinity): number {
    const { value } = this;
    if (typeof value !== "number" || !Number.isFinite(value) || value < atLeast) {
      throw this.wrong(atLeast === -Infinity ? "a number" : `a number of at least ${atLeast}`);
    }
    return value;
  }

  flag(): boolean {
    if (typeof this.value !== "boolean") throw this.wrong("true or false");
    return this.value;
  }

  fault(message: string): Fault {
    return new Fault(`${CONTRACT_FILE}: ${this.path === "" ? "" : `${this.path}: `}${message}`);
  }

  private wrong(expected: string): Fault {
    return this.fault(`got ${this.described()}, expected ${expected}`);
  }

  private described(): string {
    if (Array.isArray(this.value)) return "a list";
    if (typeof this.value === "object" && this.value !== null) return "an object";
    const text = JSON.stringify(this.value);
    return text.length <= MOST_SHOWN ? text : `${text.slice(0, MOST_SHOWN)}...`;
  }
}

/** The keys of an object. */
export class Fields {
  constructor(
    private readonly entries: ReadonlyMap<string, unknown>,
    private readonly path: string,
  ) {}

  get(key: string): JsonNode {
    return new JsonNode(this.entries.get(key), this.path === "" ? key : `${this.path}.${key}`);
  }

  optional(key: string): JsonNode | null {
    return this.entries.has(key) ? this.get(key) : null;
  }

  /** Null where it is missing, and where it is null. */
  nullable(key: string): JsonNode | null {
    const found = this.optional(key);
    return found === null || found.isNull ? null : found;
  }
}
