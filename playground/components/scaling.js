// d_k and the divisor, and what they do to random scores. All widths lie here, so the slider draws at once; the page is told after.

const SHOWN = new WeakMap();
const BOX = { left: 50, right: 10, top: 8, bottom: 34 };

class Scaling {
  constructor(root) {
    this.root = root;
    this.tip = tooltip(root);
    this.sent = new Set();
    this.find = (name) => root.querySelector(name);
    this.slider = this.find("input");
    this.slider.oninput = () => this.choose({ at: Number(this.slider.value) });
    this.find(".again").onclick = () => this.tell("again", this.data.seed);
    this.right = this.find(".right canvas");
    this.right.onpointermove = (event) => this.overLines(event);
    this.right.onpointerleave = () => this.tip.hide();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(root);
  }

  update({ data, setTriggerValue }) {
    this.tell = setTriggerValue;
    // What the page says is news unless it is an answer to what was said here: then this view is as far or farther.
    if (data.panel !== this.data?.panel || (data.said !== this.page && !this.sent.has(data.said))) {
      Object.assign(this, { at: data.at, divisor: data.divisor, said: data.said });
      this.sent.clear();
    }
    if (data.said === this.said) this.sent.clear();
    this.page = data.said;
    this.data = data;
    roles(this.root, data.look);
    setAttr(this.root, "aria-label", data.t.label);
    for (const node of this.root.querySelectorAll("[data-t]")) setText(node, data.t[node.dataset.t]);
    setAttr(this.find(".again"), "title", data.t.again_help);
    setAttr(this.slider, "max", data.widths.length - 1);
    this.buttons();
    this.pictures();
    this.draw();
  }

  choose(change) {
    Object.assign(this, change);
    this.draw();
    clearTimeout(this.timer);
    this.said = `${this.data.widths[this.at]} ${this.divisor}`;
    this.timer = setTimeout(() => { this.sent.add(this.said); this.tell("set", this.said); }, 150);
  }

  buttons() {
    const group = this.find(".divisors"), { divisors, choice } = this.data;
    group.hidden = !choice;
    divisors.forEach((divisor, i) => {
      const button = group.children[i] ?? add(group, "button", { type: "button" });
      setText(button, divisor.label);
      button.onclick = () => this.choose({ divisor: divisor.id });
    });
  }

  // One picture for each divisor that is shown together, or one for the chosen one.
  pictures() {
    const left = this.find(".left"), n = this.data.choice ? 1 : this.data.lines.length;
    while (left.children.length > n) left.lastChild.remove();
    while (left.children.length < n) {
      const figure = add(left, "figure");
      add(add(figure, "figcaption"), "b");
      const canvas = add(figure, "canvas", { role: "img", tabindex: "0" });
      canvas.onpointermove = (event) => this.overBars(event, canvas);
      canvas.onpointerleave = () => this.tip.hide();
    }
  }

  of(name) { return this.data.table[name][this.at]; }
  divisorOf(name) { return this.data.divisors.find((d) => d.id === name); }

  draw() {
    if (!this.data || !this.root.isConnected) return;
    const { data } = this, look = (this.colours = theme(this.root)), width = data.widths[this.at];
    this.root.style.setProperty("--part", `${(100 * this.at) / (data.widths.length - 1)}%`);
    this.slider.value = this.at;
    setAttr(this.slider, "aria-valuetext", `d_k ${width}`);
    setText(this.find(".now"), String(width));
    [...this.find(".divisors").children].forEach((b, i) => setAttr(b, "aria-pressed", data.divisors[i].id === this.divisor));
    const top = this.root.getBoundingClientRect().top + (this.root.getRootNode().host?.closest("[data-testid=stMain]")?.scrollTop ?? 0);
    const room = Math.max(230, Math.min(430, window.innerHeight - top - 190));
    const names = data.choice ? [this.divisor] : data.lines;
    [...this.find(".left").children].forEach((figure, i) => {
      const name = names[i], values = this.of(name), canvas = figure.lastChild;
      const title = fill(data.t.title, { ...values.text, divisor: this.divisorOf(name).label });
      setText(figure.querySelector("b"), title);
      canvas.style.height = `${Math.floor((room - 30 * (names.length - 1)) / names.length)}px`;
      setAttr(canvas, "aria-label", title);
      this.bars(canvas, values.bars, this.divisorOf(name).colour, look);
    });
    setText(this.find(".right b"), data.t.right);
    this.right.style.height = `${room}px`;
    this.key();
    this.curves(look);
  }

