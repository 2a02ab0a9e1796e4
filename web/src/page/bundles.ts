import { BundleCheck, type BundleFiles } from "../core/bundle_check.ts";
import { Fault, lineOf } from "../core/fault.ts";

/** A bundle that the server offers. */
export interface Offered {
  readonly name: string;
  /** Null where it cannot be used, for the reason in one line. */
  readonly bundle: BundleCheck | null;
  readonly fault: string | null;
}

/** What `afterlens live` was started with. */
export async function offeredBundles(): Promise<Offered[]> {
  const response = await fetch("bundles.json");
  if (!response.ok) throw new Fault("the list of bundles is missing: is `afterlens live` still running?");
  const names = (await response.json()) as string[];
  return Promise.all(
    names.map(async (name, index) => {
      try {
        return { name, bundle: await BundleCheck.open(served(`bundles/${index}/`)), fault: null };
      } catch (error) {
        return { name, bundle: null, fault: lineOf(error) };
      }
    }),
  );
}

function served(folder: string): BundleFiles {
  return {
    read: async (name) => {
      const response = await fetch(folder + name).catch(() => {
        throw new Fault("the server does not answer: is `afterlens live` still running?");
      });
      return response.ok ? new Uint8Array(await response.arrayBuffer()) : null;
    },
  };
}
