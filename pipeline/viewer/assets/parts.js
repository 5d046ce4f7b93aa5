// Corrections of a run's parts: the state, its history here, and the panel that changes it.

import { make, percent } from "./shared.js";

export class Edits {
  constructor(run, changed) {
    this.run = run;
    this.changed = changed;
    this.take(run.edits);
  }

  /** What the server says is on the disk. */
  take({ revision, state, undoable }) {
    this.revision = revision;
    this.saved = this.state = state;
    this.undoable = undoable;
    this.past = [];
  }

  get dirty() { return JSON.stringify(this.state) !== JSON.stringify(this.saved); }

  get count() { return this.run.colors.length; }

  change(edit) {
    const next = structuredClone(this.state);
    edit(next);
    if (JSON.stringify(next) === JSON.stringify(this.state)) return;
    this.past.push(this.state);
    this.state = next;
    this.changed(this);
  }

  rename(label, name) {
    this.change((state) => {
      const clean = name.trim().replace(/\s+/g, " ");
      if (clean && clean !== this.run.names[label - 1]) state.names[label] = clean; else delete state.names[label];
    });
  }

  recolor(label, color) { this.change((state) => { state.colors[label] = color.toLowerCase(); }); }

  hide(label, hidden) {
    this.change((state) => {
      state.hidden = state.hidden.filter((each) => each !== label);
      if (hidden) state.hidden.push(label);
    });
  }

  merge(label, target) {
    this.change((state) => {
      for (const [each, root] of Object.entries(state.merged)) if (root === label) state.merged[each] = target;
      state.merged[label] = target;
    });
  }

  split(label) { this.change((state) => { delete state.merged[label]; }); }

  move(label, by) {
    const order = this.listed(), at = order.indexOf(label), to = at + by;
    if (to < 0 || to >= order.length) return;
    order.splice(at, 1);
    order.splice(to, 0, label);
    this.change((state) => { state.order = order; });
  }

  /** All parts in their order, hidden and merged ones too. */
  listed() {
    const all = Array.from({ length: this.count }, (_, i) => i + 1);
    return [...new Set([...this.state.order, ...all])];
  }

  name(label) { return this.state.names[label] ?? this.run.names[label - 1]; }

  color(label) { return this.state.colors[label] ?? this.run.colors[label - 1]; }

  /** The label that each stored label becomes. */
  table() {
    const found = new Uint8Array(256), hidden = new Set(this.state.hidden);
    for (let label = 1; label <= this.count; label++) {
      const root = this.state.merged[label] ?? label;
      found[label] = hidden.has(root) ? 0 : root;
    }
    return found;
  }

  colors() { return Array.from({ length: this.count }, (_, i) => this.color(i + 1)); }

  async save() {
    const answer = await fetch(`edits/${this.run.number}`, {
      method: "PUT", headers: { "content-type": "application/json" },
      body: JSON.stringify({ revision: this.revision, state: this.state }),
    });
    return this.answered(answer);
  }

  async undo() {
    if (this.past.length) {
      this.state = this.past.pop();
      this.changed(this);
      return "";
    }
    const answer = await fetch(`edits/${this.run.number}/undo`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ revision: this.revision }),
    });
    const problem = await this.answered(answer);
    this.changed(this);
    return problem;
  }

  /** Empty where it went well, else what is wrong. After a conflict one's own state is kept, to be saved over theirs. */
  async answered(answer) {
    const told = await answer.json();
    if (answer.status === 409) {
      const mine = this.state;
      this.take(told);
      this.theirs = told.state;
      this.past = [told.state];
      this.state = mine;
      this.changed(this);
      return "Another viewer has saved meanwhile. Save again to keep yours (theirs stays in the history), or undo to take theirs.";
    }
    if (!answer.ok) return told.error ?? `not saved (${answer.status})`;
    this.take(told);
    this.changed(this);
    return told.note;
  }
}

/** Draws the panel of a run anew; names are set as text, whatever they hold. */
export function drawPanel(root, edits, shares, act) {
  const focused = document.activeElement?.dataset?.key;
  const { run, state } = edits, locked = run.writable ? null : "";
  root.replaceChildren(make("h2", {}, `Parts of ${run.name}`));
  for (const label of edits.listed()) {
    const into = state.merged[label], hidden = state.hidden.includes(label);
    const row = make("div", { class: `part${into || hidden ? " gone" : ""}`, "data-label": label });
    const color = make("input", { type: "color", "aria-label": `colour of ${edits.name(label)}`, disabled: locked, "data-key": `color${label}` });
    color.value = edits.color(into ?? label);
    color.addEventListener("change", () => edits.recolor(label, color.value));
    const name = make("input", { type: "text", maxlength: "80", "aria-label": `name of part ${label}`, disabled: locked, "data-key": `name${label}` });
    name.value = edits.name(label);
    name.addEventListener("change", () => edits.rename(label, name.value));
    const share = make("span", { class: "share" }, into ? "" : percent(shares[label] ?? 0));
    const tools = make("div", { class: "tools" });
    const button = (text, key, work, title) => {
      const made = make("button", { type: "button", title, disabled: locked, "data-key": `${key}${label}` }, text);
      made.addEventListener("click", work);
      tools.append(made);
      return made;
    };
    if (into) {
      tools.append(make("span", { class: "note" }, `part of ${edits.name(into)}`));
      button("Take out", "split", () => edits.split(label), "Make it a part of its own again");
    } else {
      const toggle = button(hidden ? "Show" : "Hide", "hide", () => edits.hide(label, !hidden), hidden ? "Show it again" : "Make it background");
      toggle.setAttribute("aria-pressed", String(hidden));
      const choice = make("select", { "aria-label": `merge ${edits.name(label)} into`, disabled: locked, "data-key": `merge${label}` }, make("option", { value: "" }, "Merge into…"));
      for (const other of edits.listed()) {
        if (other !== label && !state.merged[other]) choice.append(make("option", { value: other }, edits.name(other)));
      }
      choice.addEventListener("change", () => choice.value && edits.merge(label, Number(choice.value)));
      tools.append(choice);
      button("↑", "up", () => edits.move(label, -1), "List it earlier").setAttribute("aria-label", `list ${edits.name(label)} earlier`);
      button("↓", "down", () => edits.move(label, 1), "List it later").setAttribute("aria-label", `list ${edits.name(label)} later`);
    }
    row.append(color, name, share, tools);
    root.append(row);
  }
  const undo = make("button", { type: "button", id: "undo", "data-key": "undo", disabled: edits.past.length || (edits.undoable && run.writable) ? null : "" }, "Undo");
  undo.addEventListener("click", act.undo);
  const save = make("button", { type: "button", id: "save", class: "primary", "data-key": "save", disabled: edits.dirty && run.writable ? null : "" }, edits.dirty ? "Save" : "Saved");
  save.addEventListener("click", act.save);
  root.append(make("div", { class: "row" }, save, undo));
  root.append(make("p", { class: "note" }, run.writable ? "Labels stay as they are; edits.json holds the corrections." : "This directory can't be written: edits can't be saved."));
  if (focused) root.querySelector(`[data-key="${focused}"]`)?.focus();
}
