// Attention thumbnails: one small heat map for every layer and head of the probe example, redrawn as it trains.

const KINDS = [["encoder", "self"], ["decoder", "self"], ["decoder", "cross"]];
const MAP = 290; // the model map needs this height, and likes a little more
const LABEL = 66, SMALLEST = 34, LARGEST = 128;

class Thumbs {
  constructor(board) {
    this.board = board;
    this.box = board.root.querySelector(".thumbs .grid");
    this.popover = document.createElement("div");
    this.big = add(this.popover, "canvas", { class: "big", "aria-hidden": "true" });
    this.caption = add(this.popover, "div", { class: "caption" });
    this.items = [];
    this.box.onscroll = () => { board.tip.hide(); this.paint(); };
    this.box.onkeydown = (event) => this.key(event);
  }

  // How many layers side by side give the largest thumbnails.
  layout(width, height, layers, heads) {
    let best = { size: 0, across: 1 };
    for (let across = 1; across <= layers; across++) {
      const bands = Math.ceil(layers / across);
      const w = (width - LABEL - (across - 1) * 16 - 8) / (heads * across) - 4, h = (height - 4) / bands;
      const size = Math.floor(Math.min(w, (h - 36) / 3 - 4, LARGEST));
      if (w >= SMALLEST || across === 1) if (size > best.size || (size < SMALLEST && best.size < SMALLEST)) best = { size, across };
    }
    return { across: best.across, size: Math.max(SMALLEST, best.size) };
  }

  build() {
    const { facts, labels, look } = this.board.data;
    // Of a very large model the last layers and first heads are sent, as many as one look a few times a second allows.
    const [layers, heads] = this.board.live.probe?.shown ?? [facts.layers, facts.heads], skipped = facts.layers - layers;
    this.heads = heads;
    const column = this.box.closest(".column").clientHeight, around = this.board.root.clientWidth <= 800 ? 72 : 52, least = column > 680 ? MAP + 20 : MAP; // around: header, padding
    const { across, size } = this.layout(this.box.clientWidth, column - least - around, layers, heads);
    const need = Math.ceil(layers / across) * (3 * (size + 4) + 34);
    const map = Math.round(Math.max(least, Math.min(column - need - around, column / 2)));
    this.board.root.style.setProperty("--map", `${map}px`);
    const sign = JSON.stringify([across, size, layers, heads, this.board.version]);
    if (sign === this.built) return;
    this.built = sign;
    this.items = [];
    this.box.replaceChildren();
    this.box.style.setProperty("--size", `${size}px`);
    for (let first = 0; first < layers; first += across) {
      const band = add(this.box, "div", { class: "band" }), names = add(band, "div", { class: "names" });
      for (const [stack, kind] of KINDS) help(add(add(names, "div"), "span", {}, labels[`${stack}_${kind}`]), labels[`${stack}_${kind}_help`], this.board.tip);
      for (let layer = skipped + first; layer < skipped + Math.min(layers, first + across); layer++) {
        const block = add(band, "div", { class: "block" }), grid = add(block, "div", { class: "heads", style: `--heads:${heads}` });
        add(block, "div", { class: "layer" }, fill(labels.layer, { layer: layer + 1 }));
        block.prepend(block.lastChild);
        for (let head = 0; head < heads; head++) add(grid, "span", { class: "number", title: fill(labels.head, { head: head + 1 }) }, head + 1);
        for (const [stack, kind] of KINDS) for (let head = 0; head < heads; head++) this.item(grid, stack, layer, kind, head, look.heads);
      }
    }
    for (const item of this.items) item.top = item.canvas.offsetTop;
    if (this.items.length) this.items[0].canvas.tabIndex = 0; // one stop for Tab; arrows move on
  }

  item(grid, stack, layer, kind, head, colours) {
    const canvas = add(grid, "canvas", { role: "img", tabindex: -1, style: `--head:${colours[head % colours.length]}` });
    const item = { canvas, stack, layer, kind, head, name: `${stack}.${layer}.${kind}` };
    canvas.onpointermove = (event) => this.enlarge(item, event.offsetX, event.offsetY);
    canvas.onpointerleave = canvas.onblur = () => { this.open = null; this.board.tip.hide(); };
    canvas.onfocus = () => this.enlarge(item);
    canvas.onclick = () => this.board.choose(`${stack}.${layer}`);
    canvas.ondblclick = () => this.lead(item);
    this.items.push(item);
  }

  // To the Attention page, at this head and the step in view.
  lead({ stack, layer, kind, head }) {
    this.board.open({ page: "attention", where: kind === "cross" ? "cross" : stack, layer: layer + 1, head: head + 1 });
  }

