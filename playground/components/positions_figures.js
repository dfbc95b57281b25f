// The figures of the lab on positions: heat map, rows of bars, curves, rulers, clocks, and a table of wishes.
// A figure gets a specification from Python with texts already translated, and tells which cell was clicked.

const NICE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const stride = (cell, wanted) => NICE.find((n) => n * cell >= wanted) ?? 1000;
const TEXT = "11px";

class Figure {
  constructor(view, index) {
    this.view = view; this.index = index;
    this.node = add(view.box, "figure", { class: "figure" });
    const head = add(this.node, "figcaption");
    this.name = add(head, "span", { class: "name" });
    this.key = add(head, "span");
    this.button = add(head, "button", { class: "as-table", type: "button" });
    this.paper = add(this.node, "div", { class: "paper" });
    this.canvas = add(this.paper, "canvas", { class: "ink", tabindex: 0, role: "img" });
    this.numbers = add(this.paper, "table", { class: "numbers", hidden: "" });
    this.under = add(this.node, "div", { class: "under" });
    this.over = null; this.open = false;
    this.canvas.onpointermove = (event) => { const box = this.canvas.getBoundingClientRect(); this.hover(this.at(event.clientX - box.left, event.clientY - box.top), event); };
    this.canvas.onpointerleave = () => this.hover(null);
    this.canvas.onblur = () => this.hover(null);
    this.canvas.onclick = () => this.choose();
    this.canvas.onkeydown = (event) => this.press(event);
    this.button.onclick = () => { this.open = !this.open; this.table(); };
  }

  take(spec, data) {
    this.spec = spec; this.t = data.t; this.look = data.look;
    this.node.style.setProperty("--flex", spec.flex ?? 1);
    setText(this.name, spec.title);
    if (spec.help) help(this.name, spec.help, this.view.tip);
    setText(this.under, spec.under ?? "");
    this.under.hidden = !spec.under;
    setText(this.button, this.t.table);
    setAttr(this.button, "title", this.t.numbers);
    setAttr(this.canvas, "aria-label", `${spec.title}. ${spec.under ?? ""}`);
    this.canvas.classList.toggle("picks", !!spec.pick);
    this.over = null;
    this.table();
  }

  table() {
    setAttr(this.button, "aria-pressed", this.open);
    this.numbers.hidden = !this.open;
    this.canvas.hidden = this.open;
    this.canvas.style.display = this.open ? "none" : "";
    this.numbers.replaceChildren();
    if (!this.open) { this.draw(); return; }
    this.rows().forEach((row, i) => { const line = add(this.numbers, "tr"); row.forEach((x, j) => add(line, i && j ? "td" : "th", {}, typeof x === "number" ? short(x) : x ?? "–")); });
  }

  hover(cell, event) {
    const same = JSON.stringify(cell) === JSON.stringify(this.over);
    this.over = cell;
    if (!same) this.draw();
    if (cell) this.view.tip.show(event ?? this.canvas, this.say(cell)); else this.view.tip.hide();
  }

  choose() {
    if (this.spec.pick && this.over) this.view.pick({ figure: this.index, ...this.over });
  }

