// The status strip: state, device, progress, time left, speed, size, what is saved, who waits.

function duration(seconds, labels) {
  if (!Number.isFinite(seconds)) return "";
  const s = Math.max(0, Math.round(seconds));
  const text = s < 90 ? `${s} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
  return fill(labels.left, { time: text });
}

class Strip {
  constructor(board) {
    this.board = board;
    this.find = (name) => board.root.querySelector(`.strip .${name}`);
  }

  draw() {
    const { live, data } = this.board, { labels, facts } = data;
    const state = live.away ? "away" : live.gone ? "gone" : (live.state ?? data.state);
    const steps = live.steps ?? facts.steps, step = live.step ?? 0, running = state === "running";
    let text = labels.states[state] ?? state;
    if (state === "queued" && live.place) text += ` · ${fill(labels.place, { place: live.place })}`;
    if (live.reason && !(running && live.steps_per_s)) text += ` · ${live.reason}`;
    setText(this.find("state-text"), text);
    setAttr(this.find("state"), "data-state", state);
    setAttr(this.find("state"), "title", text);
    setText(this.find("device"), facts.device);
    setText(this.find("step"), fill(labels.progress, { step: step.toLocaleString("en"), steps: steps.toLocaleString("en") }));
    const share = Math.min(100, (100 * step) / Math.max(1, steps)), bar = this.find("bar");
    bar.firstElementChild.style.width = `${share}%`;
    setAttr(bar, "aria-valuenow", Math.round(share));
    setText(this.find("left"), running && live.steps_per_s ? duration((steps - step) / live.steps_per_s, labels) : "");
    setText(this.find("speed"), running && live.steps_per_s ? fill(labels.speed, { speed: short(live.steps_per_s) }) : "");
    setText(this.find("parameters"), fill(labels.parameters, { n: facts.parameters.all.toLocaleString("en") }));
    setText(this.find("memory"), facts.memory);
    const saved = live.saved ?? [];
    setText(this.find("saved"), saved.length ? fill(labels.saved, { step: saved[saved.length - 1].toLocaleString("en") }) : labels.not_saved);
    setText(this.find("waiting"), fill(labels.waiting, { n: live.waiting ?? 0 }));
  }
}
