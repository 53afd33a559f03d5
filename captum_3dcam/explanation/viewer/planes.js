// A scan: three linked planes with a crosshair, the patient's sides and millimetres.

import { blend, fromGrey } from "./color.js";
import { h } from "./controls.js";
import { Grid, rescale, resize } from "./data.js";
import { edged, onDrag, Stage } from "./stage.js";
import { format, percent } from "./text.js";

// As in the figures of captum_3dcam.visualization.
const CROSSHAIR = { stroke: "#56B4E9" };
const BOX = { stroke: "#F0E442" };
const AXES = "DHW";

export class PlanesView {
  /** `onMove` is called with the voxel of the scan, [d, h, w], that the crosshair is to be on. */
  static async create(original, palette, onMove) {
    return new PlanesView(original, await Grid.from(original.scan), palette, onMove);
  }

  constructor(original, scan, palette, onMove) {
    Object.assign(this, { original, scan, palette, onMove });
    this.readout = h("p", { className: "c3d-readout" });
    this.planes = original.planes.map((plane) => new PlaneView(plane, this));
    this.active = this.planes[0];
    this.pointer = null;
    const elements = this.planes.map((plane) => plane.element);
    // One scale of length.
    const [heights, widths] = [0, 1].map((i) => this.planes.map(({ lengths }) => lengths[i]));
    const wide = widths.reduce((sum, width) => sum + width) / Math.max(...heights);
    const columns = widths.map((width) => `${width}fr`).join(" ");
    this.element = h("div", {}, [
      h("div", { className: "c3d-planes", style: { "--columns": columns, "--wide": wide } }, elements),
      this.readout,
    ]);
    this.keys = {
      ArrowLeft: () => this.active.step(0, -1),
      ArrowRight: () => this.active.step(0, 1),
      ArrowUp: () => this.active.step(1, -1),
      ArrowDown: () => this.active.step(1, 1),
      PageUp: () => this.active.turn(1),
      PageDown: () => this.active.turn(-1),
    };
    this.help = [
      [["←", "→", "↑", "↓"], "move the crosshair in the plane last used"],
      [["Page ↑", "Page ↓"], "slice by slice"],
      ...(original.patient?.is_oblique
        ? [[[], "~R, ~A, ~S: the closest direction of an oblique grid; mm at the crosshair"]]
        : []),
    ];
  }

  get stages() {
    return this.planes.flatMap(({ raw, overlay }) => [raw, overlay]);
  }

  async draw(heat, state, boxes) {
    this.heat = heat;
    this.voxel = state.voxel;
    for (const plane of this.planes) plane.draw(heat, state, boxes[0] ?? []);
    this.read();
    return true;
  }

  move(axis, index) {
    const voxel = [...this.voxel];
    voxel[axis] = Math.min(Math.max(index, 0), this.original.size[axis] - 1);
    this.onMove(voxel);
  }

  /** The millimetres of a voxel: the patient's, or on a bare grid from the first voxel. */
  toMm(voxel) {
    const { patient, spacing, decimals } = this.original;
    const rows = patient?.affine ?? spacing.map((mm, i) => [0, 1, 2].map((j) => (i === j ? mm : 0)));
    return rows.slice(0, 3).map((row) => {
      const mm = row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + (row[3] ?? 0);
      return Number(mm.toFixed(decimals)) + 0;
    });
  }

  /** The map's share of its maximum at a voxel: linear between the map's own. */
  shareAt(voxel) {
    const { grid } = this.heat;
    const [d, y, x] = voxel.map((i, axis) => rescale(i, this.original.size[axis], grid.size[axis]));
    const plane = grid.plane({ axis: 0, vertical: 1, horizontal: 2 }, d);
    const row = Math.min(Math.floor(y), plane.height - 1);
    const column = Math.min(Math.floor(x), plane.width - 1);
    const at = (i, j) =>
      plane.values[Math.min(i, plane.height - 1) * plane.width + Math.min(j, plane.width - 1)];
    const [down, across] = [y - row, x - column];
    const mix = (a, b, weight) => a + weight * (b - a);
    const above = mix(at(row, column), at(row, column + 1), across);
    const below = mix(at(row + 1, column), at(row + 1, column + 1), across);
    return mix(above, below, down) / 255;
  }

  describe(name, voxel) {
    const share = this.shareAt(voxel);
    const { patient, spacing } = this.original;
    const mm = spacing ? ` ${this.toMm(voxel).join(", ")} mm${patient ? " (RAS)" : ""};` : "";
    const value = `${format(share * this.heat.peak)} (${percent(share)} of max.)`;
    return `${name}: voxel ${voxel.join(", ")};${mm} map ${value}`;
  }

  read() {
    const lines = [this.describe("Crosshair", this.voxel)];
    lines.push(this.pointer ? this.describe("Pointer", this.pointer) : "");
    this.readout.replaceChildren(...lines.map((textContent) => h("span", { textContent })));
  }
}

