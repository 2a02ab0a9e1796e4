import { type BundleEntry, type Contract, CONTRACT_FILE } from "./contract.ts";
import { readContract } from "./contract_reader.ts";
import { Fault } from "./fault.ts";

/** Where a bundle's bytes come from. Names are relative, with slashes. */
export interface BundleFiles {
  /** Null where there is no such file. */
  read(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
}

/**
 * Reads a bundle that may be damaged or come from a stranger: nothing is handed out before its size and sha256 were
 * compared with model.json, and what is handed out are the very bytes that were compared.
 *
 *     const bundle = await BundleCheck.open(files);
 *     const model = await bundle.read(bundle.contract.artifacts[0]);
 *
 * Core ML packages, which are folders, are of no use to a browser and cannot be read here.
 */
export class BundleCheck {
  private constructor(
    private readonly files: BundleFiles,
    readonly contract: Contract,
  ) {}

  /** Throws a Fault where model.json is missing or broken. */
  static async open(files: BundleFiles): Promise<BundleCheck> {
    return new BundleCheck(files, readContract(await present(files, CONTRACT_FILE)));
  }

  /** The bytes of a file, checked. Throws a Fault, one line, where it is not what was converted. */
  async read(entry: BundleEntry): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await present(this.files, entry.file);
    if (bytes.length !== entry.bytes) {
      throw new Fault(`${entry.file}: has ${bytes.length} bytes, ${CONTRACT_FILE} says ${entry.bytes}`);
    }
    const found = await sha256(bytes);
    if (found !== entry.sha256) {
      throw new Fault(`${entry.file}: its sha256 is ${found}, ${CONTRACT_FILE} says ${entry.sha256}`);
    }
    return bytes;
  }
}

async function present(files: BundleFiles, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await files.read(name);
  if (bytes === null) throw new Fault(`${name}: is missing`);
  return bytes;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
