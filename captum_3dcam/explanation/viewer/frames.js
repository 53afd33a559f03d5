// An image, or the frames of a video, beside the map over it.

import { blend } from "./color.js";
import { h } from "./controls.js";
import { resize } from "./data.js";
import { Stage } from "./stage.js";
import { format, percent } from "./text.js";

const FRAME = { axis: 0, vertical: 1, horizontal: 2 };

export class FrameView {
  constructor(original, palette) {
    this.original = original;
    this.palette = palette;
    this.images = original.frames.map((data) => {
      const image = new Image();
      image.src = `data:image/jpeg;base64,${data}`;
      return image;
    });
    const [rows, columns] = original.shown;
    const ratio = columns / rows;
    this.raw = new Stage("original", rows, columns, ratio);
    this.overlay = new Stage("map over the original", rows, columns, ratio);
    this.scratch = h("canvas", { width: columns, height: rows }).getContext("2d", {
      willReadFrequently: true,
    });
    this.readout = h("p", { className: "c3d-readout" });
    this.element = h("div", {}, [
      h("div", { className: "c3d-stages" }, [this.raw.element, this.overlay.element]),
      this.readout,
    ]);
    this.pointer = null;
    for (const stage of [this.raw, this.overlay]) {
      stage.onHover((position) => {
        this.pointer = position;
        this.read();
      });
    }
    this.keys = {};
    this.help = [];
  }

  get stages() {
    return [this.raw, this.overlay];
  }

  /** Draw the frame of the state; false if another one was requested while it was decoded. */
  async draw(heat, state, boxes) {
    this.requested = state.frame;
    const image = this.images[state.frame];
    await image.decode();
    if (this.requested !== state.frame) return false;
    const [rows, columns] = this.original.shown;
    this.scratch.drawImage(image, 0, 0);
    const base = this.scratch.getImageData(0, 0, columns, rows).data;
    const levels = resize(heat.grid.plane(FRAME, state.frame), rows, columns);
    this.strengths = levels.map((level) => level / 255);
    this.peak = heat.peak;
    const shown = boxes[state.frame] ?? [];
    this.raw.paint(base, "The original");
    this.overlay.paint(blend(base, this.strengths, this.palette, state), heat.description);
    for (const stage of this.stages) stage.outline(shown);
    this.read();
    return true;
  }

  /** The value under the pointer. */
  read() {
    if (!this.pointer || !this.strengths) {
      this.readout.textContent = "Point at the image, or tap it, to read the map.";
      return;
    }
    const [rows, columns] = this.original.shown;
    const [y, x] = this.pointer;
    const share = this.strengths[Math.floor(y * rows) * columns + Math.floor(x * columns)];
    const [height, width] = this.original.size;
    const pixel = `x ${Math.floor(x * width)}, y ${Math.floor(y * height)}`;
    this.readout.textContent = `${pixel}: ${format(share * this.peak)} (${percent(share)} of max.)`;
  }
}
