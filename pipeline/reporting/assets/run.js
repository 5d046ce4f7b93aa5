// Builds the inputs' sections from the data in the page. Names come from files of strangers: they are set as text alone.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function draw(tag, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

function clock(seconds) {
  const sign = seconds < 0 ? "-" : "", whole = Math.abs(seconds);
  return `${sign}${Math.floor(whole / 60)}:${(whole % 60).toFixed(3).padStart(6, "0")}`;
}

/** One input: its clip, and all that jumps to a frame of it. */
class Input {
  constructor(facts) {
    this.facts = facts;
    this.marks = [];
    this.video = null;
    this.where = make("p", { class: "where", "aria-live": "polite" });
    this.column = 0;
  }

  build(root) {
    const { facts } = this;
    const section = make("section", { id: `input-${facts.number}` }, make("h2", {}, facts.name));
    const side = make("div", {}, this.legend());
    section.append(make("div", { class: "watch" }, make("div", {}, this.clip(), this.where), side));
    if (facts.note) section.append(make("p", { class: "note" }, facts.note));
    section.append(make("h3", {}, "Area of each part, share of the picture"), this.chart(facts.areas, ""));
    if (facts.flicker) {
      section.append(make("h3", {}, "Flicker: share of the pixels that change their label"));
      section.append(this.chart([{ color: null, values: facts.flicker }], "low"));
    }
    section.append(make("p", { class: "note" }, "A click in a chart jumps the clip to that frame; so do the arrow keys."));
    if (facts.pairs.length) section.append(make("h3", {}, "Before and after"), this.pairs());
    section.append(this.stages());
    root.append(section);
    this.mark(0);
  }

  clip() {
    const { facts } = this;
    if (!facts.clip) return make("p", { class: "note" }, "There is no clip to show here.");
    this.video = make("video", { controls: "", preload: "metadata", playsinline: "", src: facts.clip });
    this.video.muted = true;
    this.video.addEventListener("timeupdate", () => this.mark(this.columnAt(this.video.currentTime - facts.shift)));
    this.video.addEventListener("error", () => {
      this.where.textContent = "The clip can't be played: it lies beside this page, and must move with it.";
    });
    return this.video;
  }

  /** The last column of the charts that begins at or before a time. */
  columnAt(seconds) {
    return lastUntil(this.facts.seconds, seconds + 1e-4);
  }

  jump(column) {
    const times = this.facts.seconds, last = times.length - 1;
    column = Math.min(Math.max(column, 0), last);
    if (this.video) {
      // Shortly behind its start: browsers round to the clip's clock, whose unit may be a frame.
      const next = column < last ? times[column + 1] : times[column] + (last ? times[last] - times[last - 1] : 0.02);
      const span = this.facts.step > 1 ? (next - times[column]) / this.facts.step : next - times[column];
      this.video.pause();
      this.video.currentTime = times[column] + this.facts.shift + Math.min(span / 3, 0.001);
    }
    this.mark(column);
  }

  mark(column) {
    this.column = column;
    const { facts } = this, frame = Math.min(column * facts.step, facts.frames - 1);
    let text = `frame ${frame.toLocaleString("en")} of ${facts.frames.toLocaleString("en")} · ${clock(facts.seconds[column])}`;
    if (facts.flicker && facts.flicker[column] !== null) text += ` · flicker ${percent(facts.flicker[column] / 1e4)}`;
    this.where.textContent = text;
    const x = this.x(column);
    for (const line of this.marks) { line.setAttribute("x1", x); line.setAttribute("x2", x); }
  }

  x(column) {
    const times = this.facts.seconds, span = times[times.length - 1] - times[0];
    return span > 0 ? 1000 * (times[column] - times[0]) / span : 0;
  }

  legend() {
    const head = make("tr", {}, make("th", {}, "Part"), make("th", { class: "number" }, "Share"),
      make("th", { class: "number" }, "First"), make("th", { class: "number" }, "Last"));
    const table = make("table", {}, head);
    for (const part of this.facts.parts) {
      const swatch = make("i", { class: "swatch" });
      swatch.style.background = part.color;
      const cells = [part.share, part.first, part.last].map((value) => make("td", { class: "number" }, value));
      table.append(make("tr", {}, make("td", {}, swatch, part.name), ...cells));
    }
    return table;
  }

