/** The page: one network at a time, on the camera, a clip or a photo. */
import type { BundleCheck } from "../core/bundle_check.ts";
import type { Artifact } from "../core/contract.ts";
import { Fault, lineOf } from "../core/fault.ts";
import { type Size, textOf } from "../core/size.ts";
import type { Rotation } from "../core/affine.ts";
import { benchmark, deviceOf } from "../lens/benchmark.ts";
import { bestFor, isLive, runnable } from "../lens/choice.ts";
import { Feeding } from "../lens/feeding.ts";
import { goldenInputs, verdictOf } from "../lens/golden.ts";
import { LiveView } from "../lens/live_view.ts";
import type { Processor } from "../lens/messages.ts";
import { Model } from "../lens/model.ts";
import { Renderer } from "../lens/renderer.ts";
import { isReadable, openCamera, openClip, openPhoto, type Source } from "../lens/sources.ts";
import { wireAmount } from "./amount.ts";
import { type Offered, offeredBundles } from "./bundles.ts";
import { wireDivider } from "./divider.ts";
import { download, element, fill, say } from "./elements.ts";
import { heading, selfTests } from "./self_tests.ts";
import * as trouble from "./trouble.ts";

type State = "loading" | "warming" | "ready" | "failed" | "busy";

const BENCHMARK = { warmup: 3, runs: 30, liveSeconds: 10 };
const BETWEEN_REPORTS_MS = 250;

class Page {
  private readonly lists = {
    network: element<HTMLSelectElement>("network"),
    file: element<HTMLSelectElement>("file"),
    processor: element<HTMLSelectElement>("processor"),
    cameras: element<HTMLSelectElement>("cameras"),
  };
  private readonly canvas = element<HTMLCanvasElement>("canvas");
  private readonly renderer: Renderer;
  private readonly view: LiveView;
  private model: Model | null = null;
  private source: Source | null = null;
  private shown: Size = { width: 4, height: 3 };
  private loads = 0; // only the newest one counts
  private sources = 0;
  private cameraFor: Feeding | null = null; // what an open camera was asked for
  private reported = 0;
  private instead = ""; // why the GPU does not do it

  constructor(private readonly offered: readonly Offered[]) {
    this.renderer = new Renderer(this.canvas);
    this.view = new LiveView(
      this.renderer,
      (shown) => this.arrange(shown),
      () => this.report(),
      (error) => this.fail(error),
    );
    wireDivider(this.view);
    wireAmount(this.view);
    this.canvas.addEventListener("webglcontextlost", () => {
      this.fail(new Fault("the graphics driver gave up; load the page anew"));
    });
    new ResizeObserver(() => this.layOut()).observe(element("stage"));
    const { network, file, processor, cameras } = this.lists;
    network.addEventListener("change", () => this.chooseNetwork());
    file.addEventListener("change", () => void this.load());
    processor.addEventListener("change", () => this.chooseFile());
    cameras.addEventListener("change", () => void this.startCamera());
    this.wireButtons();
    this.wireDrop();
  }

  async start(): Promise<void> {
    fill(this.lists.network, this.offered.map(({ name, bundle }, at) => [`${at}`, bundle?.contract.title ?? name]));
    const hasGpu = await this.offerProcessors();
    this.instead = hasGpu ? "" : trouble.NO_WEBGPU;
    this.chooseNetwork();
    await this.startCamera();
  }

  /** The GPU where there is a real one. */
  private async offerProcessors(): Promise<boolean> {
    const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
    fill(this.lists.processor, [
      ...(adapter ? [["webgpu", "GPU (WebGPU)"] as const] : []),
      ["wasm", "CPU (wasm)"],
    ]);
    this.lists.processor.value = adapter && !adapter.info.isFallbackAdapter ? "webgpu" : "wasm";
    return Boolean(adapter);
  }

  private get processor(): Processor {
    return this.lists.processor.value as Processor;
  }

  private get bundle(): BundleCheck | null {
    return this.offered[Number(this.lists.network.value)]?.bundle ?? null;
  }

  private get artifact(): Artifact | undefined {
    const { file } = this.lists;
    return this.bundle === null || file.value === "" ? undefined : runnable(this.bundle.contract)[Number(file.value)];
  }

  private chooseNetwork(): void {
    const { bundle } = this;
    const artifacts = bundle === null ? [] : runnable(bundle.contract);
    fill(this.lists.file, artifacts.map((artifact, at) => [`${at}`, `${textOf(artifact)} ${artifact.variant}`]));
    this.lists.file.value = "";
    element("results").hidden = true;
    this.chooseFile();
  }

  /** The variant that suits the processor, of the size that is chosen. */
  private chooseFile(): void {
    const { bundle, artifact } = this;
    if (bundle !== null) {
      const artifacts = runnable(bundle.contract);
      const same = artifacts.filter(({ width, height }) => width === artifact?.width && height === artifact.height);
      const best = bestFor(this.processor, artifact === undefined ? artifacts : same);
      if (best !== undefined) this.lists.file.value = `${artifacts.indexOf(best)}`;
    }
    void this.load();
  }

