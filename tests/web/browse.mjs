// Drives Chromium for tests/web: `node browse.mjs SCENARIO '{"address": ..., ...}'` prints one JSON document.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const { chromium } = createRequire(fileURLToPath(new URL("../../web/package.json", import.meta.url)))("playwright-core");
const [, , scenario, text] = process.argv;
const request = JSON.parse(text);

const QUIET = [
  "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
];
// A processor plays the GPU.
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--ignore-gpu-blocklist"];

async function open(flags, { permissions = ["camera"], viewport = { width: 800, height: 700 }, scale = 1 } = {}) {
  const browser = await chromium.launch({ executablePath: request.chromium, args: [...QUIET, ...flags], headless: true });
  const context = await browser.newContext({ permissions, viewport, deviceScaleFactor: scale });
  context.setDefaultTimeout(300_000);
  const page = await context.newPage();
  const seen = { outside: [], errors: [] };
  const ours = [request.address, ...(request.addresses ?? [])].filter(Boolean).map((address) => new URL(address).origin);
  page.on("request", (one) => {
    if (!/^(blob|data):/.test(one.url()) && !ours.includes(new URL(one.url()).origin)) seen.outside.push(one.url());
  });
  page.on("pageerror", (error) => seen.errors.push(error.message));
  return { browser, page, seen };
}

const camera = () => [
  "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${request.camera}`, "--use-fake-ui-for-media-stream",
];

const state = (page, wanted) =>
  page.waitForFunction((states) => states.includes(document.body.dataset.state), wanted);

const texts = (page) =>
  page.evaluate(() => {
    const shown = (id) => {
      const part = document.getElementById(id);
      return part.hidden ? "" : part.textContent;
    };
    return { state: document.body.dataset.state, ...Object.fromEntries(["runs", "note", "message", "results", "fps", "dropped"].map((id) => [id, shown(id)])) };
  });

/** Keeps what goes into the model and what comes out of it, of the runs that begin after `globalThis.kept = null`. */
function spy() {
  const Native = globalThis.Worker;
  globalThis.runs = 0;
  globalThis.Worker = class extends Native {
    constructor(...options) {
      super(...options);
      this.addEventListener("message", ({ data }) => {
        if (data.kind !== "ran") return;
        globalThis.runs++;
        if (this.sent) globalThis.kept = { inputs: this.sent, outputs: data.outputs };
        this.sent = undefined;
      });
    }
    postMessage(message, transfer) {
      if (globalThis.kept === null && message.kind === "run" && "rgba" in message.inputs[0].data) this.sent = structuredClone(message.inputs);
      super.postMessage(message, transfer);
    }
  };
}

async function keptRun(page) {
  await page.evaluate(() => (globalThis.kept = null));
  await page.waitForFunction(() => globalThis.kept);
  return page.evaluate(() => {
    const base64 = (array) => {
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      let letters = "";
      for (let at = 0; at < bytes.length; at += 8192) letters += String.fromCharCode(...bytes.subarray(at, at + 8192));
      return btoa(letters);
    };
    const { inputs, outputs } = globalThis.kept;
    return {
      inputs: Object.fromEntries(inputs.map(({ name, data }) => [name, base64(data.rgba)])),
      outputs: Object.fromEntries([...outputs].map(([name, values]) => [name, base64(values)])),
    };
  });
}

const choose = (page, list, label) => page.selectOption(`#${list}`, { label });

