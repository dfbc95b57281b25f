// The model map: embeddings, encoder blocks, memory, decoder blocks, output, as an SVG drawn to the panel's size.
// Parts: "source", "encoder.0", …, "memory", "target", "decoder.0", …, "output".

const MOST_BLOCKS = 8; // more than these are shown as a window around the chosen one

function blocksShown(layers, chosen) {
  if (layers <= MOST_BLOCKS) return Array.from({ length: layers }, (_, i) => i);
  const middle = Math.max(2, Math.min(layers - 3, chosen)), window = [middle - 1, middle, middle + 1];
  const list = [...new Set([0, ...(window[0] === 1 ? [1, 2, 3, 4] : window[2] === layers - 2 ? [layers - 5, layers - 4, layers - 3, layers - 2] : window), layers - 1])];
  return list.flatMap((layer, i) => (i && layer !== list[i - 1] + 1 ? [null, layer] : [layer])); // null: "…"
}

class ModelMap {
  constructor(board) {
    this.board = board;
    this.svg = board.root.querySelector(".map svg");
    this.svg.onkeydown = (event) => this.key(event);
    this.view = "run";
    this.views = board.root.querySelector(".map .views");
    for (const button of this.views.querySelectorAll("button")) button.onclick = () => { this.view = button.dataset.view; board.later(); };
  }

  // Of the model that the map shows: that of the run in view, or the one of the next run.
  get facts() {
    const { facts, draft } = this.board.data;
    return this.view === "draft" ? draft?.facts ?? facts : facts;
  }

  // The switch between the two, and what the next one costs.
  header() {
    const { draft, labels } = this.board.data, { views, board } = this, note = board.root.querySelector(".map .next"), n = draft?.facts?.parameters.all;
    views.hidden = !draft?.facts;
    setAttr(views, "aria-label", labels.views_help);
    for (const button of views.querySelectorAll("button")) setAttr(button, "aria-pressed", button.dataset.view === this.view);
    const told = (v) => v.toLocaleString("en", v >= 1e6 ? { notation: "compact", maximumSignificantDigits: 3 } : {}); // the form has every digit
    const more = draft && (draft.more > 0 ? `+${told(draft.more)}` : draft.more < 0 ? `−${told(-draft.more)}` : "±0");
    setText(note, n ? fill(labels.difference, { n: told(n), more }) : draft ? labels.same_model : "");
    board.root.querySelector(".card.map").classList.toggle("draft", this.view === "draft" && Boolean(n));
  }

  draw() {
    const { part } = this.board, { facts, svg } = this, width = svg.clientWidth, height = svg.clientHeight;
    const chosen = Number(/\.(\d+)$/.exec(part ?? "")?.[1] ?? 0), shown = blocksShown(facts.layers, chosen);
    const sign = JSON.stringify([width, height, shown, this.view, this.version]);
    this.header();
    if (width < 60) return;
    if (sign !== this.drawn) { this.drawn = sign; this.build(width, height, shown); }
    for (const g of svg.querySelectorAll(".part")) {
      g.classList.toggle("on", g.dataset.part === part);
      setAttr(g, "aria-pressed", g.dataset.part === part);
    }
    svg.querySelector(".bus").classList.toggle("on", part === "memory");
    this.detail();
  }