  chart(series, kind) {
    const high = kind === "low" ? 84 : 170, top = 8, bottom = high - 20;
    const svg = draw("svg", {
      class: `chart ${kind}`, viewBox: `0 0 1000 ${high}`, preserveAspectRatio: "none", tabindex: "0", role: "img",
      "aria-label": `${kind === "low" ? "Flicker" : "Areas"} over time; arrow keys step through the frames`,
    });
    const peak = Math.max(1, ...series.map((each) => each.values.reduce((a, b) => Math.max(a, b ?? 0), 0))) * 1.06;
    const y = (value) => bottom - (bottom - top) * value / peak;
    for (const share of [0, 0.5, 1]) {
      svg.append(draw("line", { class: "grid", x1: 0, x2: 1000, y1: y(share * peak), y2: y(share * peak) }));
    }
    for (const { color, values } of series) {
      if (color === null) {
        const bars = values.map((v, i) => v ? `M${this.x(i).toFixed(2)} ${bottom}V${y(v).toFixed(1)}` : "").join("");
        svg.append(draw("path", { d: bars || "M0 0", class: "curve", stroke: "var(--soft)" }));
      } else {
        const line = values.map((v, i) => `${i ? "L" : "M"}${this.x(i).toFixed(2)} ${y(v).toFixed(1)}`).join("");
        svg.append(draw("path", { d: line, class: "curve", stroke: color }));
      }
    }
    const cursor = draw("line", { class: "cursor", y1: top, y2: bottom, "vector-effect": "non-scaling-stroke" });
    this.marks.push(cursor);
    svg.append(cursor);
    const holder = make("div", {}, svg);
    const times = this.facts.seconds;
    const scale = make("p", { class: "note" }, `0 to ${percent(peak / 1.06 / 1e4)}, `
      + `${clock(times[0])} to ${clock(times[times.length - 1])}`);
    scale.style.marginTop = "-16px";
    holder.append(scale);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect(), span = times[times.length - 1] - times[0];
      this.jump(this.columnAt(times[0] + span * (event.clientX - box.left) / box.width));
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.jump(step === -Infinity ? 0 : step === Infinity ? times.length - 1 : this.column + step);
    });
    return holder;
  }

  pairs() {
    const grid = make("div", { class: "pairs" });
    for (const pair of this.facts.pairs) {
      const button = make("button", { class: "pair", type: "button", "aria-label": `frame ${pair.frame}: show it in the clip` });
      const after = make("div", { class: "after" }, make("img", { src: pair.picture, alt: "" }), make("img", { src: pair.labels, alt: "" }));
      button.append(make("img", { class: "before", src: pair.picture, alt: `frame ${pair.frame}` }), after,
        make("small", {}, `frame ${pair.frame.toLocaleString("en")}`));
      button.addEventListener("click", () => {
        this.jump(Math.floor(pair.frame / this.facts.step));
        if (this.video) this.video.scrollIntoView({ block: "center", behavior: "smooth" });
      });
      grid.append(button);
    }
    return grid;
  }

  stages() {
    const table = make("table", {}, make("tr", {}, make("th", {}, "Stage"),
      ...["Busy", "Waited for input", "Waited for the next stage"].map((name) => make("th", { class: "number" }, name))));
    for (const stage of this.facts.stages) {
      table.append(make("tr", {}, make("td", {}, stage.name), ...stage.seconds.map((value) => make("td", { class: "number" }, value))));
    }
    return make("details", {}, make("summary", {}, "Where the time went, and what was read"), make("p", { class: "note" }, this.facts.source), table);
  }
}

function fit(root) {
  const { fit: found } = DATA;
  if (!found) return;
  const section = make("section", {}, make("h2", {}, "Why something became foreground"));
  for (const text of found.texts) section.append(make("p", { class: "note" }, text));
  if (found.curve.length > 1) {
    const svg = draw("svg", { class: "chart", viewBox: "0 0 1000 170", role: "img", "aria-label": "The elbow's curve" });
    const peak = Math.max(...found.curve), low = Math.min(...found.curve), count = found.curve.length;
    const x = (i) => 30 + 940 * i / (count - 1), y = (v) => 140 - 120 * (v - low) / (peak - low || 1);
    svg.append(draw("path", { class: "curve", stroke: "var(--accent)", d: found.curve.map((v, i) => `${i ? "L" : "M"}${x(i)} ${y(v)}`).join("") }));
    found.curve.forEach((v, i) => {
      svg.append(draw("circle", { cx: x(i), cy: y(v), r: i + 1 === found.used ? 6 : 3.5, fill: i + 1 === found.used ? "var(--ink)" : "var(--accent)" }));
      svg.append(draw("text", { x: x(i), y: 164, "text-anchor": "middle" }, String(i + 1)));
    });
    svg.style.cursor = "default";
    section.append(make("h3", {}, "The elbow: mean squared distance for each number of clusters"), svg);
  }
  const list = make("div", { class: "clusters" });
  for (const cluster of found.clusters) {
    const bar = make("i"), limit = make("b");
    bar.style.width = `${100 * cluster.votes / found.frames}%`;
    limit.style.left = `${100 * found.needed / found.frames}%`;
    const votes = make("div", { class: "votes" }, `${cluster.votes} of ${found.frames}`, make("div", { class: "meter" }, bar, limit));
    const strip = cluster.patches ? make("img", { src: cluster.patches, alt: "typical patches" }) : make("span", { class: "note" }, "");
    list.append(make("div", { class: `cluster${cluster.salient ? " foreground" : ""}` }, make("span", {}, `#${cluster.number}`), votes, strip));
  }
  section.append(make("h3", {}, "The clusters, their votes and what they look like"), list);
  root.append(section);
}

const root = document.getElementById("inputs");
const inputs = DATA.inputs.map((facts) => new Input(facts));
for (const input of inputs) input.build(root);
fit(root);
document.body.dataset.ready = "yes";
