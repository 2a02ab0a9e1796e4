import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const package_ = dirname(dirname(createRequire(import.meta.url).resolve("@litertjs/core")));

/** The runtime's own files, as they are: with threads, and for browsers that lack something for those. */
function litert(): Plugin {
  return {
    name: "litert",
    generateBundle() {
      for (const build of ["threaded", "compat"]) {
        for (const kind of ["js", "wasm"]) {
          const name = `litert_wasm_${build}_internal.${kind}`;
          const source = readFileSync(join(package_, "wasm", name));
          this.emitFile({ type: "asset", fileName: `litert/${name}`, source });
        }
      }
    },
  };
}

const { version } = JSON.parse(readFileSync(join(package_, "package.json"), "utf-8")) as { version: string };

// `--mode test` adds the page of tests/web.
export default defineConfig(({ mode }) => ({
  base: "./",
  define: { LITERT_VERSION: JSON.stringify(version) },
  build: {
    target: "es2023",
    outDir: "../afterlens/page",
    emptyOutDir: true,
    assetsInlineLimit: 0, // the page's policy allows no data: addresses
    modulePreload: { polyfill: false },
    rolldownOptions: { input: mode === "test" ? ["index.html", "tests/harness.html"] : "index.html" },
  },
  plugins: [litert()],
}));
