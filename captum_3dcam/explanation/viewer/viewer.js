// The viewer: the state, the controls that change it, and the views that show it.

import { ColorBar } from "./color.js";
import { choice, h, helpLine, isUsed, slider, toggle } from "./controls.js";
import { fromBase64, Grid } from "./data.js";
import { FrameView } from "./frames.js";
import { lineStyle } from "./stage.js";
import { PlanesView } from "./planes.js";
import { format, formatProbability, isolate, percent } from "./text.js";
import { Timeline } from "./timeline.js";

const GROUPS = { method: "Methods", layer: "Layers", counterfactual: "Against the class" };
const MAX_LISTED = 3; // tubes, and segments
const WIDE = 700; // pixels, from which the original is shown beside the map without a request

/** Show the payload in an element. Keys are taken from `keyboard`, by default the element. */
export async function mount(root, payload, keyboard = root) {
  root.classList.add("c3d-viewer");
  try {
    const viewer = new Viewer(root, payload);
    await viewer.start();
    keyboard.addEventListener("keydown", (event) => viewer.press(event));
  } catch (error) {
    const needed = "This viewer needs a browser of 2023 or later.";
    const text = typeof DecompressionStream === "undefined" ? needed : `The viewer failed: ${error}`;
    root.replaceChildren(h("p", { className: "c3d-alert", textContent: text }));
    throw error;
  }
}

class Viewer {
  constructor(root, payload) {
    this.root = root;
    this.payload = payload;
    this.palette = fromBase64(payload.palette);
    this.heats = new Map();
    this.state = {
      classIndex: 0,
      mapIndex: 0,
      opacity: 0.8,
      threshold: 0,
      grey: true,
      beside: false,
      regions: true,
      frame: 0,
      voxel: null,
    };
  }

  async start() {
    const { original, classes } = this.payload;
    this.view =
      original.kind === "volume"
        ? await PlanesView.create(original, this.palette, (voxel) => this.set({ voxel }))
        : new FrameView(original, this.palette);
    if (original.kind === "video") {
      this.timeline = new Timeline(original, (frame) => this.set({ frame }));
    }
    this.buildControls();
    this.bar = new ColorBar(this.palette);
    this.alert = h("p", { className: "c3d-alert", role: "status" });
    this.legend = h("div", { className: "c3d-legend" });
    this.help = this.helpKeys();
    await this.startAtPeak();
    this.root.replaceChildren(
      h("h2", { textContent: this.payload.title }),
      h("p", { className: "c3d-scores" }, [classes.map(describeClass).join("; ")]),
      ...this.payload.warnings.map((text) => h("p", { className: "c3d-alert", textContent: text })),
      ...(original.note ? [h("p", { className: "c3d-note", textContent: original.note })] : []),
      this.controls,
      this.alert,
      this.view.element,
      this.bar.element,
      ...(this.timeline ? [this.timeline.element] : []),
      this.legend,
      helpLine(this.help),
    );
    await this.redraw();
    if (original.kind !== "volume") this.followWidth();
  }

  /** Show the original beside the map where it fits, until it is chosen or not. */
  followWidth() {
    this.width = new ResizeObserver(() => {
      const beside = this.root.clientWidth >= WIDE;
      if (beside !== this.state.beside) this.set({ beside });
    });
    this.width.observe(this.root);
  }

  chooseBeside(beside) {
    this.width?.disconnect();
    this.set({ beside });
  }

  /** What is shown first is where the main map is highest. */
  async startAtPeak() {
    const heat = await this.heat();
    this.state.frame = heat.means.indexOf(Math.max(...heat.means));
    if (this.payload.original.kind === "volume") Object.assign(this.state, { frame: 0, voxel: heat.voxel });
  }

  buildControls() {
    const { classes, maps, regions } = this.payload;
    const { kind } = this.payload.original;
    this.inputs = {
      classIndex: choice("class", classes.map(({ name }, i) => [isolate(name) + keyHint(classes, i)]), (classIndex) =>
        this.set({ classIndex }),
      ),
      mapIndex: choice("map", maps.map(({ name, group }) => [name, GROUPS[group]]), (mapIndex) =>
        this.set({ mapIndex }),
      ),
      opacity: slider("opacity", percent, (opacity) => this.set({ opacity })),
      threshold: slider(
        "threshold",
        (share) => `${percent(share)} of max.`,
        (threshold) => this.set({ threshold }),
      ),
      grey: toggle("grey", (grey) => this.set({ grey })),
      beside: toggle("original beside", (beside) => this.chooseBeside(beside)),
    };
    if (kind === "volume") delete this.inputs.grey;
    this.regionName = kind === "video" ? "tubes and segments" : "boxes";
    if (regions.length) {
      this.inputs.regions = toggle(this.regionName, (shown) => this.set({ regions: shown }));
    }
    const elements = Object.values(this.inputs).map(({ element }) => element);
    const toggles = elements.filter((element) => element.matches(".c3d-toggle"));
    const fields = elements.filter((element) => !toggles.includes(element));
    const group = h("div", { className: "c3d-toggles" }, toggles);
    this.controls = h("div", { className: "c3d-controls" }, [...fields, group]);
  }

