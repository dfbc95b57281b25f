// A mask that is painted cell by cell, and what it does: the weights of one head, who influences which prediction, the outputs.
// Painting is shown at once here; Python answers with the numbers of the whole mask, and newer paint is never overwritten.

const KEPT_GRIDS = new WeakMap();
const REST = 84 + 222 + 4 * 18 + 8; // labels, outputs and gaps, in pixels

class MaskGrid {
  constructor(root) {
    this.root = root;
    this.$ = (name) => root.querySelector(name);
    this.tip = tooltip(root);
    this.seq = 0; this.focus = [0, 0]; this.at = null; this.waiting = 0;
    this.dirty = this.unsent = false; // the numbers shown belong to an older mask; some paint is not told to Python yet
    this.resized = new ResizeObserver(() => this.data && this.draw());
    this.resized.observe(root);
    this.lift = () => this.release();
    window.addEventListener("pointerup", this.lift);
    window.addEventListener("pointercancel", this.lift);
  }

  close() {
    this.resized.disconnect();
    clearTimeout(this.late);
    window.removeEventListener("pointerup", this.lift);
    window.removeEventListener("pointercancel", this.lift);
  }

  take(data, send) {
    const first = !this.data, size = first || this.mask.length !== data.mask.length;
    this.send = send; this.data = data;
    if (first) this.seq = data.seq;
    this.waiting = 0;
    clearTimeout(this.late);
    // What was painted since is newer than this answer.
    if (size || (data.seq >= this.seq && !this.unsent)) {
      this.mask = data.mask.map((row) => [...row].map(Number));
      this.seq = Math.max(this.seq, data.seq); this.dirty = this.unsent = false;
    }
    if (size) this.build();
    this.controls();
    this.draw();
    if (this.unsent) this.tell();
  }

  n() { return this.mask.length; }

  build() {
    const cells = this.$(".cells");
    cells.replaceChildren();
    this.focus = [0, 0];
    this.nodes = this.mask.map((row, i) => {
      const line = add(cells, "div", { role: "row" });
      return row.map((_, j) => add(line, "span", { role: "gridcell", tabindex: i || j ? "-1" : "0", class: j > i ? "ahead" : "" }));
    });
    cells.onpointerdown = (event) => this.press(event);
    cells.onpointermove = (event) => this.move(event);
    cells.onpointerleave = () => this.point(null);
    cells.onkeydown = (event) => this.key(event);
    cells.onfocus = null;
    for (const name of ["weights", "influence"]) {
      const canvas = this.$(`.${name} canvas`);
      canvas.onpointermove = (event) => this.point(cellUnder(canvas, event, this.cell, this.n(), this.n()), event, name);
      canvas.onpointerleave = () => this.point(null);
    }
  }

  controls() {
    const { data } = this, { t } = data;
    const presets = this.$(".presets");
    setAttr(presets, "aria-label", t.presets);
    while (presets.children.length < data.presets.length) add(presets, "button", { type: "button" });
    data.presets.forEach((preset, i) => {
      const button = presets.children[i];
      setText(button, preset.name); setAttr(button, "title", preset.help); setAttr(button, "data-id", preset.id);
      button.onclick = () => {
        if (preset.rows) { this.mask = preset.rows.map((row) => [...row].map(Number)); this.draw(); }
        this.tell(preset.id);
      };
    });
    const select = this.$("select");
    setText(this.$(".head span"), t.head);
    setAttr(select, "aria-label", t.head);
    if (this.heads !== JSON.stringify(data.heads)) {
      this.heads = JSON.stringify(data.heads);
      select.replaceChildren();
      for (const head of data.heads) add(select, "option", { value: head.id }, head.name);
    }
    select.value = data.head;
    select.onchange = () => this.send("head", select.value);
    setText(this.$(".hint"), t.hint);
    for (const name of ["paint", "weights", "influence", "outputs", "labels"]) {
      setText(this.$(`.${name} h4`), t[name]);
      setText(this.$(`.${name} p`), t[`${name}_axes`]);
    }
    setAttr(this.$(".cells"), "aria-label", t.paint);
    setText(this.$(".hatched > span"), t.hatched);
    setText(this.$(".foot .ahead > span"), t.ahead);
  }

