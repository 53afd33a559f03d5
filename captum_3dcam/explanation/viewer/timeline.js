// The time of a video: play and scrub, and the profile of the map under it.

import { h, svg } from "./controls.js";
import { onDrag } from "./stage.js";
import { format } from "./text.js";

const SPEEDS = [0.25, 0.5, 1, 2];
const [WIDTH, HEIGHT] = [1000, 100];

export class Timeline {
  /** `onSeek` is called with the number of a frame; it is every `step`-th of the video. */
  constructor({ edges, step }, onSeek) {
    this.edges = edges;
    this.step = step;
    this.length = edges.length - 1;
    this.onSeek = onSeek;
    this.frame = 0;
    this.speed = 1;
    this.button = h("button", { type: "button", className: "c3d-play", onclick: () => this.toggle() });
    this.scrubber = h("input", { type: "range", min: 0, max: this.length - 1, step: 1, value: 0 });
    this.scrubber.setAttribute("aria-label", "frame");
    this.scrubber.oninput = () => this.seek(Number(this.scrubber.value));
    this.clock = h("output", { className: "c3d-clock" });
    this.rate = h("select", { onchange: () => this.setSpeed(Number(this.rate.value)) });
    this.rate.setAttribute("aria-label", "speed");
    this.rate.append(
      ...SPEEDS.map((value) => h("option", { value, textContent: `${value} ×` })),
    );
    this.rate.value = 1;
    this.profile = new Profile(edges, (frame) => this.seek(frame));
    this.element = h("div", { className: "c3d-timeline" }, [
      h("div", { className: "c3d-transport" }, [
        this.button,
        this.scrubber,
        this.clock,
        this.rate,
      ]),
      this.profile.element,
    ]);
    this.stop();
    this.keys = {
      " ": () => this.toggle(),
      ArrowRight: () => this.seek(this.frame + 1),
      ArrowLeft: () => this.seek(this.frame - 1),
      Home: () => this.seek(0),
      End: () => this.seek(this.length - 1),
    };
    this.help = [
      [["Space"], "play or stop"],
      [["←", "→"], "frame by frame"],
      [["Home", "End"], "first, last"],
    ];
  }

  /** Show a frame, and stop. */
  seek(frame) {
    this.stop();
    this.onSeek(Math.min(Math.max(frame, 0), this.length - 1));
  }

  /** Mark the frame that is shown. */
  mark(frame) {
    this.frame = frame;
    this.scrubber.value = frame;
    const last = (this.length - 1) * this.step;
    const text = `frame ${frame * this.step} of 0 to ${last}, ${this.seconds(frame)} s`;
    this.clock.textContent = text;
    this.scrubber.setAttribute("aria-valuetext", text);
    this.profile.mark(frame);
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play();
  }

  stop() {
    this.playing = false;
    this.button.textContent = "▶ Play";
  }

  setSpeed(speed) {
    this.speed = speed;
    this.start = null;
  }

  /** Each frame for its own time, from the current one and again from the first. */
  play() {
    this.playing = true;
    this.button.textContent = "❚❚ Stop";
    this.start = null;
    const step = (now) => {
      if (!this.playing || !this.element.isConnected) return;
      const [first, last] = [this.edges[0], this.edges[this.length]];
      this.start ??= now - (1000 * (this.edges[this.frame] - first)) / this.speed;
      const elapsed = ((now - this.start) / 1000) * this.speed;
      const time = first + (elapsed % (last - first));
      const frame = this.frameAt(time);
      if (frame !== this.frame) this.onSeek(frame);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** As "frames 70 to 71 (2.80 to 2.88 s)"; `end` is the frame after the last. */
  describe({ start, end }) {
    const [first, last] = [start * this.step, (end - 1) * this.step];
    const frames = last > first ? `frames ${first} to ${last}` : `frame ${first}`;
    return `${frames} (${this.seconds(start)} to ${this.seconds(end)} s)`;
  }

  /** When a frame begins, which may be outside of the video. */
  seconds(frame) {
    return this.edges[Math.min(Math.max(frame, 0), this.length)].toFixed(2);
  }

  frameAt(time) {
    const next = this.edges.findIndex((edge) => edge > time);
    return next < 0 ? this.length - 1 : Math.max(next - 1, 0);
  }
}

/** The map's mean in each frame, with its segments and a cursor. */
class Profile {
  constructor(edges, onSeek) {
    this.edges = edges;
    const [first, last] = [edges[0], edges.at(-1)];
    this.x = (time) => (WIDTH * (time - first)) / (last - first);
    this.segments = svg("g", { class: "c3d-segments" });
    this.area = svg("path", { class: "c3d-area" });
    this.curve = svg("path", { class: "c3d-curve" });
    this.cursor = svg("rect", { class: "c3d-cursor", y: 0, height: HEIGHT });
    this.plot = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "c3d-plot" },
      [this.segments, this.area, this.curve, this.cursor],
    );
    this.top = h("span", { className: "c3d-top" });
    const middle = (first + last) / 2;
    const times = [first, middle, last].map((time) => h("span", { textContent: `${format(time)} s` }));
    this.element = h("figure", { className: "c3d-profile" }, [
      h("figcaption", {}, ["mean of the map in each frame"]),
      h("div", { className: "c3d-plane" }, [this.plot, this.top]),
      h("div", { className: "c3d-ticks" }, times),
    ]);
    onDrag(this.plot, (event) => {
      const { left, width } = this.plot.getBoundingClientRect();
      const time = first + ((event.clientX - left) / width) * (last - first);
      const next = edges.findIndex((edge) => edge > time);
      onSeek(next < 0 ? edges.length - 2 : Math.max(next - 1, 0));
    });
  }

  /** Draw the means of the frames, and shade segments {start, end}. */
  draw(means, segments) {
    const { edges, x } = this;
    const peak = Math.max(...means);
    const points = means.map((mean, t) => {
      const middle = x((edges[t] + edges[t + 1]) / 2);
      return `${middle.toFixed(1)},${(HEIGHT * (1 - mean / (1.1 * peak || 1))).toFixed(1)}`;
    });
    const [left, right] = [points[0].split(",")[0], points.at(-1).split(",")[0]];
    this.curve.setAttribute("d", `M${points.join("L")}`);
    this.area.setAttribute("d", `M${left},${HEIGHT}L${points.join("L")}L${right},${HEIGHT}Z`);
    this.segments.replaceChildren(
      ...segments.map(({ start, end }) => {
        const [from, to] = [start, end].map((t) => x(edges[Math.min(Math.max(t, 0), means.length)]));
        return svg("rect", { x: from, y: 0, width: to - from, height: HEIGHT });
      }),
    );
    this.top.textContent = `maximum ${format(peak)}`;
  }

  /** The cursor spans the time in which the frame is shown. */
  mark(frame) {
    const [from, to] = [this.edges[frame], this.edges[frame + 1]].map(this.x);
    this.cursor.setAttribute("x", from);
    this.cursor.setAttribute("width", to - from);
  }
}