  /** Opens the chosen file on the chosen processor; the raw preview goes on meanwhile. */
  private async load(): Promise<void> {
    const load = ++this.loads;
    const { bundle, artifact, processor } = this;
    this.model?.close();
    this.model = null;
    this.view.expect(null);
    element("picture").classList.remove("restored");
    if (bundle === null || artifact === undefined) {
      const { name, fault } = this.offered[Number(this.lists.network.value)]!;
      return this.fail(new Fault(`${name} cannot be used. ${fault ?? "It has no TFLite file."}`));
    }
    const feeding = new Feeding(bundle.contract.camera, artifact);
    if (isLive(artifact)) this.view.expect(feeding);
    if (this.cameraFor !== null && !feeding.wantsSame(this.cameraFor)) void this.startCamera();
    this.state("warming");
    say("runs", `Warming up ${artifact.file} …`);
    say("note", "");
    try {
      const { model, verdict } = await this.open(bundle, artifact, processor);
      if (load !== this.loads) return model.close();
      this.model = model;
      say("runs", `${artifact.file} on ${model.accelerator.name}${verdict}`);
      say("note", isLive(artifact) ? this.instead : trouble.NOT_LIVE);
      if (isLive(artifact)) this.view.load(model);
      this.state("ready");
    } catch (error) {
      if (load !== this.loads) return;
      if (processor === "wasm") return this.fail(error);
      this.instead = trouble.gpuRefused(error);
      this.lists.processor.value = "wasm";
      this.chooseFile();
    }
  }

  /** The first run, which is the slowest, is the self-test. */
  private async open(
    bundle: BundleCheck,
    artifact: Artifact,
    processor: Processor,
  ): Promise<{ model: Model; verdict: string }> {
    const model = await Model.open(bundle, artifact, processor);
    try {
      if (processor === "webgpu") this.instead = "";
      const ran = await model.run(await goldenInputs(bundle, model));
      const { test } = await verdictOf(bundle, model, ran);
      if (test !== null && !test.passed) throw new Fault(`${artifact.file} fails its self-test: ${test.line}`);
      const verdict = test === null ? "" : `: self-test ${test.psnr.toFixed(1)} dB, floor ${test.floor.toFixed(1)}`;
      return { model, verdict };
    } catch (error) {
      model.close();
      throw error;
    }
  }

  private async startCamera(): Promise<void> {
    const { artifact, bundle } = this;
    if (bundle === null || artifact === undefined) return;
    const feeding = new Feeding(bundle.contract.camera, artifact);
    const chosen = this.lists.cameras.value || null;
    await this.replaceSource(
      () =>
        openCamera(feeding.wanted, feeding.exact !== null, chosen, this.view.takeFrame, () =>
          say("message", trouble.CAMERA_ENDED),
        ),
      trouble.cameraTrouble,
      { moves: true, mirrored: true },
    );
    if (this.source !== null) this.cameraFor = feeding;
    await this.listCameras();
  }