  key() {
    const key = this.find(".key"), { lines } = this.data;
    while (key.children.length > lines.length) key.lastChild.remove();
    lines.forEach((name, i) => {
      const divisor = this.divisorOf(name), item = key.children[i] ?? add(key, "span");
      const svg = item.querySelector("svg") ?? add(item, "svg", { viewBox: "0 0 22 8", "aria-hidden": "true" });
      const stroke = svg.firstChild ?? add(svg, "line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": 2.4 });
      const text = item.querySelector("i") ?? add(item, "i", { style: "font-style: normal" });
      setAttr(stroke, "stroke", divisor.colour);
      setAttr(stroke, "stroke-dasharray", divisor.dash.join(" ") || "none");
      setText(text, divisor.label);
    });
  }

  // An empty chart: axes with their names and ticks. -> functions to pixels
  frame(canvas, look, { xs, ys, px, py, x, y }) {
    const width = canvas.clientWidth, height = canvas.clientHeight, ctx = sharp(canvas, width, height);
    const x0 = BOX.left, x1 = width - BOX.right, y0 = BOX.top, y1 = height - BOX.bottom;
    const toX = (v) => x0 + (x1 - x0) * px(v), toY = (v) => y1 - (y1 - y0) * py(v);
    ctx.clearRect(0, 0, width, height);
    ctx.font = `12px ${look.font}`;
    ctx.fillStyle = look.soft; ctx.strokeStyle = look.line; ctx.lineWidth = 1; ctx.setLineDash([]);
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    for (const [v, text] of ys) {
      const at = Math.round(toY(v)) + 0.5;
      ctx.beginPath(); ctx.moveTo(x0, at); ctx.lineTo(x1, at); ctx.stroke();
      ctx.fillText(text, x0 - 6, at);
    }
    ctx.textAlign = "center"; ctx.textBaseline = "alphabetic";
    for (const [v, text] of xs) ctx.fillText(text, Math.min(Math.max(toX(v), x0 + 4), x1 - ctx.measureText(text).width / 2 + 6), y1 + 15);
    ctx.fillText(x, (x0 + x1) / 2, height - 3);
    ctx.save(); ctx.translate(11, (y0 + y1) / 2); ctx.rotate(-Math.PI / 2); ctx.fillText(y, 0, 0); ctx.restore();
    return { ctx, toX, toY, x0, x1, y0, y1 };
  }

  bars(canvas, values, colour, look) {
    const { low, high, ticks: marks, top: fixed, percent, x, y } = this.data.bars, n = values.length;
    const highest = Math.max(...values), top = fixed ?? [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1].find((v) => v >= highest * 1.02) ?? 1;
    const ys = [0, 0.25, 0.5, 0.75, 1].map((part) => [part * top, percent ? `${Number((part * top * 100).toPrecision(3))}%` : String(part * top)]);
    const chart = this.frame(canvas, look, { x, y, ys, xs: marks.map((v) => [v, String(v).replace("-", "−")]),
      px: (v) => (v - low) / (high - low), py: (v) => v / top });
    const { ctx, toX, toY } = chart, step = (high - low) / n;
    ctx.fillStyle = colour;
    values.forEach((v, i) => {
      if (v <= 0) return;
      const a = toX(low + i * step), b = toX(low + (i + 1) * step), height = Math.max(1, toY(0) - toY(v));
      ctx.fillRect(a + (n < 30 ? 4 : 0.5), toY(0) - height, b - a - (n < 30 ? 8 : 0.7), height);
    });
  }

  overBars(event, canvas) {
    const names = this.data.choice ? [this.divisor] : this.data.lines, i = [...this.find(".left").children].indexOf(canvas.parentElement);
    const values = this.of(names[i]).bars, { low, high, whole } = this.data.bars, step = (high - low) / values.length;
    const part = (event.offsetX - BOX.left) / (canvas.clientWidth - BOX.left - BOX.right), at = Math.floor(part * values.length);
    if (at < 0 || at >= values.length) { this.tip.hide(); return; }
    const value = this.data.bars.percent ? `${short(values[at] * 100)}%` : exact(values[at]);
    const from = low + at * step;
    this.tip.show(event, fill(this.data.t.bar, { low: whole ? at + 1 : short(from), high: short(from + step), value }));
  }

  curves(look) {
    const { data } = this, { widths, lines } = data, { top, log, y, field } = data.right, n = widths.length;
    const py = log ? (v) => (Math.log2(v) + 1) / 7 : (v) => v / top;
    const marks = log ? [0.5, 1, 2, 4, 8, 16, 32, 64] : [0, 0.25, 0.5, 0.75, 1].map((p) => p * top);
    const { ctx, toX, toY } = this.frame(this.right, look, { x: "d_k", y, ys: marks.map((v) => [v, String(v)]),
      xs: widths.map((w, i) => [i, String(w)]), px: (i) => 0.02 + (0.96 * i) / (n - 1), py });
    const said = [];
    for (const name of lines) {
      const divisor = this.divisorOf(name), values = data.table[name].map((s) => s[field]);
      ctx.strokeStyle = ctx.fillStyle = divisor.colour;
      ctx.lineWidth = 2; ctx.setLineDash(divisor.dash);
      ctx.beginPath(); values.forEach((v, i) => (i ? ctx.lineTo(toX(i), toY(v)) : ctx.moveTo(toX(i), toY(v)))); ctx.stroke();
      ctx.setLineDash([]);
      values.forEach((v, i) => { ctx.beginPath(); ctx.arc(toX(i), toY(v), i === this.at ? 6.5 : 2.6, 0, 7); ctx.fill(); });
      said.push(`${divisor.label} ${short(values[this.at])}`);
    }
    setAttr(this.right, "aria-label", `${data.t.right}. d_k ${widths[this.at]}: ${said.join("; ")}`);
  }

  overLines(event) {
    const { data } = this, n = data.widths.length, inside = this.right.clientWidth - BOX.left - BOX.right;
    const i = Math.round((((event.offsetX - BOX.left) / inside - 0.02) / 0.96) * (n - 1));
    if (i < 0 || i >= n) { this.tip.hide(); return; }
    const rows = data.lines.map((name) => `${this.divisorOf(name).label}: ${short(data.table[name][i][data.right.field])}`);
    this.tip.show(event, [`d_k ${data.widths[i]}`, ...rows].join("\n"));
  }

  stop() { this.observer.disconnect(); clearTimeout(this.timer); }
}

export default function (component) {
  const root = component.parentElement.querySelector(".root");
  if (!SHOWN.has(root)) SHOWN.set(root, new Scaling(root));
  SHOWN.get(root).update(component);
  return () => { SHOWN.get(root)?.stop(); SHOWN.delete(root); };
}