class PlaneView {
  constructor(plane, view) {
    Object.assign(this, plane);
    this.view = view;
    const { size } = view.scan;
    const [height, width] = this.lengths;
    const sides = [size[this.vertical], size[this.horizontal], width / height];
    this.title = this.name || `across ${AXES[this.axis]}`;
    this.raw = new Stage(`${this.title}, original`, ...sides);
    this.overlay = new Stage(this.title, ...sides);
    this.slider = h("input", { type: "range", min: 0, step: 1 });
    this.slider.max = view.original.size[this.axis] - 1;
    this.slider.setAttribute("aria-label", `${this.title} slice`);
    this.slider.oninput = () => view.move(this.axis, Number(this.slider.value));
    this.label = h("output");
    for (const stage of [this.raw, this.overlay]) this.listen(stage);
    this.element = h("div", { className: "c3d-plane-view" }, [
      this.raw.element,
      this.overlay.element,
      h("div", { className: "c3d-slice" }, [this.slider, this.label]),
    ]);
  }

  listen(stage) {
    stage.surface.tabIndex = 0;
    stage.surface.setAttribute("aria-label", `${this.title} plane`);
    stage.surface.addEventListener("focus", () => (this.view.active = this));
    stage.surface.append(
      ...[...this.edges].map((letter, i) =>
        h("span", { className: `c3d-side c3d-side-${i}`, textContent: letter }),
      ),
    );
    stage.onHover((position) => {
      this.view.pointer = position && this.voxelAt(position);
      this.view.read();
    });
    onDrag(stage.surface, (event) => {
      this.view.active = this;
      this.view.onMove(this.voxelAt(stage.locate(event)));
    });
  }

  /** The voxel of the scan at fractions of the drawn height and width. */
  voxelAt([y, x]) {
    const { size } = this.view.original;
    const voxel = [...this.view.voxel];
    voxel[this.vertical] = Math.floor((this.down ? y : 1 - y - 1e-9) * size[this.vertical]);
    voxel[this.horizontal] = Math.floor((this.right ? x : 1 - x - 1e-9) * size[this.horizontal]);
    return voxel;
  }

  /** Move the crosshair by a voxel to the right (0) or down (1) on the screen. */
  step(direction, by) {
    const axis = direction ? this.vertical : this.horizontal;
    const grows = direction ? this.down : this.right;
    this.view.move(axis, this.view.voxel[axis] + (grows ? by : -by));
  }

  turn(by) {
    this.view.move(this.axis, this.view.voxel[this.axis] + by);
  }

  draw(heat, state, boxes) {
    const { scan, original, palette } = this.view;
    const index = state.voxel[this.axis];
    const length = original.size[this.axis];
    const nearest = Math.floor(((index + 0.5) * scan.size[this.axis]) / length);
    const { values, height, width } = scan.plane(this, nearest);
    const base = this.turned(fromGrey(values), height, width, 4);
    const cut = heat.grid.plane(this, rescale(index, length, heat.grid.size[this.axis]));
    const levels = this.turned(resize(cut, height, width), height, width, 1);
    const strengths = levels.map((level) => level / 255);
    const crossing = boxes.filter(({ corners }) => {
      const middle = (index + 0.5) / length;
      return corners[this.axis] <= middle && middle < corners[this.axis + 3];
    });
    this.raw.paint(base, `The scan, slice ${this.title}`);
    this.overlay.paint(blend(base, strengths, palette, state), heat.description);
    const drawn = crossing.map((box) => ({ ...box, style: BOX, corners: this.onScreen(box.corners) }));
    for (const stage of [this.raw, this.overlay]) stage.outline(drawn, this.crosshair(state.voxel));
    this.slider.value = index;
    this.label.textContent = this.position(state.voxel);
    this.slider.setAttribute("aria-valuetext", this.label.textContent);
  }

  /** An image with its axes in the order of the grid, as it is drawn. */
  turned(pixels, height, width, channels) {
    if (this.down && this.right) return pixels;
    const result = new pixels.constructor(pixels.length);
    for (let y = 0, i = 0; y < height; y++) {
      const row = this.down ? y : height - 1 - y;
      for (let x = 0; x < width; x++) {
        const from = channels * (row * width + (this.right ? x : width - 1 - x));
        for (let c = 0; c < channels; c++) result[i++] = pixels[from + c];
      }
    }
    return result;
  }

  onScreen(corners) {
    const vertical = [corners[this.vertical], corners[this.vertical + 3]];
    const horizontal = [corners[this.horizontal], corners[this.horizontal + 3]];
    const [y0, y1] = this.down ? vertical : vertical.map((y) => 1 - y).reverse();
    const [x0, x1] = this.right ? horizontal : horizontal.map((x) => 1 - x).reverse();
    return [y0, x0, y1, x1];
  }

  crosshair(voxel) {
    const { size } = this.view.original;
    const middle = (axis, grows) => {
      const share = (voxel[axis] + 0.5) / size[axis];
      return grows ? share : 1 - share;
    };
    const [x, y] = [middle(this.horizontal, this.right), middle(this.vertical, this.down)];
    return [
      ...edged("line", { x1: x, x2: x, y1: 0, y2: 1 }, CROSSHAIR),
      ...edged("line", { x1: 0, x2: 1, y1: y, y2: y }, CROSSHAIR),
    ];
  }

  /** As "D = 3, S 15 mm", on an oblique grid "~S", on a bare one without the letter. */
  position(voxel) {
    const { patient, spacing } = this.view.original;
    const index = `${AXES[this.axis]} = ${voxel[this.axis]}`;
    if (!spacing) return index;
    const world = patient ? patient.world_axes[this.axis] : this.axis;
    const letter = patient ? `${patient.is_oblique ? "~" : ""}${"RAS"[world]} ` : "";
    return `${index}, ${letter}${this.view.toMm(voxel)[world]} mm`;
  }
}