  build(width, height, shown) {
    const { labels } = this.board.data, { facts, svg } = this, focused = svg.getRootNode().activeElement?.dataset.part;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const defs = add(svg, "defs"), tip = { viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" };
    for (const id of ["tip", "tip-memory"]) add(add(defs, "marker", { id, ...tip }), "path", { d: "M0 0.8 L7 4 L0 7.2 z", class: id });

    const side = Math.max(92, Math.min(124, width * 0.2)), gap = 18, label = 17, bus = 36;
    const tall = Math.min(92, (height - 2 * label - bus) / 2), top = label, bottom = top + tall + bus;
    const left = 1, right = width - side - 1, from = left + side + gap, to = right - gap;
    this.side("source", left, top, side, tall);
    this.side("memory", right, top, side, tall);
    this.side("target", left, bottom, side, tall);
    this.side("output", right, bottom, side, tall);
    const space = shown.length > 5 ? 12 : 18, dots = shown.filter((s) => s === null).length;
    const wide = Math.min(168, (to - from - dots * 14 - (shown.length - 1) * space) / (shown.length - dots));
    const used = wide * (shown.length - dots) + dots * 14 + (shown.length - 1) * space, begin = from + (to - from - used) / 2;
    for (const [stack, y] of [["encoder", top], ["decoder", bottom]]) {
      const middle = y + tall / 2, spots = [];
      let x = begin, end = left + side;
      shown.forEach((layer) => {
        const w = layer === null ? 14 : wide;
        add(svg, "line", { x1: end + 2, y1: middle, x2: x - 2, y2: middle, class: "wire", "marker-end": layer === null ? "" : "url(#tip)" });
        if (layer === null) add(svg, "text", { x: x + 7, y: middle + 4, class: "dots" }, "…");
        else { this.block(stack, layer, x, y, w, tall); spots.push(x + w / 2); }
        end = x + w;
        x = end + space;
      });
      add(svg, "line", { x1: end + 2, y1: middle, x2: right - 2, y2: middle, class: "wire", "marker-end": "url(#tip)" });
      const title = add(svg, "text", { x: width / 2, y: stack === "encoder" ? label - 6 : bottom + tall + 13, class: "stack" });
      add(title, "tspan", { class: "name" }, `${labels[stack]} × ${facts.layers}`);
      add(title, "tspan", { dx: 8 }, fill(labels.parameters, { n: facts.parameters[stack].toLocaleString("en") }));
      add(title, "tspan", { dx: 8 }, fill(labels.widths, { heads: facts.heads, d_k: facts.d_k, d_ff: facts.d_ff.toLocaleString("en") }));
      if (stack === "decoder") this.memoryBus(right + side / 2, top + tall, bottom, spots);
    }
    if (focused) svg.querySelector(`[data-part="${focused}"]`)?.focus();
  }

  memoryBus(x, y, bottom, spots) {
    const { svg } = this, middle = Math.round((y + bottom) / 2) + 0.5, { labels } = this.board.data;
    const line = add(svg, "g", { class: "bus" });
    add(line, "path", { d: `M${x} ${y + 1} V${middle} H${spots[0]}`, class: "wire" });
    for (const spot of spots) add(line, "line", { x1: spot, y1: middle, x2: spot, y2: bottom - 2, class: "wire", "marker-end": "url(#tip-memory)" });
    const last = spots[spots.length - 1], text = add(svg, "text", { x: (last + x) / 2, y: middle - 5, class: "note" }, labels.memory_note);
    if (text.getComputedTextLength() > x - last - 8) text.remove(); // no room: the detail line says it, too
  }

  frame(part, kind, x, y, w, h, name) {
    const g = add(this.svg, "g", { class: `part ${kind}`, tabindex: 0, role: "button", "aria-label": name, "data-part": part });
    g.onclick = () => this.board.choose(part);
    add(g, "rect", { x, y, width: w, height: h, rx: 7 });
    return g;
  }

  side(part, x, y, w, h) {
    const { facts } = this, { labels } = this.board.data, about = facts.parts[part], n = facts.parameters[part];
    const count = n ? fill(labels.parameters_short, { n: n.toLocaleString("en") }) : "";
    const g = this.frame(part, part, x, y, w, h, `${about.name}. ${about.shape}. ${count}`);
    const lines = [[about.short, "name"], [about.shape, "shape"], ...(count ? [[count, "count"]] : [])];
    lines.forEach(([text, kind], i) => {
      const t = add(g, "text", { x: x + w / 2, y: y + h / 2 + 4 + (i - (lines.length - 1) / 2) * 16, class: kind }, text);
      if (t.getComputedTextLength() > w - 6) { t.setAttribute("textLength", w - 8); t.setAttribute("lengthAdjust", "spacingAndGlyphs"); }
    });
  }

  block(stack, layer, x, y, w, h) {
    const { facts } = this, { labels } = this.board.data, about = facts.parts[stack];
    const g = this.frame(`${stack}.${layer}`, stack, x, y, w, h, fill(about.name, { layer: layer + 1, layers: facts.layers }));
    const rows = stack === "encoder" ? ["self", "ffn"] : ["self", "cross", "ffn"];
    const roomy = w >= 84, head = 16, each = (h - head - 5) / rows.length;
    add(g, "text", { x: x + w / 2, y: y + 13, class: "name" }, roomy ? fill(labels.block, { layer: layer + 1 }) : layer + 1);
    rows.forEach((row, i) => {
      add(g, "rect", { x: x + 5, y: y + head + i * each + 1, width: w - 10, height: Math.max(2, each - 2), rx: 3, class: `inner ${row}` });
      if (row !== "ffn" && each >= 8) this.heads(g, x + 5, y + head + (i + 1) * each - (each < 14 ? 0.6 : 1), w - 10, each < 14 ? 1.2 : 2.2); // clear of the name
      if (roomy && each >= 11.5) add(g, "text", { x: x + w / 2, y: y + head + i * each + each / 2 + 3.5, class: "inner-name" }, labels[`${row}_part`]);
    });
  }

  // Under an attention, a dash in its colour for every head; of very many only how many.
  heads(g, x, y, width, thick) {
    const { facts } = this, colours = this.board.data.look.heads, each = width / facts.heads;
    if (facts.heads > 16) { add(g, "line", { x1: x, x2: x + width, y1: y, y2: y, class: "head", "stroke-width": thick, "stroke-dasharray": `${each * 0.6} ${each * 0.4}` }); return; }
    for (let i = 0; i < facts.heads; i++)
      add(g, "line", { x1: x + i * each + 1, x2: x + (i + 1) * each - 1, y1: y, y2: y, class: "head", "stroke-width": thick, style: `stroke:${colours[i % colours.length]}` });
  }

  // Arrows walk along a stack (also to blocks outside the window) and between the stacks.
  key(event) {
    const part = event.target.dataset?.part, { facts } = this;
    if (!part) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); this.board.choose(part); return; }
    const rows = ["encoder", "decoder"].map((s) => [s === "encoder" ? "source" : "target",
      ...Array.from({ length: facts.layers }, (_, i) => `${s}.${i}`), s === "encoder" ? "memory" : "output"]);
    const row = rows.findIndex((r) => r.includes(part)), at = rows[row].indexOf(part);
    const next = { ArrowLeft: rows[row][at - 1], ArrowRight: rows[row][at + 1], ArrowUp: rows[0][at], ArrowDown: rows[1][at] }[event.key];
    if (!next) return;
    event.preventDefault();
    this.board.choose(next, true);
    this.svg.querySelector(`[data-part="${next}"]`)?.focus();
  }

  detail() {
    const { data, part, root } = this.board, { draft, labels } = data, { facts } = this, box = root.querySelector(".detail");
    const [kind, layer] = (part ?? "").split("."), about = Number(layer ?? 0) < facts.layers ? facts.parts[kind] : undefined;
    const next = !about && draft && (this.view === "draft" || !draft.facts); // nothing is picked: what is drafted has the line
    setText(box.querySelector(".what"), about ? fill(about.name, { layer: Number(layer) + 1, layers: facts.layers }) : next ? labels.draft : labels.pick);
    setText(box.querySelector(".why"), about ? about.sentence : next ? draft.text : "");
    box.querySelector(".why").classList.toggle("off", Boolean(next && draft.off));
    const n = facts.block_parameters[kind] ?? facts.parameters[kind];
    setText(box.querySelector(".shapes"), about ? about.flow : "");
    setText(box.querySelector(".count"), about && n ? fill(labels.parameters, { n: n.toLocaleString("en") }) : "");
    setText(box.querySelector(".sizes"), facts.sizes);
    setAttr(box.querySelector(".line-two"), "title", facts.sizes); // where it is cut off
  }
}