  helpKeys() {
    const { classes, maps } = this.payload;
    const numbers = ["1", "…", String(Math.min(classes.length, 9))];
    return [
      ...this.view.help,
      ...(this.timeline?.help ?? []),
      ...(classes.length > 1 ? [[numbers, "class"]] : []),
      ...(maps.length > 1 ? [[["["], "previous map"], [["]"], "next map"]] : []),
      [["+", "−"], "opacity"],
      [["<", ">"], "threshold"],
      ...(this.inputs.grey ? [[["g"], "grey or colour"]] : []),
      [["o"], "original beside"],
      ...(this.inputs.regions ? [[["b"], this.regionName]] : []),
    ];
  }

  /** Change the state, and show it. */
  set(changes) {
    Object.assign(this.state, changes);
    return this.redraw();
  }

  /** The chosen map of the chosen class, unpacked when it is first shown. */
  heat() {
    const { classIndex, mapIndex } = this.state;
    const key = `${mapIndex}/${classIndex}`;
    if (!this.heats.has(key)) this.heats.set(key, this.unpackHeat(mapIndex, classIndex));
    return this.heats.get(key);
  }

  async unpackHeat(mapIndex, classIndex) {
    const map = this.payload.maps[mapIndex];
    const { peak, voxel, means, ...packed } = map.classes[classIndex];
    const grid = await Grid.from(packed);
    const name = this.payload.classes[classIndex].name;
    const { meaning } = map;
    return { grid, peak, voxel, means, meaning, description: `The map ${map.name} of the class ${name}` };
  }

  async redraw() {
    const { state } = this;
    for (const [name, input] of Object.entries(this.inputs)) input.set(state[name]);
    this.view.element.classList.toggle("c3d-alone", !state.beside);
    const drawn = { ...state };
    const heat = await this.heat();
    // The regions are those of the main map.
    this.inputs.regions?.disable(state.mapIndex === 0 ? "" : "of the first map only");
    const hasRegions = state.regions && state.mapIndex === 0;
    const regions = hasRegions && this.payload.regions[state.classIndex];
    if (!(await this.view.draw(heat, drawn, regions ? regions.frames : []))) return;
    const isZero = !(heat.peak > 0);
    this.alert.textContent = isZero ? `The map is zero. ${heat.description} shows nothing.` : "";
    this.alert.hidden = !isZero;
    this.bar.draw(heat, state.threshold);
    this.drawLegend(regions && this.timeline ? regions : null);
    this.timeline?.profile.draw(heat.means, regions ? regions.segments : []);
    this.timeline?.mark(drawn.frame);
  }

  /** Buttons that seek to the tubes and segments; drawn anew only if these are others. */
  drawLegend(regions) {
    if (regions === this.listed) return;
    this.listed = regions;
    const { tubes, segments } = regions ?? { tubes: [], segments: [] };
    const entry = (text, region, properties) =>
      h("button", { type: "button", ...properties, onclick: () => this.timeline.seek(region.start) }, [
        `${text} ${format(region.score)}`,
      ]);
    const lists = [
      tubes.map((tube, i) =>
        entry(`tube ${i + 1}: ${this.timeline.describe(tube)}, mean of the frames' maxima`, tube, {
          style: { "--line": lineStyle(i + 1).stroke },
        }),
      ),
      segments.map((segment) =>
        entry(`segment: ${this.timeline.describe(segment)}, mean of the map`, segment, {}),
      ),
    ];
    this.legend.replaceChildren(...lists.flatMap(folded));
    this.legend.hidden = !lists.flat().length;
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isUsed(event)) return;
    const action = this.actions()[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  actions() {
    const { state, payload } = this;
    const shift = (name, by) => () =>
      this.set({ [name]: Math.min(Math.max(Math.round(100 * (state[name] + by)) / 100, 0), 1) });
    const flip = (name) => () => this.set({ [name]: !state[name] });
    const nextMap = (by) => () => {
      const { length } = payload.maps;
      this.set({ mapIndex: (state.mapIndex + by + length) % length });
    };
    const classes = payload.classes.slice(0, 9).map((_, classIndex) => [
      String(classIndex + 1),
      () => this.set({ classIndex }),
    ]);
    return {
      ...Object.fromEntries(classes),
      ...this.view.keys,
      ...this.timeline?.keys,
      "[": nextMap(-1),
      "]": nextMap(1),
      "+": shift("opacity", 0.1),
      "-": shift("opacity", -0.1),
      ">": shift("threshold", 0.05),
      "<": shift("threshold", -0.05),
      g: flip("grey"),
      o: () => this.chooseBeside(!state.beside),
      ...(state.mapIndex === 0 ? { b: flip("regions") } : {}),
    };
  }
}

function describeClass({ name, score, probability }) {
  return `${isolate(name)}: probability ${formatProbability(probability)}, class score ${format(score)}`;
}

/** The first of some elements, and the others folded away. */
function folded(elements) {
  const others = elements.slice(MAX_LISTED);
  if (!others.length) return elements;
  const summary = h("summary", { textContent: `and ${others.length} more` });
  return [...elements.slice(0, MAX_LISTED), h("details", {}, [summary, ...others])];
}

/** The key of a class, where there are several. */
function keyHint(classes, i) {
  return classes.length > 1 && i < 9 ? ` (key ${i + 1})` : "";
}
