// The shapes of a whole attention as blocks: width cut into heads and joined again. One stage at a time.

const KEPT = new WeakMap();

class Shapes {
  constructor(root) {
    this.root = root; this.$ = (name) => root.querySelector(name);
    this.resized = new ResizeObserver(() => this.data && this.draw());
    this.resized.observe(this.$(".walk"));
  }

  close() { this.resized.disconnect(); }

  take(data, send) {
    this.send = send;
    if (!this.data || this.said !== data.stage) this.stage = this.said = data.stage;
    this.data = data;
    this.draw();
  }

  go(stage) { this.stage = this.said = stage; this.draw(); this.send(stage); }

  draw() {
    const { data, root } = this, svg = this.$(".walk"), width = svg.clientWidth, height = 268, n = data.stages.length, gap = 26;
    this.colours = theme(root);
    roles(root, data.look);
    svg.replaceChildren();
    setAttr(svg, "viewBox", `0 0 ${width} ${height}`);
    setAttr(svg, "aria-label", data.stages.map((stage) => `${stage.title}: ${stage.text}`).join(" "));
    const w = (width - gap * (n - 1) - 4) / n;
    data.stages.forEach((stage, i) => {
      const x = 2 + i * (w + gap), on = stage.id === this.stage;
      const g = add(svg, "g", { class: `stage${on ? " on" : ""}`, tabindex: 0, role: "button", "data-stage": stage.id, "aria-pressed": on, transform: `translate(${x},2)` });
      add(g, "rect", { class: "back", x: 0, y: 0, width: w, height: height - 4, rx: 8 });
      add(g, "text", { x: 10, y: 20, "font-size": 13, "font-weight": 600 }, `${i + 1} ${stage.title}`);
      this[stage.id](g, w);
      g.onclick = () => this.go(stage.id);
      g.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.go(stage.id); } };
      if (i) add(svg, "text", { x: x - gap / 2, y: height / 2 + 6, "text-anchor": "middle", "font-size": 18, class: "soft" }, "→");
    });
    const at = data.stages.findIndex((stage) => stage.id === this.stage), stage = data.stages[at], text = this.$(".text"), code = this.$(".code");
    text.replaceChildren(); add(text, "b", {}, stage.title); text.append(stage.text);
    code.replaceChildren(); add(code, "span", {}, stage.code.at); code.append(stage.code.text);
    const go = this.$(".go");
    setText(go, at < n - 1 ? `${data.t.next} →` : data.t.again);
    go.onclick = () => this.go(data.stages[(at + 1) % n].id);
    const figures = this.$(".figures");
    figures.replaceChildren();
    for (const figure of data.figures) {
      const node = add(figures, "div", { class: `figure${figure.same ? "" : " far"}` });
      add(node, "div", {}, `${figure.same ? "✓" : "✗"} ${figure.text}`); add(node, "div", {}, figure.count);
    }
  }

  // A block of tokens × width, cut into one stripe a head where the heads are apart; its true shape is written under it.
  block(g, x, y, width, height, { cut = false, colour, label, shape, dim = null }) {
    const { heads, look } = this.data, stripe = width / heads;
    for (let h = 0; h < (cut ? heads : 1); h++) {
      const fill_ = cut ? look.heads[h % look.heads.length] : colour ?? this.colours.soft;
      add(g, "rect", { x: cut ? x + h * stripe : x, y, width: Math.max(0.7, cut ? stripe - (stripe > 3 ? 1 : 0) : width), height, rx: 1.5, fill: fill_, "fill-opacity": dim !== null && h !== dim ? 0.15 : 0.75 });
    }
    if (label) add(g, "text", { x, y: y - 4, "font-size": 11 }, label);
    if (shape) add(g, "text", { x, y: y + height + 14, "font-size": 12, "font-weight": 600, "font-family": this.colours.mono }, shape.join(" × "));
  }

  shape(name) { return this.data.shape[name]; }

  input(g, w) {
    this.block(g, 12, 96, w - 24, 56, { label: "x", shape: this.shape("x"), cut: this.data.sliced });
  }

  projected(g, w) {
    const { roles: r } = this.data.look, part = (w - 24) / 3;
    ["query", "key", "value"].forEach((role, i) => this.block(g, 12 + i * part, 96, part - 3, 56, { colour: r[role], label: "QKV"[i] }));
    add(g, "text", { x: 12, y: 166, "font-size": 12, "font-weight": 600, "font-family": this.colours.mono }, this.shape("projected").join(" × "));
  }

  split(g, w) {
    ["q", "k", "v"].forEach((name, i) => this.block(g, 30, 44 + i * 60, w - 42, 38, { cut: true, shape: i === 2 ? this.shape("q") : null }));
    ["q", "k", "v"].forEach((name, i) => add(g, "text", { x: 12, y: 67 + i * 60, "font-size": 13, "font-weight": 600 }, name));
  }

  attend(g, w) {
    const { heads, look } = this.data, columns = Math.min(heads, 4), rows = Math.min(2, Math.ceil(heads / columns)), size = Math.min(46, (w - 24 - 5 * (columns - 1)) / columns, 52);
    for (let h = 0; h < Math.min(heads, columns * rows); h++) {
      const x = 12 + (h % columns) * (size + 5), y = 40 + Math.floor(h / columns) * (size + 5);
      add(g, "rect", { x, y, width: size, height: size, rx: 2, fill: look.heads[h % look.heads.length], "fill-opacity": 0.75 });
    }
    add(g, "text", { x: 12, y: 40 + rows * (size + 5) + 11, "font-size": 12, "font-weight": 600, "font-family": this.colours.mono }, this.shape("pattern").join(" × "));
    const y = 40 + rows * (size + 5) + 34;
    this.block(g, 26, y, w - 38, 34, { cut: true, shape: this.shape("z") });
    add(g, "text", { x: 12, y: y + 20, "font-size": 13, "font-weight": 600 }, "z");
  }

  merge(g, w) {
    this.block(g, 12, 60, w - 24, 44, { cut: true, label: "[z₁ | z₂ | …]", shape: this.shape("merged") });
    add(g, "text", { x: 12, y: 146, "font-size": 12 }, "· W_O");
    this.block(g, 12, 172, w - 24, 44, { label: "out", shape: this.shape("out") });
  }
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector("#shapes");
  let shapes = KEPT.get(root);
  if (!shapes) KEPT.set(root, (shapes = new Shapes(root)));
  shapes.take(data, (stage) => setStateValue("stage", stage));
  return () => { shapes.close(); KEPT.delete(root); };
}
