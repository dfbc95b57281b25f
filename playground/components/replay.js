// The history of a run on the board: a slider over its steps, and a player. Curves end at the chosen step; attention and
// examples are those of the saved step before it. The right end means "newest": there the board is live.

const KEPT_LOOKS = 64; // looks inside that are held

class Replay {
  constructor(board) {
    this.board = board;
    this.find = (name) => board.root.querySelector(`.replay ${name}`);
    this.slider = this.find("input");
    this.looks = new Map(); // step -> what the server computed, or the sentence why not
    this.at = null; // null: newest
    this.slider.oninput = () => { this.pause(); this.go(Number(this.slider.value)); };
    this.slider.onchange = () => this.tell();
    this.find(".play").onclick = () => this.toggle();
    this.find(".newest").onclick = () => { this.pause(); this.at = null; this.board.later(); this.tell(); };
    this.find(".branch").onclick = () => this.board.open({ page: "branch", step: this.saved(this.at ?? this.end) });
    this.quiet = hotkeys({ " ": () => (this.end ? this.toggle() : false) });
  }

  // Another run is in view.
  forget() {
    this.pause();
    this.at = this.told = this.shown = null;
    this.looks.clear();
  }

  get end() {
    const { records } = this.board.live;
    return records.length ? records[records.length - 1].step : 0;
  }

  go(step) {
    this.at = step >= this.end ? null : step;
    this.board.later();
  }

  toggle() {
    if (this.timer) { this.pause(); this.tell(); return; }
    const from = this.at ?? 0, start = performance.now(), speed = this.end / (1000 * Number(this.find("select").value));
    this.at = from;
    this.timer = setInterval(() => {
      this.go(Math.round(from + speed * (performance.now() - start)));
      if (this.at === null) { this.pause(); this.tell(); }
    }, 100);
    this.board.later();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.board.later();
  }

  // Python learns the saved step that is looked at (null: newest), for links that lead on from there.
  tell() {
    const step = this.at === null ? null : this.saved(this.at);
    if (step === this.told) return;
    this.told = step;
    this.board.tellStep(step);
  }

  saved(step) {
    return this.board.live.saved.findLast((s) => s <= step) ?? null;
  }

  // What the other parts draw: the live run, or the run as it was.
  get seen() {
    const { live } = this.board;
    if (this.at === null) return live;
    const until = (list) => list.filter((r) => r.step <= this.at), step = this.saved(this.at), look = step === null ? null : this.look(step);
    const probe = look && typeof look === "object" ? look : this.shown ?? live.probe;
    this.shown = probe;
    return { ...live, records: until(live.records), tests: until(live.tests), probe, state: live.state === "failed" ? "finished" : live.state };
  }

  look(step) {
    if (!this.looks.has(step)) { this.ask(step); return null; }
    const next = this.timer && this.board.live.saved.find((s) => s > step);
    if (next && !this.looks.has(next)) this.ask(next);
    return this.looks.get(step);
  }

  async ask(step) {
    if (this.asking) return; // one at a time; the draw after its answer asks for the step that is wanted then
    this.asking = true;
    const { api, run, language } = this.board.data;
    try {
      const answer = await fetch(`${new URL(api, window.location.href).href.replace(/live$/, `at/${step}`)}?lang=${language}`);
      const found = await answer.json();
      if (this.board.data.run !== run) return;
      this.looks.set(step, answer.ok ? { ...found, version: `at ${step}` } : found.error ?? answer.statusText);
      while (this.looks.size > KEPT_LOOKS) this.looks.delete(this.looks.keys().next().value);
    } catch {
      await new Promise((later) => { setTimeout(later, 1000); });
    } finally {
      this.asking = false;
      this.board.later();
    }
  }

  draw() {
    const { live, data } = this.board, { labels } = data, { end } = this, steps = end.toLocaleString("en");
    this.find("").hidden = !end;
    if (!end) return;
    setAttr(this.slider, "max", end);
    if (Number(this.slider.value) !== (this.at ?? end)) this.slider.value = this.at ?? end;
    const saved = this.at === null ? null : this.saved(this.at), look = saved === null ? null : this.looks.get(saved);
    const text = this.at === null ? fill(labels.at_newest, { steps })
      : typeof look === "string" ? look
      : fill(labels.at_step, { step: this.at.toLocaleString("en"), steps });
    setText(this.find(".where"), text);
    setAttr(this.find(".where"), "title", text);
    setAttr(this.slider, "aria-valuetext", text);
    setText(this.find(".play"), this.timer ? "⏸" : "▶");
    setAttr(this.find(".play"), "aria-label", this.timer ? labels.replay_stop : labels.replay);
    setAttr(this.find(".play"), "title", this.timer ? labels.replay_stop : labels.replay);
    this.find(".newest").hidden = this.at === null;
    const from = this.saved(this.at ?? end), branch = this.find(".branch");
    branch.hidden = from === null;
    setAttr(branch, "title", fill(labels.branch_help, { step: from }));
    setAttr(this.find(".track"), "title", labels.marks_help);
    const sign = `${live.saved} ${live.states} ${end}`;
    if (sign === this.marked) return;
    this.marked = sign;
    const exactly = new Set(live.states), marks = this.find(".marks");
    marks.replaceChildren();
    for (const step of live.saved) {
      if (step <= end) add(marks, "i", { style: `left:${(100 * step) / end}%`, class: exactly.has(step) ? "kept" : "" });
    }
  }

  stop() {
    this.pause();
    this.quiet();
  }
}
