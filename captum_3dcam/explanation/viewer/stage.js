// One drawn image: its pixels, the lines over them, and the pointer on it.

import { h, svg } from "./controls.js";

// Of Okabe and Ito's colours those that stand out from black and from the map.
const COLORS = ["#56B4E9", "#FFFFFF", "#009E73", "#F0E442", "#CC79A7"];
const DASHES = ["", "8 4", "10 3 2 3", "2 3"];

/** How the lines of a numbered region are drawn. */
export function lineStyle(number) {
  return {
    stroke: COLORS[number % COLORS.length],
    "stroke-dasharray": DASHES[number % DASHES.length],
  };
}

export class Stage {
  /** `ratio` is the width by the height at which `columns` by `rows` pixels are shown. */
  constructor(caption, rows, columns, ratio) {
    this.size = [rows, columns];
    this.canvas = h("canvas", { width: columns, height: rows });
    this.canvas.setAttribute("role", "img");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true }); // not on a GPU
    this.lines = svg("svg", {
      viewBox: `0 0 1 1`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.labels = h("div", { className: "c3d-labels" });
    this.surface = h("div", { className: "c3d-stage", style: { "--ratio": ratio } }, [
      this.canvas,
      this.lines,
      this.labels,
    ]);
    this.caption = h("figcaption", { textContent: caption });
    this.element = h("figure", {}, [this.caption, this.surface]);
  }

  paint(pixels, description) {
    const [rows, columns] = this.size;
    this.context.putImageData(new ImageData(pixels, columns, rows), 0, 0);
    this.canvas.setAttribute("aria-label", description);
  }

  /** Draw boxes {number, label, corners: [y0, x0, y1, x1]} and other lines, in fractions. */
  outline(boxes, others = []) {
    this.lines.replaceChildren(...boxes.flatMap(boxLines), ...others);
    this.labels.replaceChildren(...boxes.map(boxLabel));
    hideCovering([...this.labels.children]);
  }

  /** Where a pointer event is, in fractions of the height and width. */
  locate(event) {
    const { left, top, width, height } = this.surface.getBoundingClientRect();
    const inside = (value) => Math.min(Math.max(value, 0), 1 - 1e-9);
    return [inside((event.clientY - top) / height), inside((event.clientX - left) / width)];
  }

  /** Call with the position of the pointer as it moves, and with null as it leaves. */
  onHover(callback) {
    this.surface.addEventListener("pointermove", (event) => callback(this.locate(event)));
    this.surface.addEventListener("pointerdown", (event) => callback(this.locate(event)));
    this.surface.addEventListener("pointerleave", ({ pointerType }) => {
      if (pointerType !== "touch") callback(null); // what was tapped stays readable
    });
  }
}

/** Call with each position of a press and of the drag that follows it. */
export function onDrag(element, callback) {
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    callback(event);
  });
  element.addEventListener("pointermove", (event) => {
    if (element.hasPointerCapture(event.pointerId)) callback(event);
  });
}

/** A line of a colour on a black edge, legible on any image. */
export function edged(tag, attributes, style) {
  return [
    svg(tag, { ...attributes, class: "c3d-edge" }),
    svg(tag, { ...attributes, ...style, class: "c3d-line" }),
  ];
}

function boxLines({ number, style, corners: [y0, x0, y1, x1] }) {
  const rectangle = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
  return edged("rect", rectangle, style ?? lineStyle(number));
}

/** Of labels that would cover one another, the first is legible. */
function hideCovering(labels) {
  const shown = [];
  for (const [i, rect] of labels.map((label) => label.getBoundingClientRect()).entries()) {
    const covers = ({ left, right, top, bottom }) =>
      rect.left < right && left < rect.right && rect.top < bottom && top < rect.bottom;
    labels[i].hidden = shown.some(covers);
    if (!labels[i].hidden) shown.push(rect);
  }
}

/** Above the box, or below where there is no space above. */
function boxLabel({ label, corners: [y0, x0, y1] }) {
  const vertical = y0 > 0.1 ? { bottom: `${100 - 100 * y0}%` } : { top: `${100 * y1}%` };
  return h("span", { textContent: label, style: { left: `${100 * x0}%`, ...vertical } });
}
