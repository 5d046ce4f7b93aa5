// The page: which results are shown, one clock for all of them, keys, corrections and similarity.

import { Pane } from "./pane.js";
import { Edits, drawPanel } from "./parts.js";
import { make, percent } from "./shared.js";
import { Timeline } from "./timeline.js";

const at = (id) => document.getElementById(id);
const MOST_AT_ONCE = 2;

function status(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

class Viewer {
  constructor({ runs, warnings }) {
    this.edits = runs.map((run) => new Edits(run, () => this.edited()));
    this.results = runs.flatMap((run) => run.results.map((result) => ({ result, edits: this.edits[run.number] })));
    this.panes = [];
    this.playing = false;
    this.timeline = new Timeline(at("timeline"), (frame) => this.seek(frame));
    at("warnings").replaceChildren(...warnings.map((text) => make("li", {}, text)));
    at("warnings").hidden = !warnings.length;
    this.buildChoice();
    const first = this.results.length <= MOST_AT_ONCE ? this.results : this.results.slice(0, 1);
    for (const each of first) this.toggle(each);
    this.listen();
  }

  get lead() { return this.panes[0]; }

  buildChoice() {
    if (this.results.length < 2) return;
    for (const each of this.results) {
      const name = this.edits.length > 1 ? `${each.result.run} / ${each.result.name}` : each.result.name;
      each.button = make("button", { type: "button", "aria-pressed": "false" }, name);
      each.button.addEventListener("click", () => this.toggle(each));
      at("results").append(each.button);
    }
  }

  toggle(each) {
    const open = this.panes.find((pane) => pane.result === each.result);
    if (open && this.panes.length === 1) return;
    this.pause();
    if (open) {
      open.close();
      this.panes = this.panes.filter((pane) => pane !== open);
    } else {
      const pane = new Pane(each.result, each.edits, {
        clicked: (which, x, y) => this.ask(which, x, y),
        moved: (which) => this.moved(which),
        ended: (which) => { if (which === this.lead) this.pause(which.result.frames - 1); },
        ready: (which) => { if (which !== this.lead) which.seek(this.matching(which)); else this.tell(); },
      });
      this.panes.push(pane);
      at("panes").append(pane.node);
    }
    each.button?.setAttribute("aria-pressed", String(!open));
    this.timeline.set(this.lead.result, this.lead.edits);
    this.edited();
    this.tell();
  }

  listen() {
    at("play").addEventListener("click", () => this.play());
    at("back").addEventListener("click", () => this.step(-1));
    at("forward").addEventListener("click", () => this.step(1));
    at("first").addEventListener("click", () => this.seek(0));
    at("last").addEventListener("click", () => this.seek(Infinity));
    at("opacity").addEventListener("input", () => this.fade());
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("beforeunload", (event) => { if (this.edits.some((edits) => edits.dirty)) event.preventDefault(); });
  }

  fade() {
    for (const pane of this.panes) pane.canvas.style.opacity = at("opacity").value / 100;
  }

  key(event) {
    const writing = event.target.matches("input[type=text]"), command = event.ctrlKey || event.metaKey;
    if (command && event.key === "s") { event.preventDefault(); document.activeElement.blur(); this.save(); return; }
    if (writing || event.altKey || event.target.matches("select, input[type=range]")) return;
    if (command && event.key === "z") { event.preventDefault(); this.undo(); return; }
    if (command) return;
    const far = event.shiftKey ? 10 : 1;
    const keys = {
      ArrowLeft: () => this.step(-far), ArrowRight: () => this.step(far), Home: () => this.seek(0), End: () => this.seek(Infinity),
      Escape: () => this.endHeat(),
    };
    if (event.key === " " && event.target.matches("button")) return;
    const work = event.key === " " ? () => this.play() : keys[event.key];
    if (work) { event.preventDefault(); work(); return; }
    const edits = this.lead.edits, label = /^[1-9]$/.test(event.key) ? edits.listed()[Number(event.key) - 1] : 0;
    if (label && edits.run.writable && !edits.state.merged[label]) edits.hide(label, !edits.state.hidden.includes(label));
  }

  play() {
    if (this.playing) { this.pause(); return; }
    if (!this.lead.live) return;
    if (this.lead.frame === this.lead.result.frames - 1) { this.seek(0).then(() => this.play()); return; }
    this.playing = true;
    at("play").textContent = "❚❚ Pause";
    for (const pane of this.panes) if (pane.live) pane.video.play().catch(() => this.pause());
  }

  pause(frame = this.lead?.frame) {
    if (!this.playing) return;
    this.playing = false;
    at("play").textContent = "▶ Play";
    for (const pane of this.panes) pane.video.pause();
    this.seek(frame);
  }

  step(by) {
    this.pause();
    return this.seek(this.lead.frame + by);
  }

  /** All panes go to the same time after their first frame. */
  async seek(frame) {
    const { lead } = this, wanted = Math.min(Math.max(frame, 0), lead.result.frames - 1);
    const moves = [lead.seek(wanted)];
    for (const pane of this.panes.slice(1)) moves.push(pane.seek(this.matching(pane)));
    this.tell();
    await Promise.all(moves);
    this.tell();
  }

  matching(pane) {
    const { seconds } = this.lead.result, passed = seconds[this.lead.frame] - seconds[0];
    return pane.frameAt(pane.result.seconds[0] + passed + pane.shift);
  }

  moved(which) {
    if (which !== this.lead) {
      // A pane that lags behind is brought to the clock; small differences are a frame's.
      const late = which.result.seconds[this.matching(which)] - which.result.seconds[which.frame];
      if (this.playing && Math.abs(late) > 0.15) which.video.currentTime += late;
      return;
    }
    this.tell();
  }

  tell() {
    const { result, frame } = this.lead;
    this.timeline.mark(frame);
    const flicker = this.timeline.flicker ? ` · flicker ${percent(this.timeline.flicker[frame])}` : "";
    at("where").textContent = `frame ${frame.toLocaleString("en")} of ${result.frames.toLocaleString("en")} · pts ${result.pts[frame]} · ${result.seconds[frame].toFixed(3)} s${flicker}`;
    document.body.dataset.frame = frame;
    if (this.heat?.job) this.fetchHeat();
  }

  edited() {
    for (const pane of this.panes) pane.recolor();
    if (!this.lead) return;
    this.timeline.measure();
    this.timeline.redraw();
    this.fade();
    const { edits } = this.lead;
    drawPanel(at("parts"), edits, this.timeline.shares(), { save: () => this.save(), undo: () => this.undo() });
    this.drawSimilarity();
  }

  async save() {
    const { edits } = this.lead;
    if (!edits.dirty) return;
    const problem = await edits.save();
    status(problem || "Saved", Boolean(problem));
  }

  async undo() {
    const problem = await this.lead.edits.undo();
    status(problem || "Undone", Boolean(problem));
  }

  async post(path, body) {
    const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error ?? `no answer (${answer.status})`);
    return told;
  }

  async ask(pane, x, y) {
    this.pause();
    this.endHeat();
    const place = { frame: pane.frame, x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
    const heat = this.heat = { pane, ...place, place, answers: new Map(), range: [0, 255], text: "Looking at this frame…" };
    this.drawSimilarity();
    try {
      this.learn(heat, [await this.post(`similarity/${pane.result.number}`, place)]);
      heat.text = "Similarity to the point: blue is low, red is high.";
    } catch (error) {
      heat.text = error.message;
    }
    if (this.heat === heat) this.drawSimilarity();
  }

  learn(heat, answers) {
    for (const { frame, rows, cols, box, values } of answers) {
      const bytes = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0));
      // Far frames are forgotten: they are asked for again.
      if (heat.answers.size > 256) heat.answers.delete(heat.answers.keys().next().value);
      heat.answers.set(frame, { rows, cols, box, values: bytes });
      if (frame === heat.frame) heat.range = [bytes.reduce((a, b) => Math.min(a, b), 255), bytes.reduce((a, b) => Math.max(a, b), 0)];
    }
    if (this.heat === heat) heat.pane.setHeat(heat);
  }

  async compareAll() {
    const { heat } = this, job = await this.post(`comparisons/${heat.pane.result.number}`, heat.place);
    heat.job = job.job;
    heat.began = performance.now();
    while (this.heat === heat && heat.job) {
      const told = await (await fetch(`comparison/${heat.job}?frames=${heat.pane.frame}`)).json();
      this.learn(heat, told.answers);
      heat.progress = told;
      this.drawSimilarity();
      if (told.state !== "running") break;
      await new Promise((done) => setTimeout(done, 300));
    }
  }

  async fetchHeat() {
    const { heat } = this, { frame } = heat.pane;
    if (heat.answers.has(frame) || heat.asking) return;
    heat.asking = true;
    const wanted = Array.from({ length: 32 }, (_, i) => frame + i).join(",");
    try {
      this.learn(heat, (await (await fetch(`comparison/${heat.job}?frames=${wanted}`)).json()).answers);
    } finally {
      heat.asking = false;
    }
  }

  cancel() {
    if (this.heat?.job) fetch(`comparison/${this.heat.job}`, { method: "DELETE" });
  }

  endHeat() {
    if (!this.heat) return;
    if (this.heat.progress?.state === "running") this.cancel();
    this.heat.pane.setHeat(null);
    this.heat = null;
    this.drawSimilarity();
  }

  drawSimilarity() {
    const root = at("similarity"), { heat } = this;
    const button = (text, id, work) => {
      const made = make("button", { type: "button", id }, text);
      made.addEventListener("click", work);
      return made;
    };
    const note = heat ? heat.text : "Click a point of the picture: what looks like it is shown over the frame.";
    root.replaceChildren(make("h2", {}, "Similarity"), make("p", { class: "note" }, note));
    if (!heat) return;
    const row = make("div", { class: "row" }), { progress } = heat;
    if (progress) {
      const left = (progress.total - progress.done) * (performance.now() - heat.began) / 1000 / progress.done;
      const wait = progress.state === "running" && progress.done ? ` · about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.round(left / 60)} min`} left` : "";
      const text = progress.error || `${progress.state}: ${progress.done.toLocaleString("en")} of ${progress.total.toLocaleString("en")} frames${wait}`;
      root.append(make("progress", { max: progress.total, value: progress.done }), make("p", { class: "note" }, text));
    }
    if (progress?.state === "running") row.append(button("Cancel", "cancel", () => this.cancel()));
    else if (progress?.state !== "done" && heat.answers.size) row.append(button("Whole clip", "whole", () => this.compareAll().catch((error) => { heat.text = error.message; this.drawSimilarity(); })));
    row.append(button("Back to the parts", "parts-again", () => this.endHeat()));
    root.append(row);
  }
}

try {
  const answer = await fetch("state");
  if (!answer.ok) throw new Error(`The results can't be read (${answer.status}).`);
  window.viewer = new Viewer(await answer.json());
  document.body.dataset.ready = "yes";
} catch (error) {
  status(error.message, true);
}