const scenarios = {
  /** The renderer's pictures of the golden camera frames. */
  async frames() {
    const { browser, page, seen } = await open([]);
    await page.goto(`${request.address}tests/harness.html`);
    await page.waitForFunction(() => "drawn" in globalThis);
    const sensor = readFileSync(request.sensor).toString("base64");
    const pictures = [];
    for (const [frame, shown] of request.frames) {
      pictures.push(await page.evaluate(([...all]) => globalThis.drawn(...all), [frame, sensor, shown]));
    }
    const plain = [];
    for (const all of request.plain) plain.push(await page.evaluate((all) => globalThis.plain(...all), all));
    return { browser, seen, pictures, plain };
  },

  /** The page at several amounts of the change, on a camera and on a photo: the canvas, and where its parts are. */
  async amounts() {
    const { browser, page, seen } = await open(camera(), { viewport: request.viewport });
    await page.goto(request.address);
    await state(page, ["ready", "failed"]);
    const slider = page.getByRole("slider", { name: "Amount", exact: true });
    const restored = () => page.waitForFunction(() => document.querySelector("#picture.restored"));
    // Drawn anew, and read before the browser shows it, which clears it.
    const canvas = () =>
      page.evaluate(() => {
        document.getElementById("amount").dispatchEvent(new Event("input"));
        return new Promise((tell) =>
          requestAnimationFrame(() => tell(document.getElementById("canvas").toDataURL().split(",")[1])),
        );
      });
    const said = () =>
      page.evaluate(() => {
        const { value, ariaValueText } = document.getElementById("amount");
        return [value, ariaValueText, document.getElementById("percent").textContent];
      });
    const found = { said: [await said()], pictures: {} };
    for (const source of ["camera", "photo"]) {
      if (source === "photo") {
        await page.setInputFiles("#files", request.photo);
        await page.waitForFunction(() => !document.querySelector("#picture.restored"));
      }
      await restored();
      const pictures = {};
      await page.focus("#divider");
      await page.keyboard.press("End"); // all is raw
      await slider.fill("100");
      pictures.raw = await canvas();
      await page.focus("#divider");
      await page.keyboard.press("Home"); // all is restored
      for (const percent of ["100", "50", "0"]) {
        await slider.fill(percent);
        found.said.push(await said());
        pictures[percent] = await canvas();
      }
      found.pictures[source] = pictures;
    }
    await slider.focus();
    for (const key of ["End", "ArrowLeft", "ArrowLeft"]) await page.keyboard.press(key);
    found.said.push(await said());
    await choose(page, "file", request.other);
    await state(page, ["ready", "failed"]);
    await restored();
    found.said.push(await said());
    found.other = await canvas();
    await slider.fill("40");
    await page.screenshot({ path: `${request.out}/amount.png`, fullPage: true });
    found.boxes = await page.evaluate(() =>
      ["header", "#stage", "#dial label", "#amount", "#percent", "#runs", "#figures", "nav", "footer"].map((place) => {
        const { left, top, right, bottom } = document.querySelector(place).getBoundingClientRect();
        return { place, left, top, right, bottom };
      }),
    );
    found.width = await page.evaluate(() => document.documentElement.scrollWidth);
    return { browser, seen, found };
  },

  /** The page on a camera: for each file and processor, what went through the model, in each rotation. */
  async live() {
    const { browser, page, seen } = await open([...camera(), ...WEBGPU]);
    await page.addInitScript(spy);
    await page.goto(request.address);
    await state(page, ["ready", "failed"]);
    const first = await texts(page);
    const found = [];
    for (const { network, file, processor, rotations } of request.cases) {
      await choose(page, "network", network);
      await page.selectOption("#processor", processor);
      await choose(page, "file", file);
      await state(page, ["ready", "failed"]);
      const runs = [];
      for (let turn = 0; turn < 4; turn++) {
        if (rotations.includes(turn * 90)) runs.push(await keptRun(page));
        await page.click("#turn");
      }
      found.push({ ...(await texts(page)), kept: runs });
    }
    return { browser, seen, first, found };
  },

  /** What the page says where something is missing. */
  async troubles() {
    const { browser, page, seen } = await open(request.flags.flatMap((flag) => (flag === "camera" ? camera() : [flag])), {
      permissions: request.permissions,
    });
    // The page believes in a GPU that its worker, where this script does not run, does not find.
    if (request.pretended) {
      await page.addInitScript(() => {
        const value = { requestAdapter: async () => ({ info: { isFallbackAdapter: false } }) };
        Object.defineProperty(navigator, "gpu", { value });
      });
    }
    const found = [];
    for (const address of request.addresses) {
      await page.goto(address);
      await state(page, ["ready", "failed"]);
      await page.waitForFunction(() => document.getElementById("message").textContent !== "");
      found.push(await texts(page));
    }
    return { browser, seen, found };
  },

  /** Photo, clip, what is neither; self-tests; benchmark; pictures of the page on the way. */
  async tour() {
    const { browser, page, seen } = await open(camera(), { viewport: request.viewport, scale: request.scale ?? 1 });
    await page.addInitScript(spy);
    await page.goto(request.address);
    await state(page, ["ready", "failed"]);
    const found = {};
    const shoot = (name) => page.screenshot({ path: `${request.out}/${name}.png`, fullPage: true });
    const restored = () => page.waitForFunction(() => document.querySelector("#picture.restored"));
    for (const step of request.steps) {
      if (step.file) {
        await page.setInputFiles("#files", step.file);
        if (step.name === "neither") {
          await page.waitForFunction(() => document.getElementById("message").textContent !== "");
          found.neither_run = await keptRun(page);
        } else {
          await restored();
          found[`${step.name}_run`] = step.name === "photo" ? null : await keptRun(page);
        }
      } else if (step.name === "camera") {
        await restored();
        await keptRun(page);
      } else if (step.name === "test") {
        await page.click("#test");
        await state(page, ["busy"]);
        await page.waitForFunction(() => document.body.dataset.state !== "busy");
      } else if (step.name === "benchmark") {
        const download = page.waitForEvent("download");
        await page.click("#benchmark");
        await (await download).saveAs(`${request.out}/benchmark.json`);
        await state(page, ["ready", "failed"]);
      }
      found[step.name] = await texts(page);
      await shoot(step.name);
    }
    return { browser, seen, found };
  },

  /** Live, with the memory and the time of its processes after so many frames. */
  async memory() {
    const { browser, page, seen } = await open(camera());
    await page.addInitScript(spy);
    await page.goto(request.address);
    await state(page, ["ready", "failed"]);
    const session = await page.context().newCDPSession(page);
    const measure = async () => {
      await session.send("HeapProfiler.collectGarbage");
      const { metrics } = await session.send("Performance.getMetrics");
      const { processInfo } = await (await browser.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
      const resident = processInfo
        .filter(({ type }) => type === "renderer" || type === "GPU")
        .map(({ id }) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "utf-8"))[1]) * 1024);
      const heap = metrics.find(({ name }) => name === "JSHeapUsedSize").value;
      const cpu = processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0); // s, of all processes
      return { heap, cpu, resident: resident.reduce((sum, one) => sum + one, 0), frames: await page.evaluate(() => globalThis.runs), at: Date.now() / 1000 };
    };
    await session.send("Performance.enable");
    const found = [];
    for (const frames of request.after) {
      await page.waitForFunction((count) => globalThis.runs >= count, frames, { polling: 200, timeout: 0 });
      found.push({ ...(await measure()), ...(await texts(page)) });
    }
    return { browser, seen, found };
  },
};

const { browser, ...result } = await scenarios[scenario]();
await browser.close();
console.log(JSON.stringify(result));