  draw() {
    const { data } = this, { t } = data, n = this.n();
    const colours = theme(this.root), table = sequential(data.look, colours.dark);
    roles(this.root, data.look);
    this.cell = cellSize(this.root.clientWidth, n, 3, REST);
    this.root.style.setProperty("--map", `${Math.max(180, n * this.cell + 2)}px`);
    const marks = data.reads.map((_, i) => (i >= data.real ? "filler" : "")), lit = (i, k) => `${marks[i]} ${this.at?.[k] === i ? "on" : ""}`.trim();
    const columns = data.reads.map((_, i) => lit(i, "column")), rows = data.reads.map((_, i) => lit(i, "row"));
    axis(this.$(".labels .rows"), data.reads, this.cell, { marks: rows, make: () => ["button", { type: "button" }] });
    for (const name of ["paint", "weights", "influence"]) {
      axis(this.$(`.${name} .cols`), data.reads, this.cell, { marks: columns, make: name === "paint" ? () => ["button", { type: "button" }] : undefined });
    }
    data.reads.forEach((token, i) => {
      const column = this.$(".paint .cols").children[i], row = this.$(".labels .rows").children[i];
      setAttr(column, "title", t.column); setAttr(row, "title", t.row);
      setAttr(column, "aria-label", fill(t.key_name, { j: i + 1, token })); setAttr(row, "aria-label", fill(t.query_name, { t: i + 1, token }));
      column.onclick = () => this.line(null, i);
      row.onclick = () => this.line(i, null);
    });
    this.nodes.forEach((row, i) => row.forEach((node, j) => this.show(node, i, j)));
    this.$(".cells").style.setProperty("--cell", `${this.cell}px`);
    const old = this.dirty || this.waiting > 0;
    this.root.classList.toggle("old", old);
    setAttr(this.root, "data-seq", data.seq);
    const weights = data.weights, influence = data.influence.map((row) => row.map((x) => (x === 0 ? null : x)));
    const most = Math.max(1e-12, ...data.influence.flat());
    gridMap(this.$(".weights canvas"), weights, this.cell, { table, colours, at: this.at });
    gridMap(this.$(".influence canvas"), influence, this.cell, { table, max: most, colours, at: this.at,
      outline: (i, j) => (j > i && data.influence[i][j] > 0 ? data.look.roles.wrong : null) });
    setAttr(this.$(".weights canvas"), "aria-label", t.weights_alt);
    setAttr(this.$(".influence canvas"), "aria-label", t.influence_alt);
    this.outputs();
    legend(this.$(".scale"), table, `0 / 0`, `1 / ${short(most)}`);
    setAttr(this.$(".scale"), "title", t.scale);
    for (const button of this.$(".presets").children) setAttr(button, "aria-pressed", !this.dirty && button.dataset.id === data.preset);
    const notes = this.$(".notes");
    while (notes.children.length > data.notes.length) notes.lastChild.remove();
    data.notes.forEach((note, i) => setText(notes.children[i] ?? add(notes, "p"), note));
  }

  outputs() {
    const { data } = this, { t } = data, rows = this.$(".outputs .rows");
    while (rows.children.length > data.outputs.length) rows.lastChild.remove();
    data.outputs.forEach((out, i) => {
      let row = rows.children[i];
      if (!row) {
        row = add(rows, "div");
        add(row, "span", { class: "chip" });
        add(add(row, "span", { class: "meter" }), "i");
        add(row, "span", { class: "p" });
        const said = add(row, "span", { class: "said" });
        add(said, "span"); add(said, "b"); add(said, "span");
      }
      row.style.setProperty("--cell", `${this.cell}px`);
      const [chip, meter, p, said] = row.children;
      setAttr(row, "class", `${i >= data.real ? "faint" : ""} ${this.at?.row === i ? "on" : ""}`.trim());
      setText(chip, out.token);
      setAttr(chip, "class", `chip ${out.right === null ? "" : out.right ? "right" : "wrong"}`.trim());
      meter.firstChild.style.width = `${100 * out.p}%`;
      setText(p, out.p.toFixed(2));
      setText(said.children[0], out.right === null ? "" : out.right ? "✓" : `✗ ${t.instead} `);
      setText(said.children[1], out.right === false ? out.expected : "");
      setText(said.children[2], out.change >= 1e-3 ? `  Δ ${short(out.change)}` : "");
      setAttr(said, "title", fill(t.change, { change: short(out.change) }));
    });
  }

  show(node, i, j) {
    const open = this.mask[i][j] === 1, { t, reads } = this.data;
    setAttr(node, "aria-selected", open);
    setAttr(node, "aria-label", fill(open ? t.may : t.may_not, { t: i + 1, reads: reads[i], j: j + 1, token: reads[j] }));
    node.classList.toggle("lit", this.at !== null && (this.at.row === i || this.at.column === j) && this.at.row !== undefined);
  }