  press(event) {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.choose(); return; }
    if (!move) return;
    event.preventDefault();
    const [rows, columns] = this.size(), [r, c] = this.over ? [this.over.row, this.over.column] : this.spec.picked ?? [0, 0];
    const keep = (x, n) => Math.max(0, Math.min(n - 1, x));
    this.hover({ row: keep(r + move[0], rows), column: keep(c + move[1], columns) });
  }

  draw() {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (this.open || !this.spec || width < 60 || height < 40) return;
    this.c = theme(this.view.root);
    const ctx = sharp(this.canvas, width, height);
    ctx.clearRect(0, 0, width, height);
    ctx.font = `${TEXT} ${this.c.font}`;
    ctx.lineWidth = 1;
    this.paint(ctx, width, height);
  }

  words(ctx, text, x, y, align = "left", colour = this.c.soft) {
    ctx.fillStyle = colour; ctx.textAlign = align; ctx.textBaseline = "middle";
    ctx.fillText(text, x, y);
  }

  upright(ctx, text, x, y) {
    ctx.save(); ctx.translate(x, y); ctx.rotate(-Math.PI / 2); this.words(ctx, text, 0, 0, "center"); ctx.restore();
  }

  keys(lines) {
    this.key.className = "keys";
    this.key.replaceChildren();
    for (const line of lines) {
      const item = add(this.key, "span"), svg = add(item, "svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
      add(svg, "line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: line.colour, "stroke-width": 2.5, "stroke-dasharray": (line.dash ?? []).join(" ") || "none" });
      add(item, "span", {}, line.name);
    }
  }
}

class MapFigure extends Figure {
  size() { return [this.spec.rows.length, this.spec.rows[0].length]; }
  label(axis, i) { return axis.labels ? axis.labels[i] : String(i + (axis.from ?? 0)); }

  box(ctx, width, height) {
    const { rows, x, y, square } = this.spec, n = rows.length, m = rows[0].length;
    const wide = Math.max(...rows.map((_, i) => ctx.measureText(this.label(y, i)).width));
    const left = 18 + wide + 6, top = 3, bottom = 32, most = [width - left - 4, height - top - bottom];
    const cell = [Math.min(most[0] / m, 56), Math.min(most[1] / n, 40)];
    if (square) cell[0] = cell[1] = Math.min(...cell);
    return { x: left, y: top, width: cell[0] * m, height: cell[1] * n };
  }

  paint(ctx, width, height) {
    const { rows, x, y, min, max, picked } = this.spec, n = rows.length, m = rows[0].length;
    const box = this.frame = this.box(ctx, width, height), w = box.width / m, h = box.height / n;
    const table = (min < 0 ? diverging : sequential)(this.look, this.c.dark);
    heat(ctx, rows, { ...box, table, min, max, grid: this.c.line });
    ctx.strokeStyle = this.c.line; ctx.lineWidth = 1;
    ctx.strokeRect(box.x - 0.5, box.y - 0.5, box.width + 1, box.height + 1);
    if (w >= 30 && h >= 15) {
      for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) {
        const [r, g, b] = rgb(colourOf(table, rows[i][j], min, max));
        this.words(ctx, short(rows[i][j]), box.x + (j + 0.5) * w, box.y + (i + 0.5) * h, "center", 0.299 * r + 0.587 * g + 0.114 * b < 140 ? "#fff" : "#111");
      }
    }
    const widest = Math.max(...rows[0].map((_, j) => ctx.measureText(this.label(x, j)).width)) + 8;
    for (let j = 0, s = stride(w, Math.max(20, widest)); j < m; j += s) this.words(ctx, this.label(x, j), box.x + (j + 0.5) * w, box.y + box.height + 9, "center");
    for (let i = 0, s = stride(h, 13); i < n; i += s) this.words(ctx, this.label(y, i), box.x - 5, box.y + (i + 0.5) * h, "right");
    this.words(ctx, x.title, box.x + box.width / 2, box.y + box.height + 23, "center");
    this.upright(ctx, y.title, 8, box.y + box.height / 2);
    const outline = ([i, j], colour, size) => { ctx.strokeStyle = colour; ctx.lineWidth = size; ctx.strokeRect(box.x + j * w, box.y + i * h, w, h); };
    for (const row of this.spec.marked ?? []) { ctx.strokeStyle = this.c.text; ctx.lineWidth = 2; ctx.strokeRect(box.x, box.y + row * h, box.width, h); }
    if (picked) outline(picked, this.c.text, 2);
    if (this.over) outline([this.over.row, this.over.column], this.c.primary, 2);
    this.key.className = "";
    legend(this.key, table, short(min), short(max));
  }

  at(px, py) { return this.frame && cellAt(this.spec.rows, this.frame, px, py); }
  say({ row, column }) {
    const { rows, x, y, tip } = this.spec;
    return fill(tip, { row: this.label(y, row), column: this.label(x, column), value: exact(rows[row][column]) });
  }

  rows() { return [["", ...this.spec.rows[0].map((_, j) => this.label(this.spec.x, j))], ...this.spec.rows.map((row, i) => [this.label(this.spec.y, i), ...row])]; }
}

class BarsFigure extends Figure {
  size() { return [this.spec.rows.length, this.spec.rows[0].values.length]; }

  paint(ctx, width, height) {
    const { rows, x_title: title } = this.spec, n = rows[0].values.length, x0 = 40, band = (height - 30) / rows.length, w = (width - x0 - 6) / n;
    this.frame = { x0, w, band };
    rows.forEach((row, i) => {
      const top = i * band, tall = band - 22, low = Math.min(0, ...row.values) < 0, zero = top + 18 + (low ? tall / 2 : tall), unit = (low ? tall / 2 : tall) / (row.limit || 1);
      this.words(ctx, row.name, x0, top + 8, "left", this.c.text);
      for (const v of low ? [row.limit, 0, -row.limit] : [row.limit, 0]) this.words(ctx, short(v), x0 - 6, zero - v * unit, "right");
      ctx.fillStyle = row.colour;
      row.values.forEach((v, j) => { const size = Math.max(Math.abs(v) * unit, v ? 0.5 : 0); ctx.fillRect(x0 + j * w + w * 0.1, v < 0 ? zero : zero - size, w * 0.8, size); });
      ctx.strokeStyle = this.c.soft; ctx.beginPath(); ctx.moveTo(x0, Math.round(zero) + 0.5); ctx.lineTo(x0 + n * w, Math.round(zero) + 0.5); ctx.stroke();
    });
    for (let j = 0, s = stride(w, 22); j < n; j += s) this.words(ctx, String(j), x0 + (j + 0.5) * w, height - 22, "center");
    this.words(ctx, title, x0 + (n * w) / 2, height - 8, "center");
    if (this.over) { ctx.fillStyle = this.c.line; ctx.fillRect(x0 + this.over.column * w, 0, w, height - 30); }
  }