  private async listCameras(): Promise<void> {
    const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const cameras = devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId !== "");
    fill(this.lists.cameras, cameras.map(({ deviceId, label }, at) => [deviceId, label || `Camera ${at + 1}`]));
    this.lists.cameras.hidden = cameras.length < 2;
  }

  private async show(file: File): Promise<void> {
    const isClip = file.type.startsWith("video/");
    const { sources } = this;
    if (!(await isReadable(file, isClip))) {
      if (sources === this.sources) say("message", trouble.UNREADABLE); // what is shown goes on
      return;
    }
    await this.replaceSource(
      () => (isClip ? openClip : openPhoto)(file, this.view.takeFrame),
      () => trouble.UNREADABLE,
      { moves: isClip, mirrored: false },
    );
  }

  private async replaceSource(
    open: () => Promise<Source>,
    sentence: (error: unknown) => string,
    { moves, mirrored }: { moves: boolean; mirrored: boolean },
  ): Promise<void> {
    const number = ++this.sources;
    this.source?.close();
    this.source = null;
    this.cameraFor = null;
    this.view.begin(moves, mirrored);
    element("picture").hidden = true; // until there is a frame
    element("picture").classList.remove("restored");
    for (const figure of ["fps", "dropped", "input", "model", "output", "draw"]) say(figure, "–");
    say("message", "");
    try {
      const source = await open();
      if (number !== this.sources) return source.close();
      this.source = source;
      this.view.mirror = source.mirrored;
    } catch (error) {
      if (number === this.sources) say("message", sentence(error));
    }
    element("mirror").ariaPressed = `${this.view.mirror}`;
  }

  private wireButtons(): void {
    const files = element<HTMLInputElement>("files");
    element("camera").addEventListener("click", () => void this.startCamera());
    element("open").addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      const [file] = files.files ?? [];
      if (file !== undefined) void this.show(file);
      files.value = "";
    });
    element("turn").addEventListener("click", () => {
      this.view.rotation = ((this.view.rotation + 90) % 360) as Rotation;
    });
    element("mirror").addEventListener("click", () => {
      this.view.mirror = !this.view.mirror;
      element("mirror").ariaPressed = `${this.view.mirror}`;
    });
    element("test").addEventListener("click", () => void this.alone((bundle) => selfTests(bundle, this.processor)));
    element("benchmark").addEventListener("click", () => {
      void this.alone((bundle, artifact) => this.measure(bundle, artifact));
    });
  }

  private wireDrop(): void {
    const stage = element("stage");
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      stage.classList.add("drop");
    });
    document.addEventListener("dragleave", () => stage.classList.remove("drop"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      stage.classList.remove("drop");
      const [file] = event.dataTransfer?.files ?? [];
      if (file !== undefined) void this.show(file);
    });
  }

  /** Something that wants the processor for itself: the live picture rests meanwhile. */
  private async alone(work: (bundle: BundleCheck, artifact: Artifact) => Promise<void>): Promise<void> {
    const { bundle, artifact } = this;
    if (bundle === null || artifact === undefined) return;
    this.loads++;
    this.sources++;
    this.source?.close();
    this.source = null;
    this.cameraFor = null;
    this.model?.close();
    this.model = null;
    this.view.expect(null);
    this.view.begin(false, false);
    element("picture").hidden = true;
    say("message", "");
    this.state("busy");
    const controls = document.querySelectorAll<HTMLButtonElement | HTMLSelectElement>("button, select");
    for (const control of controls) control.disabled = true;
    try {
      await work(bundle, artifact);
    } finally {
      for (const control of controls) control.disabled = false;
      void this.load();
      void this.startCamera();
    }
  }

  private async measure(bundle: BundleCheck, artifact: Artifact): Promise<void> {
    const results = element("results");
    const line = document.createElement("p");
    results.replaceChildren(heading(`Benchmark of ${artifact.file}`), line);
    results.hidden = false;
    const tell = (text: string): void => {
      line.textContent = text;
    };
    try {
      this.arrange(artifact);
      const request = { bundle, artifact, processor: this.processor, ...BENCHMARK };
      const found = await benchmark(request, deviceOf(), this.renderer, (text) => tell(`${text} …`));
      const { timing, live } = found.results[0]!;
      const name = `${artifact.file.replace(/\.tflite$/, "")}_browser.json`;
      download(name, `${JSON.stringify(found, null, 1)}\n`);
      const rate = live === null ? "" : `; live ${live.fps.toFixed(1)} frames a second, ${live.dropped} dropped`;
      tell(`${timing.p50_ms.toFixed(1)} ms (median of ${timing.runs} runs)${rate}. Saved as ${name}.`);
    } catch (error) {
      tell(`Not measured: ${lineOf(error)}`);
    }
  }

  private arrange(shown: Size): void {
    this.shown = shown;
    element("picture").hidden = false;
    this.layOut();
  }

  /** As large as fits, in the picture's proportions. */
  private layOut(): void {
    const stage = element("stage");
    const [across, down] = [stage.clientWidth, Math.max(220, Math.min(innerHeight * 0.72, 720))];
    const factor = Math.min(across / this.shown.width, down / this.shown.height);
    const [width, height] = [this.shown.width * factor, this.shown.height * factor];
    const picture = element("picture");
    picture.style.width = `${width}px`;
    picture.style.height = `${height}px`;
    // No more pixels than the screen or the frame has: the browser scales the rest.
    const finest = Math.min(1, this.shown.width / (width * devicePixelRatio)) * devicePixelRatio;
    this.canvas.width = Math.max(1, Math.round(width * finest));
    this.canvas.height = Math.max(1, Math.round(height * finest));
    this.view.resized();
  }

  private report(): void {
    element("picture").classList.add("restored");
    const now = performance.now();
    if (now - this.reported < BETWEEN_REPORTS_MS && this.source?.moves) return;
    this.reported = now;
    const found = this.view.report!;
    say("fps", this.source?.moves ? found.fps.toFixed(1) : "–");
    say("dropped", `${found.dropped}`);
    for (const stage of ["input", "model", "output"] as const) say(stage, `${found.stages[stage].toFixed(1)} ms`);
    say("draw", `${found.draw.toFixed(1)} ms`);
    say("note", [this.instead, trouble.FIT_NOTES[found.fit]].filter((text) => text !== "").join(" "));
  }

  /** The raw preview goes on. */
  private fail(error: unknown): void {
    this.state("failed");
    this.model?.close();
    this.model = null;
    this.view.expect(null);
    element("picture").classList.remove("restored");
    say("runs", `The network stopped: ${lineOf(error)}`);
    say("note", "");
  }

  private state(state: State): void {
    document.body.dataset["state"] = state;
  }
}

async function main(): Promise<void> {
  const found = trouble.pageTrouble();
  if (found !== null) return stop(found);
  let page: Page;
  try {
    page = new Page(await offeredBundles());
  } catch (error) {
    return stop(trouble.canvasTrouble(error));
  }
  await page.start();
}

/** Nothing works: only the reason is left. */
function stop(sentence: string): void {
  say("message", sentence);
  for (const id of ["report", "results"]) element(id).hidden = true;
  document.querySelectorAll<HTMLElement>("nav, header label").forEach((part) => (part.hidden = true));
  document.body.dataset["state"] = "failed";
}

void main();
