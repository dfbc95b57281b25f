// Curves of several runs over each other: shipped ones dashed, the person's own solid and live.

const COMPARED = new WeakMap();

class Compare {
  constructor(root) {
    this.root = root;
    this.tip = tooltip(root);
    this.polls = new Map(); // api -> {live, poll}
    this.hidden = new Set();
    this.later = this.later.bind(this);
    this.canvases = [["loss", root.querySelector("canvas.loss")], ["exact_match", root.querySelector("canvas.exact")]];
    for (const [key, canvas] of this.canvases) {
      canvas.onpointermove = (event) => this.point(event, event.offsetX, canvas, key);
      canvas.onpointerleave = canvas.onblur = () => { this.step = null; this.tip.hide(); this.later(); };
      canvas.onkeydown = (event) => {
        const move = { ArrowLeft: -10, ArrowRight: 10, PageUp: -100, PageDown: 100 }[event.key];
        if (!move) return;
        event.preventDefault();
        this.explain(canvas, Math.max(1, Math.min(this.data.steps, (this.step ?? this.data.steps) + move)), key);
      };
    }
    this.observer = new ResizeObserver(this.later);
    this.observer.observe(root);
  }

  update({ data, setTriggerValue }) {
    this.data = data;
    this.colours = theme(this.root);
    roles(this.root, data.look);
    this.root.style.setProperty("--height", `${data.height}px`);
    setAttr(this.root, "aria-label", data.t.label);
    for (const node of this.root.querySelectorAll("[data-t]")) setText(node, data.t[node.dataset.t]);
    const wanted = new Set(data.lines.map((line) => line.api).filter(Boolean));
    for (const [api, { poll }] of this.polls) if (!wanted.has(api)) { poll.stop(); this.polls.delete(api); }
    for (const line of data.lines) {
      if (!line.api) continue;
      if (!this.polls.has(line.api)) {
        const live = emptyRun();
        this.polls.set(line.api, { live, poll: new Poll(live, this.later) });
      }
      // Only the end of a run is news for the page: then it measures.
      const tell = (name, state) => { if (name === "ended") setTriggerValue("ended", `${line.id} ${state}`); };
      this.polls.get(line.api).poll.follow({ api: line.api, state: line.state, language: data.language }, tell);
    }
    this.later();
  }

  // Every line with its records: {line, records, tests, live}.
  curves() {
    return this.data.lines.map((line) => {
      const live = line.api ? this.polls.get(line.api).live : null, records = live ? live.records : line.records;
      return { line, live, records, tests: live ? live.tests : records.filter((r) => r.exact_match !== undefined) };
    });
  }

  point(event, x, canvas, key) {
    const width = canvas.clientWidth - AREA.left - AREA.right;
    this.explain(event, Math.max(1, Math.min(this.data.steps, Math.round(((x - AREA.left) / width) * this.data.steps))), key);
  }

  explain(where, step, key) {
    this.step = step;
    const lines = [`${this.data.t.step} ${step}`];
    for (const { line, records, tests } of this.curves()) {
      if (this.hidden.has(line.id)) continue;
      const at = nearest(key === "loss" ? records : tests, step);
      if (at) lines.push(`${line.label}${line.shipped ? ` (${this.data.t.shipped})` : ""}: ${short(at[key])}`);
    }
    this.tip.show(where, lines.join("\n"));
    this.later();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  draw() {
    if (!this.data || !this.root.isConnected) return;
    const { data, colours } = this, { t } = data, curves = this.curves(), look = { ...colours, wrong: data.look.roles.wrong };
    this.legend(curves);
    const seen = curves.filter(({ line, records }) => !this.hidden.has(line.id) && records.length);
    const cursor = this.step ? { step: this.step } : null, highest = Math.max(data.guess, ...seen.flatMap((c) => c.records.map((r) => r.loss)));
    for (const [key, canvas] of this.canvases) {
      const lines = seen.map(({ line, records, tests }) => ({ records: key === "loss" ? records : tests, key, colour: line.colour,
        dash: line.shipped ? [5, 3] : [] }));
      const top = key === "loss" ? Math.min(highest * 1.05, data.guess * 1.6) : 1.04;
      const rule = key === "loss" ? { value: data.guess, label: `${t.guess} ${short(data.guess)}` } : undefined;
      drawChart(canvas, { lines: lines.length ? lines : [{ records: [], key, colour: colours.soft }], top, end: data.steps, rule, cursor,
        look, stepWord: t.step_axis, small: lines.length > 4 });
      const last = seen.map(({ line, records, tests }) => `${line.label} ${short((key === "loss" ? records : tests).at(-1)?.[key])}`);
      setAttr(canvas, "aria-label", `${key === "loss" ? t.loss : t.exact_match}: ${last.join("; ")}`);
    }
  }

  legend(curves) {
    const list = this.root.querySelector(".lines"), { t } = this.data;
    while (list.children.length > curves.length) list.lastChild.remove();
    curves.forEach(({ line, live, tests }, i) => {
      let button = list.children[i]?.firstChild;
      if (!button) {
        button = add(add(list, "li"), "button", { type: "button" });
        add(add(button, "svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }), "line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 2.4 });
        add(button, "span"); add(button, "span", { class: "soft" });
      }
      const [picture, name, state] = button.children, stroke = picture.firstChild;
      setAttr(stroke, "stroke", line.colour);
      setAttr(stroke, "stroke-dasharray", line.shipped ? "5 3" : "none");
      setText(name, line.label);
      const now = live?.state, known = t.states[now] ?? "";
      const progress = now === "running" ? fill(t.progress, { step: live.step }) : known;
      setText(state, line.shipped ? t.shipped : [progress, tests.length ? short(tests.at(-1).exact_match) : ""].filter(Boolean).join(" · "));
      setAttr(button, "aria-pressed", !this.hidden.has(line.id));
      setAttr(button, "title", t.toggle);
      button.onclick = () => { this.hidden.has(line.id) ? this.hidden.delete(line.id) : this.hidden.add(line.id); this.later(); };
    });
  }

  stop() {
    for (const { poll } of this.polls.values()) poll.stop();
    this.observer.disconnect();
    if (this.frame) cancelAnimationFrame(this.frame);
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".root");
  if (!COMPARED.has(root)) COMPARED.set(root, new Compare(root));
  COMPARED.get(root).update(component);
  return () => { COMPARED.get(root)?.stop(); COMPARED.delete(root); };
}