  at(px, py) {
    const { x0, w } = this.frame ?? {}, column = Math.floor((px - x0) / w);
    return column >= 0 && column < this.spec.rows[0].values.length ? { row: 0, column } : null;
  }

  say({ column }) { return [fill(this.spec.tip, { column }), ...this.spec.rows.map((row) => `${row.name}: ${exact(row.values[column])}`)].join("\n"); }
  rows() { return [["", ...this.spec.rows[0].values.map((_, j) => String(j))], ...this.spec.rows.map((row) => [row.name, ...row.values])]; }
}

class PlotFigure extends Figure {
  size() { return [1, this.spec.x.length]; }

  paint(ctx, width, height) {
    const { x, lines, min, max, picked, shade } = this.spec, left = 52, right = 10, top = 8, bottom = 34;
    const from = x[0], to = x[x.length - 1], pad = (to - from) * 0.02;
    const px = (v) => left + ((v - from + pad) / (to - from + 2 * pad || 1)) * (width - left - right), py = (v) => height - bottom - ((v - min) / (max - min || 1)) * (height - top - bottom);
    this.frame = { px, left, right: width - right };
    if (shade) {
      ctx.fillStyle = this.c.line; ctx.fillRect(px(shade.from), top, px(shade.to) - px(shade.from), height - top - bottom);
      this.words(ctx, shade.text, px(shade.from) + 6, top + 10);
    }
    const raw = (max - min) / 4, ten = 10 ** Math.floor(Math.log10(raw || 1)), step = [1, 2, 2.5, 5, 10].map((m) => m * ten).find((s) => s >= raw * 0.999) || 1;
    for (let v = Math.ceil(min / step - 1e-9) * step; v <= max + step * 1e-6; v += step) {
      const y = Math.round(py(v)) + 0.5;
      ctx.strokeStyle = this.c.line; ctx.beginPath(); ctx.moveTo(left, y); ctx.lineTo(width - right, y); ctx.stroke();
      this.words(ctx, short(Number(v.toPrecision(6))), left - 6, y, "right");
    }
    const gap = x.length > 1 ? (px(to) - px(from)) / (x.length - 1) : 1;
    for (let i = 0, s = stride(gap, 24); i < x.length; i += s) this.words(ctx, this.spec.labels?.[i] ?? short(x[i]), px(x[i]), height - bottom + 10, "center");
    this.words(ctx, this.spec.x_title, (left + width - right) / 2, height - 8, "center");
    this.upright(ctx, this.spec.y_title, 8, (top + height - bottom) / 2);
    const mark = (i, colour) => { ctx.strokeStyle = colour; ctx.setLineDash([]); ctx.lineWidth = 1.5; ctx.beginPath(); ctx.moveTo(px(x[i]), top); ctx.lineTo(px(x[i]), height - bottom); ctx.stroke(); };
    if (picked) mark(picked[1], this.c.text);
    if (this.over) mark(this.over.column, this.c.primary);
    for (const line of lines) {
      const xs = line.x ?? x;
      ctx.strokeStyle = ctx.fillStyle = line.colour; ctx.lineWidth = line.dots === "only" ? 1 : 2; ctx.setLineDash(line.dash ?? []); ctx.lineJoin = "round";
      ctx.beginPath();
      line.values.forEach((v, i) => (i ? ctx.lineTo(px(xs[i]), py(v)) : ctx.moveTo(px(xs[i]), py(v))));
      if (line.dots !== "only") ctx.stroke();
      ctx.setLineDash([]);
      if (line.dots) line.values.forEach((v, i) => { ctx.beginPath(); ctx.arc(px(xs[i]), py(v), 3.2, 0, 7); ctx.fill(); });
    }
    this.keys(lines);
  }