  key(event) {
    const at = this.items.findIndex((item) => item.canvas === event.target), { heads } = this;
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -heads, ArrowDown: heads }[event.key];
    if (at >= 0 && event.key === "Enter") { this.lead(this.items[at]); return; }
    if (at < 0 || !move || !this.items[at + move]) return;
    event.preventDefault();
    this.items[at].canvas.tabIndex = -1;
    this.items[at + move].canvas.tabIndex = 0;
    this.items[at + move].canvas.focus();
  }

  // The pattern under the pointer, large, with its tokens and the weight to three decimals.
  enlarge(item, x, y) {
    const { seen: live, data, colours, table } = this.board, matrix = live.probe?.patterns?.[item.name]?.[item.head];
    if (!matrix) return;
    this.open = () => this.enlarge(item, x, y);
    const queries = item.stack === "encoder" ? live.probe.src : live.probe.tgt;
    const keys = item.kind === "cross" || item.stack === "encoder" ? live.probe.src : live.probe.tgt;
    const size = item.canvas.clientWidth, cell = x === undefined ? null : cellAt(matrix, { width: size, height: size }, x, y);
    const side = 204, rim = 36, ctx = sharp(this.big, side + rim, side + rim);
    ctx.clearRect(0, 0, side + rim, side + rim);
    heat(ctx, matrix, { x: rim, y: rim, width: side, height: side, table });
    const w = side / keys.length, h = side / queries.length;
    ctx.font = `${Math.max(7, Math.min(12, w, h))}px ${colours.mono}`;
    ctx.fillStyle = colours.text; ctx.textAlign = "center"; ctx.textBaseline = "middle";
    keys.forEach((t, j) => ctx.fillText(t, rim + (j + 0.5) * w, rim - 9, w * 1.3));
    queries.forEach((t, i) => ctx.fillText(t, rim - 11, rim + (i + 0.5) * h, 20));
    ctx.font = `11px ${colours.font}`; ctx.fillStyle = colours.soft;
    ctx.fillText(data.labels.key_axis, rim + side / 2, 8);
    ctx.save(); ctx.translate(7, rim + side / 2); ctx.rotate(-Math.PI / 2); ctx.fillText(data.labels.query_axis, 0, 0); ctx.restore();
    if (cell) { ctx.lineWidth = 2; ctx.strokeStyle = data.look.heads[item.head % data.look.heads.length]; ctx.strokeRect(rim + cell.column * w, rim + cell.row * h, w, h); }
    const name = this.nameOf(item);
    setText(this.caption, cell ? `${name}\n${fill(data.labels.cell, { query: queries[cell.row] ?? "", i: cell.row + 1, key: keys[cell.column] ?? "",
      j: cell.column + 1, weight: matrix[cell.row][cell.column].toFixed(3) })}` : name);
    this.board.tip.show(item.canvas, "", this.popover, true);
  }

  nameOf({ stack, kind, layer, head }) {
    const { labels } = this.board.data;
    return `${labels[`${stack}_${kind}`]} · ${fill(labels.layer, { layer: layer + 1 })} · ${fill(labels.head, { head: head + 1 })}`;
  }

  draw() {
    const { seen: live, data, part, root } = this.board, { probe } = live, { labels } = data;
    this.build();
    setText(root.querySelector(".thumbs .probe"), probe ? probe.src.join(" ") : "");
    setText(root.querySelector(".thumbs .at"), probe ? `${labels.step} ${probe.step}` : "");
    const [layers, heads] = probe?.shown ?? [data.facts.layers, data.facts.heads];
    const all = layers === data.facts.layers && heads === data.facts.heads;
    setText(root.querySelector(".thumbs .some"), all ? "" : fill(labels.some_heads, { layers, heads, all_layers: data.facts.layers, all_heads: data.facts.heads }));
    const [stack, layer] = (part ?? "").split(".");
    for (const item of this.items) {
      const dim = layer !== undefined ? item.stack !== stack || item.layer !== Number(layer) : stack === "memory" && item.kind !== "cross";
      item.canvas.classList.toggle("dim", dim);
    }
    if (part !== this.scrolled) {
      this.scrolled = part;
      const first = layer !== undefined && this.items.find((i) => !i.canvas.classList.contains("dim"));
      if (first && this.box.scrollHeight > this.box.clientHeight) this.box.scrollTop = first.top - 40;
    }
    this.paint();
    this.open?.();
  }

  // Only what can be seen: a model of 24 layers has hundreds of heads.
  paint() {
    const { seen: live, table, data } = this.board, { scrollTop, clientHeight } = this.box;
    const version = `${live.probe?.version} ${this.board.colours.dark} ${data.run}`;
    for (const item of this.items) {
      if (item.drawn === version || item.top < scrollTop - LARGEST || item.top > scrollTop + clientHeight) continue;
      item.drawn = version;
      const matrix = live.probe?.patterns?.[item.name]?.[item.head], size = item.canvas.clientWidth, ctx = sharp(item.canvas, size, size);
      ctx.clearRect(0, 0, size, size);
      if (matrix) heat(ctx, matrix, { width: size, height: size, table });
      const peak = matrix ? matrix.reduce((sum, row) => sum + Math.max(...row), 0) / matrix.length : 0;
      setAttr(item.canvas, "aria-label", matrix ? fill(data.labels.thumb_alt, { name: this.nameOf(item), step: live.probe.step, peak: peak.toFixed(2) }) : this.nameOf(item));
    }
  }
}
