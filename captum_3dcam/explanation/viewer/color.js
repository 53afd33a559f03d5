// The colours of a map over its image: the same as in captum_3dcam.visualization.

import { h } from "./controls.js";
import { format } from "./text.js";

/**
 * RGBA pixels of strengths in [0, 1] over RGBA pixels.
 *
 * The opacity grows with the square root of the strength, because low values would vanish twice:
 * dark and transparent. Strengths up to the threshold are left out.
 */
export function blend(base, strengths, palette, { opacity, threshold, grey }) {
  const pixels = new Uint8ClampedArray(base.length);
  for (let i = 0, p = 0; i < strengths.length; i++, p += 4) {
    const strength = Math.min(strengths[i], 1);
    const alpha = strength > threshold ? opacity * Math.sqrt(strength) : 0;
    const level = 3 * Math.min(Math.floor(strength * 256), 255);
    const mean = grey ? Math.floor((base[p] + base[p + 1] + base[p + 2] + 1) / 3) : 0;
    for (let c = 0; c < 3; c++) {
      const below = grey ? mean : base[p + c];
      pixels[p + c] = below + alpha * (palette[level + c] - below);
    }
    pixels[p + 3] = 255;
  }
  return pixels;
}

/** RGBA pixels of grey levels. */
export function fromGrey(levels) {
  const pixels = new Uint8ClampedArray(4 * levels.length);
  for (let i = 0, p = 0; i < levels.length; i++) {
    for (let c = 0; c < 3; c++) pixels[p++] = levels[i];
    pixels[p++] = 255;
  }
  return pixels;
}

/** The bar that says which colour is which value; what the threshold hides is hatched. */
export class ColorBar {
  constructor(palette) {
    this.ramp = h("canvas", { className: "c3d-ramp", width: 256, height: 1 });
    const levels = Uint8ClampedArray.from({ length: 1024 }, (_, i) =>
      i % 4 < 3 ? palette[3 * (i >> 2) + (i % 4)] : 255,
    );
    this.ramp.getContext("2d").putImageData(new ImageData(levels, 256, 1), 0, 0);
    this.caption = h("figcaption");
    this.hidden = h("div", { className: "c3d-hidden" });
    this.ticks = h("div", { className: "c3d-ticks" });
    this.element = h("figure", { className: "c3d-bar" }, [
      this.caption,
      h("div", { className: "c3d-scale" }, [this.ramp, this.hidden]),
      this.ticks,
    ]);
  }

  draw({ peak, meaning }, threshold) {
    this.caption.textContent = `${meaning}, 0 to this map's maximum`;
    this.hidden.style.width = `${100 * threshold}%`;
    const labels = [0, 0.25, 0.5, 0.75, 1].map((share) => format(share * peak));
    this.ticks.replaceChildren(...labels.map((text) => h("span", { textContent: text })));
  }
}
