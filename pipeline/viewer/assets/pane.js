// One result: its clip under a canvas of labels, in step frame by frame.

import { LabelChunks, LabelPainter, colorTable } from "./labels.js";
import { lastUntil, make } from "./shared.js";

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

export class Pane {
  constructor(result, edits, events) {
    this.result = result;
    this.edits = edits;
    this.events = events;
    this.chunks = new LabelChunks(result);
    this.frame = 0;
    this.shift = 0;
    this.heat = null;
    this.build();
    this.recolor();
    this.show(0);
    this.open();
  }

  build() {
    const { result } = this, [width, height] = result.size;
    this.caption = make("small");
    this.poster = make("img", { class: "poster", alt: "" });
    this.video = make("video", { playsinline: "", preload: "auto" });
    this.video.muted = true;
    this.canvas = make("canvas", { class: "labels" });
    this.heatCanvas = make("canvas", { class: "heat", hidden: "" });
    this.message = make("p", { class: "message", hidden: "" });
    this.point = make("i", { class: "point", hidden: "" });
    this.screen = make("div", { class: "screen" }, this.poster, this.video, this.canvas, this.heatCanvas, this.point, this.message);
    this.screen.style.aspectRatio = `${width} / ${height}`;
    this.screen.style.maxWidth = `calc(58vh * ${width / height})`;
    this.node = make("div", { class: "pane" }, make("h2", {}, result.name, this.caption), this.screen);
    this.painter = new LabelPainter(this.canvas, result.label_size);
    this.screen.addEventListener("click", (event) => {
      const box = this.screen.getBoundingClientRect();
      this.events.clicked(this, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    this.video.addEventListener("ended", () => this.events.ended(this));
    this.showPoster();
  }

  say(text) {
    this.message.textContent = text;
    this.message.hidden = !text;
  }

  showPoster() {
    const all = this.result.thumbnails;
    if (!all.length) return;
    this.poster.src = all.reduce((a, b) => (Math.abs(b.frame - this.frame) < Math.abs(a.frame - this.frame) ? b : a)).picture;
  }

  /** The input itself where the browser plays it, else a clip that the server makes of it. */
  async open() {
    const { result } = this;
    if (result.problem) return this.say(result.problem);
    if (result.playable && await this.load()) return this.ready();
    if (!await this.convert() || !await this.load()) return undefined;
    return this.ready();
  }

  load() {
    return new Promise((done) => {
      const finish = (works) => {
        this.video.removeEventListener("loadeddata", good);
        this.video.removeEventListener("error", bad);
        done(works);
      };
      const good = () => finish(this.video.videoWidth > 0), bad = () => finish(false);
      this.video.addEventListener("loadeddata", good);
      this.video.addEventListener("error", bad);
      this.video.src = `clip/${this.result.number}?${Date.now()}`;
    });
  }

  async convert() {
    for (;;) {
      const answer = await fetch(`proxy/${this.result.number}`, { method: "POST" });
      const job = await answer.json();
      if (!answer.ok || job.state === "failed") { this.say(job.error); return false; }
      if (job.state === "done") { this.say(""); return true; }
      this.say(`Making a clip that browsers play: ${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")} frames`);
      await wait(200);
    }
  }

  async ready() {
    this.say("");
    // Where the first frame of the input is the first of the result, its time says how the clip's times are moved.
    if (this.result.starts) this.shift = await this.seekTo(0) - this.result.seconds[0];
    this.live = true;
    this.follow();
    await this.seek(this.frame);
    this.poster.hidden = true;
    this.screen.dataset.ready = "yes";
    this.events.ready(this);
  }

  /** Seek, and give the time of the frame that is shown then. */
  seekTo(seconds) {
    return new Promise((done) => {
      let over = false;
      const finish = (time) => { if (!over) { over = true; done(time); } };
      this.video.requestVideoFrameCallback((_, about) => finish(about.mediaTime));
      this.video.currentTime = seconds;
      // No frame is presented where the same one stays, or the page is hidden.
      this.video.addEventListener("seeked", () => setTimeout(() => finish(this.lastTime ?? seconds), 400), { once: true });
    });
  }

  /** Frame of a time of the clip: the last one that begins at or before it. */
  frameAt(mediaTime) {
    return lastUntil(this.result.seconds, mediaTime - this.shift + 5e-4);
  }

  /**
   * A time inside of a frame, shortly behind its start. Not its middle: where a frame is one unit of the clip's clock,
   * browsers round that up, and a frame that is shown long they take to end after the usual length.
   */
  within(frame) {
    const times = this.result.seconds, last = times.length - 1;
    const length = frame < last ? times[frame + 1] - times[frame] : last ? times[last] - times[last - 1] : 0.02;
    return times[frame] + this.shift + Math.min(length / 3, 0.001);
  }

  async seek(frame) {
    this.show(frame);
    if (!this.live || (this.shown === frame && this.lastTime === this.seenAt)) return;
    const token = this.wanted = {};
    const time = await this.seekTo(this.within(frame));
    if (this.wanted !== token) return;
    this.shown = this.frameAt(time);
    this.seenAt = this.lastTime;
    if (this.shown !== frame) this.show(this.shown);
  }

  /** Draw what belongs to each frame as it is presented. */
  follow() {
    const presented = (_, about) => {
      this.lastTime = about.mediaTime;
      if (!this.video.paused) {
        this.show(this.frameAt(about.mediaTime));
        this.events.moved(this);
      }
      this.video.requestVideoFrameCallback(presented);
    };
    this.video.requestVideoFrameCallback(presented);
  }

  show(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.result.frames - 1);
    this.screen.dataset.frame = this.frame;
    const seconds = this.result.seconds[this.frame];
    this.caption.textContent = `frame ${this.frame} · pts ${this.result.pts[this.frame]} · ${seconds.toFixed(3)} s`;
    if (!this.live) this.showPoster();
    this.draw();
    this.drawHeat();
    this.chunks.fetch(this.frame + this.result.chunk_frames).catch(() => {});
  }

  draw() {
    const labels = this.chunks.peek(this.frame);
    if (labels) {
      this.painter.paint(labels, this.colors);
      this.screen.dataset.labels = this.frame;
      return;
    }
    const frame = this.frame;
    this.chunks.fetch(frame).then(() => { if (this.frame === frame && this.chunks.peek(frame)) this.draw(); })
      .catch((error) => this.say(error.message));
  }

  recolor() {
    this.colors = colorTable(this.edits.table(), this.edits.colors());
    this.draw();
  }

  setHeat(heat) {
    this.heat = heat;
    this.drawHeat();
  }

  /** Similarities over the frame, blue to red; nothing where this frame isn't known. */
  drawHeat() {
    const answer = this.heat?.answers.get(this.frame);
    this.heatCanvas.hidden = !answer;
    this.canvas.hidden = Boolean(this.heat);
    this.point.hidden = !(this.heat && this.heat.frame === this.frame);
    if (!this.point.hidden) {
      this.point.style.left = `${100 * this.heat.x}%`;
      this.point.style.top = `${100 * this.heat.y}%`;
    }
    if (!answer) return;
    const { rows, cols, values, box } = answer, [low, high] = this.heat.range;
    this.heatCanvas.width = cols;
    this.heatCanvas.height = rows;
    const context = this.heatCanvas.getContext("2d"), image = context.createImageData(cols, rows);
    for (let i = 0; i < values.length; i++) {
      const t = Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1)));
      image.data[4 * i] = 255 * Math.min(1, Math.max(0, 1.5 - Math.abs(4 * t - 3)));
      image.data[4 * i + 1] = 255 * Math.min(1, Math.max(0, 1.5 - Math.abs(4 * t - 2)));
      image.data[4 * i + 2] = 255 * Math.min(1, Math.max(0, 1.5 - Math.abs(4 * t - 1)));
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    const [left, top, width, height] = box.map((share) => `${100 * share}%`);
    Object.assign(this.heatCanvas.style, { left, top, width, height, right: "auto", bottom: "auto" });
  }

  close() {
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    this.node.remove();
  }
}
