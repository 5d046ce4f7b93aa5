// Thumbnails, areas and flicker of a result over time, and where the clip is.

import { lastUntil, make, percent } from "./shared.js";

const HIGH = { thumbs: 62, areas: 78, flicker: 30, gap: 4 };

export class Timeline {
  constructor(root, seek) {
    this.canvas = make("canvas", { tabindex: "0", role: "slider", "aria-label": "Time", "aria-valuemin": "0" });
    root.replaceChildren(this.canvas);
    const point = (event) => {
      const box = this.canvas.getBoundingClientRect();
      seek(this.frameAt((event.clientX - box.left) / box.width));
    };
    this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); point(event); });
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  set(result, edits) {
    this.result = result;
    this.edits = edits;
    this.measure();
    this.images = result.thumbnails.map(({ frame, picture }) => {
      const image = new Image();
      image.onload = () => this.redraw();
      image.src = picture;
      return { frame, image };
    });
    this.redraw();
  }

  /** Areas and flicker as the edits leave them. */
  measure() {
    const { result, edits } = this, table = edits.table(), frames = result.frames;
    const total = result.label_size[0] * result.label_size[1];
    this.areas = new Map();
    result.areas.forEach((values, label) => {
      if (!table[label]) return;
      const sum = this.areas.get(table[label]) ?? new Float32Array(frames);
      for (let i = 0; i < frames; i++) sum[i] += values[i] / total;
      this.areas.set(table[label], sum);
    });
    this.flicker = null;
    if (!result.transitions) return;
    const [frame, before, after, pixels] = result.transitions, all = new Float64Array(frames), moved = new Float64Array(frames);
    for (let i = 0; i < frame.length; i++) {
      all[frame[i]] += pixels[i];
      if (table[before[i]] !== table[after[i]]) moved[frame[i]] += pixels[i];
    }
    this.flicker = moved.map((value, i) => (all[i] ? value / all[i] : 0));
  }

  /** Mean share of the picture that each part has. */
  shares() {
    return Object.fromEntries([...this.areas].map(([label, values]) => [label, values.reduce((a, b) => a + b, 0) / values.length]));
  }

  frameAt(share) {
    const times = this.result.seconds, wanted = times[0] + share * (times[times.length - 1] - times[0]);
    const frame = lastUntil(times, wanted);
    return frame + 1 < times.length && times[frame + 1] - wanted <= wanted - times[frame] ? frame + 1 : frame;
  }

  /** All but the mark of the time, drawn once. */
  redraw() {
    if (!this.result) return;
    const scale = devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    if (!box.width) return;
    const width = this.canvas.width = Math.round(box.width * scale), height = this.canvas.height = Math.round(box.height * scale);
    const base = make("canvas", { width, height });
    const context = base.getContext("2d"), style = getComputedStyle(document.documentElement);
    const times = this.result.seconds, span = times[times.length - 1] - times[0] || 1;
    this.x = (frame) => width * (times[frame] - times[0]) / span;
    const slots = this.images.length, slot = width / Math.max(1, slots);
    this.images.forEach(({ image }, i) => {
      if (!image.naturalWidth) return;
      const high = HIGH.thumbs * scale, wide = Math.min(slot - 2 * scale, high * image.naturalWidth / image.naturalHeight);
      const cut = wide / high * image.naturalHeight, left = (image.naturalWidth - cut) / 2;
      context.drawImage(image, Math.max(0, left), 0, Math.min(cut, image.naturalWidth), image.naturalHeight, slot * i + (slot - wide) / 2, 0, wide, high);
    });
    const top = (HIGH.thumbs + HIGH.gap) * scale, bottom = top + HIGH.areas * scale;
    const step = Math.max(1, Math.floor(times.length / width));
    const peak = Math.max(1e-6, ...[...this.areas.values()].map((values) => values.reduce((a, b) => Math.max(a, b), 0)));
    context.lineWidth = 1.6 * scale;
    for (const [label, values] of this.areas) {
      context.strokeStyle = this.edits.color(label);
      context.beginPath();
      for (let i = 0; i < values.length; i += step) context.lineTo(this.x(i), bottom - (bottom - top - 4 * scale) * values[i] / peak);
      context.stroke();
    }
    context.fillStyle = style.getPropertyValue("--line");
    context.fillRect(0, bottom, width, scale);
    if (this.flicker) {
      const low = bottom + (HIGH.flicker + HIGH.gap) * scale, most = Math.max(1e-6, this.flicker.reduce((a, b) => Math.max(a, b), 0));
      context.fillStyle = style.getPropertyValue("--soft");
      for (let i = 0; i < this.flicker.length; i++) {
        const high = HIGH.flicker * scale * this.flicker[i] / most;
        if (high > 0.5) context.fillRect(this.x(i), low - high, Math.max(scale, width / times.length * 0.6), high);
      }
    }
    context.fillStyle = style.getPropertyValue("--soft");
    context.font = `${11 * scale}px system-ui, sans-serif`;
    context.strokeStyle = style.getPropertyValue("--card");
    context.lineWidth = 4 * scale;
    const name = (text, y) => { context.strokeText(text, 4 * scale, y); context.fillText(text, 4 * scale, y); };
    name(`area, up to ${percent(peak)}`, top + 11 * scale);
    if (this.flicker) name("flicker", bottom + 13 * scale);
    this.base = base;
    this.mark(this.frame ?? 0);
  }

  mark(frame) {
    this.frame = frame;
    this.canvas.setAttribute("aria-valuemax", String(this.result.frames - 1));
    this.canvas.setAttribute("aria-valuenow", String(frame));
    this.canvas.setAttribute("aria-valuetext", `frame ${frame}, ${this.result.seconds[frame].toFixed(3)} seconds`);
    if (!this.base) return;
    const context = this.canvas.getContext("2d"), scale = devicePixelRatio || 1;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.base, 0, 0);
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    context.fillRect(Math.min(this.x(frame), this.canvas.width - 2 * scale), 0, 2 * scale, this.canvas.height);
  }
}