  at(x, y) {
    if (!this.frame || x < this.frame.left - 8 || x > this.frame.right + 8) return null;
    let best = 0;
    this.spec.x.forEach((v, i) => { if (Math.abs(this.frame.px(v) - x) < Math.abs(this.frame.px(this.spec.x[best]) - x)) best = i; });
    return { row: 0, column: best };
  }

  say({ column }) {
    const label = this.spec.labels?.[column] ?? short(this.spec.x[column]);
    return [`${this.spec.x_title}: ${label}`, ...this.spec.lines.filter((l) => !l.x).map((l) => `${l.name}: ${exact(l.values[column])}`)].join("\n");
  }

  rows() {
    const lines = this.spec.lines.filter((l) => !l.x);
    return [[this.spec.x_title, ...lines.map((l) => l.name)], ...this.spec.x.map((v, i) => [this.spec.labels?.[i] ?? short(v), ...lines.map((l) => l.values[i])])];
  }
}

// The same tokens on a ruler from 0 to 1, one ruler a sequence; the first two are marked, with the step between them.
class RulerFigure extends Figure {
  size() { return [this.spec.rows.length, Math.max(...this.spec.rows.map((r) => r.at.length))]; }

  paint(ctx, width, height) {
    const { rows, ends } = this.spec, x0 = 22, x1 = width - 22, band = Math.min(150, (height - 6) / rows.length);
    this.frame = { x0, x1, band };
    rows.forEach((row, i) => {
      const y = i * band + band * 0.66, px = (v) => x0 + v * (x1 - x0), size = Math.max(7, Math.min(13, ((x1 - x0) / row.at.length) * 0.36));
      ctx.font = `600 13px ${this.c.font}`; this.words(ctx, row.name, x0 - 12, i * band + 11, "left", this.c.text);
      ctx.strokeStyle = this.c.soft; ctx.lineWidth = 1.5; ctx.beginPath(); ctx.moveTo(x0, y); ctx.lineTo(x1, y); ctx.stroke();
      ctx.strokeStyle = row.colour; ctx.lineWidth = 5; ctx.beginPath(); ctx.moveTo(px(row.at[0]), y); ctx.lineTo(px(row.at[1]), y); ctx.stroke();
      const half = (px(row.at[1]) - px(row.at[0])) / 2, text = row.step, room = (ctx.font = `12px ${this.c.font}`, ctx.measureText(text).width / 2);
      this.words(ctx, text, Math.max(x0 - 12 + room, px(row.at[0]) + half), y + 31, "center", this.c.text);
      row.at.forEach((v, j) => {
        const on = j < 2;
        ctx.beginPath(); ctx.arc(px(v), y, size, 0, 7); ctx.fillStyle = on ? row.colour : this.c.background; ctx.fill();
        ctx.strokeStyle = on ? row.colour : this.c.soft; ctx.lineWidth = 1.2; ctx.stroke();
        ctx.font = `${Math.min(12, size * 1.15)}px ${this.c.mono}`; this.words(ctx, row.tokens[j], px(v), y + 0.5, "center", on ? "#fff" : this.c.text);
        if (this.over?.row === i && this.over.column === j) { ctx.strokeStyle = this.c.text; ctx.lineWidth = 2; ctx.beginPath(); ctx.arc(px(v), y, size + 2.5, 0, 7); ctx.stroke(); }
      });
      ctx.font = `${TEXT} ${this.c.font}`;
      this.words(ctx, "0", x0, y - 22, "center"); this.words(ctx, "1", x1, y - 22, "center");
    });
  }

  at(x, y) {
    const { x0, x1, band } = this.frame ?? {}, row = Math.floor(y / band), spec = this.spec.rows[row];
    if (!spec) return null;
    let column = -1;
    spec.at.forEach((v, j) => { if (Math.abs(x0 + v * (x1 - x0) - x) < 12) column = j; });
    return column < 0 ? null : { row, column };
  }

  say({ row, column }) { const r = this.spec.rows[row]; return column < r.at.length ? fill(this.spec.tip, { column, token: r.tokens[column], value: exact(r.at[column]) }) : ""; }
  rows() { return [["", ...Array.from({ length: this.size()[1] }, (_, j) => String(j))], ...this.spec.rows.map((r) => [r.name, ...r.at])]; }
}

// Pairs of features as hands of clocks: where PE(t) points, where PE(t + k) points, and the turn between.
class ClockFigure extends Figure {
  size() { return [1, this.spec.clocks.length]; }