  put(i, j, value) {
    if (this.mask[i][j] === value) return;
    this.mask[i][j] = value;
    this.show(this.nodes[i][j], i, j);
    this.dirty = this.unsent = true;
  }

  press(event) {
    const at = cellUnder(this.$(".cells"), event, this.cell, this.n(), this.n());
    if (!at || event.button) return;
    event.preventDefault();
    this.brush = 1 - this.mask[at.row][at.column];
    this.last = at;
    this.put(at.row, at.column, this.brush);
    this.nodes[at.row][at.column].focus({ preventScroll: true });
    this.rove(at.row, at.column);
  }

  move(event) {
    const at = cellUnder(this.$(".cells"), event, this.cell, this.n(), this.n());
    if (at && this.brush !== undefined) { // a quick stroke skips cells: paint the line between
      const steps = Math.max(Math.abs(at.row - this.last.row), Math.abs(at.column - this.last.column));
      for (let s = 1; s <= steps; s++) {
        this.put(Math.round(this.last.row + ((at.row - this.last.row) * s) / steps), Math.round(this.last.column + ((at.column - this.last.column) * s) / steps), this.brush);
      }
      this.last = at;
      if (this.unsent && !this.waiting) this.tell();
    }
    this.point(at, event, "paint");
  }

  release() {
    if (this.brush === undefined) return;
    this.brush = undefined;
    if (this.unsent) this.tell();
  }

  rove(i, j) {
    this.nodes[this.focus[0]]?.[this.focus[1]]?.setAttribute("tabindex", "-1");
    this.nodes[i][j].setAttribute("tabindex", "0");
    this.focus = [i, j];
  }

  key(event) {
    const [i, j] = this.focus, n = this.n();
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -n], End: [0, n] }[event.key];
    if (step) {
      event.preventDefault();
      const row = Math.max(0, Math.min(n - 1, i + step[0])), column = Math.max(0, Math.min(n - 1, j + step[1])), value = this.mask[i][j];
      this.rove(row, column);
      this.nodes[row][column].focus();
      if (event.shiftKey) { this.put(row, column, value); if (this.unsent) this.tell(); }
      this.point({ row, column });
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      this.put(i, j, 1 - this.mask[i][j]);
      this.tell();
    }
  }

  // A click on a label opens or blocks its whole row or column.
  line(i, j) {
    const n = this.n(), cells = Array.from({ length: n }, (_, k) => [i ?? k, j ?? k]);
    const value = cells.some(([a, b]) => this.mask[a][b]) ? 0 : 1;
    for (const [a, b] of cells) this.put(a, b, value);
    if (this.unsent) this.tell();
  }

  tell(preset) {
    if (this.waiting && !preset) return; // one question at a time; the answer asks the next
    this.seq += 1; this.waiting = this.seq; this.dirty = true; this.unsent = false;
    this.root.classList.add("old");
    this.send("paint", JSON.stringify({ seq: this.seq, preset: preset ?? "", rows: this.mask.map((row) => row.join("")) }));
    clearTimeout(this.late);
    this.late = setTimeout(() => { this.waiting = 0; if (this.dirty) this.tell(); }, 3000);
  }

  point(at, event, where) {
    const before = JSON.stringify(this.at);
    this.at = at;
    if (!at) this.tip.hide();
    if (before !== JSON.stringify(at)) this.draw();
    if (!at || !event) return;
    const { data } = this, { t } = data, { row, column } = at, weight = data.weights[row][column], effect = data.influence[row][column];
    const names = { t: row + 1, reads: data.reads[row], writes: data.writes[row], j: column + 1, token: data.reads[column] };
    const lines = [fill(this.mask[row][column] ? t.may : t.may_not, names)];
    if (!this.dirty) {
      lines.push(fill(t.weight, { weight: weight === null ? "0" : exact(weight) }));
      lines.push(fill(effect === 0 ? t.none : t.effect, { ...names, effect: exact(effect) }));
    }
    this.tip.show(event, lines.join("\n"));
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("#maskgrid");
  let grid = KEPT_GRIDS.get(root);
  if (!grid) KEPT_GRIDS.set(root, (grid = new MaskGrid(root)));
  grid.take(data, (name, value) => setTriggerValue(name, value));
  return () => { grid.close(); KEPT_GRIDS.delete(root); };
}