  paint(ctx, width, height) {
    const { clocks, colours } = this.spec, n = clocks.length;
    const columns = [...Array(n).keys()].map((i) => i + 1).sort((a, b) => Math.min(width / b, height / Math.ceil(n / b)) - Math.min(width / a, height / Math.ceil(n / a)))[0];
    const lines = Math.ceil(n / columns), w = width / columns, h = height / lines, radius = Math.max(14, Math.min(w / 2 - 10, (h - 38) / 2, 95));
    this.frame = { w, h, columns };
    clocks.forEach((clock, i) => {
      const x = (i % columns + 0.5) * w, y = Math.floor(i / columns) * h + 20 + radius;
      this.words(ctx, clock.title, x, y - radius - 10, "center", this.c.text);
      ctx.strokeStyle = this.over?.column === i ? this.c.text : this.c.soft; ctx.lineWidth = 1; ctx.beginPath(); ctx.arc(x, y, radius, 0, 7); ctx.stroke();
      ctx.strokeStyle = this.c.line; ctx.beginPath(); ctx.moveTo(x - radius, y); ctx.lineTo(x + radius, y); ctx.moveTo(x, y - radius); ctx.lineTo(x, y + radius); ctx.stroke();
      if (clock.turn) { // sine is across, cosine is up: angle 0 points up and grows clockwise
        ctx.fillStyle = this.c.line; ctx.beginPath(); ctx.moveTo(x, y); ctx.arc(x, y, radius * 0.55, clock.from - Math.PI / 2, clock.from + Math.min(clock.turn, 2 * Math.PI) - Math.PI / 2); ctx.fill();
      }
      const hand = (angle, colour, size, dash) => {
        const ex = x + radius * 0.94 * Math.sin(angle), ey = y - radius * 0.94 * Math.cos(angle);
        ctx.strokeStyle = ctx.fillStyle = colour; ctx.lineWidth = size; ctx.setLineDash(dash); ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(ex, ey); ctx.stroke(); ctx.setLineDash([]);
        ctx.beginPath(); ctx.arc(ex, ey, size + 1.5, 0, 7); ctx.fill();
      };
      hand(clock.from, colours[0], 2.5, []);
      hand(clock.from + clock.turn, colours[1], 2.5, [5, 3]);
      this.words(ctx, clock.text, x, y + radius + 11, "center");
    });
    this.keys([{ name: this.spec.names[0], colour: colours[0] }, { name: this.spec.names[1], colour: colours[1], dash: [5, 3] }]);
  }

  at(x, y) {
    const { w, h, columns } = this.frame ?? {}, column = Math.floor(y / h) * columns + Math.floor(x / w);
    return column >= 0 && column < this.spec.clocks.length ? { row: 0, column } : null;
  }

  say({ column }) { return this.spec.clocks[column].tip; }
  rows() { return [["", ...this.spec.clocks.map((c) => c.title)], [this.spec.names[0], ...this.spec.clocks.map((c) => c.from)], [this.spec.names[1], ...this.spec.clocks.map((c) => c.from + c.turn)]]; }
}

// Encodings × wishes. A cell is a button that shows how it was measured.
class WishesFigure extends Figure {
  constructor(view, index) {
    super(view, index);
    this.canvas.remove(); this.button.remove(); this.numbers.remove();
    this.list = add(this.paper, "table", { class: "wishes" });
  }

  table() { this.draw(); }

  draw() {
    if (!this.spec) return;
    const { columns, lines, picked } = this.spec, had = this.view.root.getRootNode().activeElement?.dataset?.cell;
    this.list.replaceChildren();
    const head = add(add(this.list, "thead"), "tr"), body = add(this.list, "tbody");
    add(head, "th");
    for (const column of columns) help(add(add(head, "th", { scope: "col" }), "span", {}, column.title), column.help, this.view.tip);
    lines.forEach((line, i) => {
      const row = add(body, "tr", line.apart ? { class: "apart" } : {});
      add(row, "th", { scope: "row" }, line.name);
      line.cells.forEach((cell, j) => {
        const box = add(row, "td", { class: cell.good === null ? "" : cell.good ? "good" : "bad" });
        const button = add(box, "button", { type: "button", "aria-pressed": picked[0] === i && picked[1] === j, "data-cell": `${i},${j}` });
        add(button, "span", { class: "sign" }, cell.good === null ? "" : cell.good ? "✓" : "✗");
        add(button, "span", {}, cell.text);
        setAttr(button, "title", cell.exact);
        button.onclick = () => this.view.pick({ figure: this.index, row: i, column: j });
      });
    });
    if (had) this.list.querySelector(`[data-cell="${had}"]`)?.focus();
  }
}

const FIGURES = { map: MapFigure, bars: BarsFigure, plot: PlotFigure, ruler: RulerFigure, clock: ClockFigure, wishes: WishesFigure };
