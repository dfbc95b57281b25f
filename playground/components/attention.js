// The Attention page: a slider over training time, the grid of heads, and the chosen head as a heat map and as lines.
// All saved steps lie here, packed, so time, heads and views change without asking the server; it is told afterwards.
// Where that would be too much (`data.part`), one head lies here and small maps of its layer: for another the server is asked.

const NARROW = 760, MAIN = 506; // pixels: a window this wide is narrow; the large map of 360 with its labels
const KINDS = ["encoder", "decoder", "cross"], UNIT = 50000, BLOCKED = 65535;
const KEPT = new WeakMap();

function unpack(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
}

// One saved step: matrices by kind, layer and head, unpacked when first looked at.
class Frame {
  constructor(packed, data) {
    this.packed = packed; this.data = data;
    this.step = packed.step;
    const s = data.src.length, t = packed.reads.length;
    this.sizes = { encoder: [s, s], decoder: [t, t], cross: [t, s] };
  }
  get patterns() { return (this._patterns ??= new Uint16Array(unpack(this.packed.pattern))); }
  get scores() { return (this._scores ??= new Float32Array(unpack(this.packed.scores))); }
  // The one head that lies here in full; null for any other.
  only(kind, layer, head) {
    const { part } = this.data;
    if (kind !== part.where || layer !== part.layer || head !== part.head) return null;
    return this.cells(this.patterns, this.scores, 0, ...this.sizes[kind]);
  }
  cells(patterns, scores, start, rows, columns) {
    const at = (q, k) => start + q * columns + k;
    return { rows, columns, blocked: (q, k) => patterns[at(q, k)] === BLOCKED,
      weight: (q, k) => (patterns[at(q, k)] === BLOCKED ? 0 : patterns[at(q, k)] / UNIT), score: (q, k) => scores[at(q, k)] };
  }
  // What stands for a head in the grid: the head itself, or its small map.
  map(kind, layer, head) {
    if (!this.data.part) return this.matrix(kind, layer, head);
    this._maps ??= [new Uint16Array(unpack(this.packed.maps)), new Float32Array(unpack(this.packed.score_maps))];
    const [rows, columns] = this.packed.map;
    return this.cells(...this._maps, head * rows * columns, rows, columns);
  }
  matrix(kind, layer, head) {
    if (this.data.part) return this.only(kind, layer, head);
    const heads = this.data.n_layers * this.data.n_heads;
    let start = 0;
    for (const other of KINDS) {
      const [rows, columns] = this.sizes[other], cells = rows * columns;
      if (other === kind) {
        start += (layer * this.data.n_heads + head) * cells;
        return this.cells(this.patterns, this.scores, start, rows, columns);
      }
      start += heads * cells;
    }
    return null;
  }
  numbers(kind, layer, head) {
    const [entropy, copy, reverse] = this.data.part ? this.packed.heads[head] : this.packed.heads[(KINDS.indexOf(kind) * this.data.n_layers + layer) * this.data.n_heads + head];
    return { entropy, copy, reverse };
  }
  // The largest score by size that a query may really see, over all heads of a kind.
  reach(kind) {
    if (this.data.part) return this.packed.reach;
    this._reach ??= {};
    if (this._reach[kind] === undefined) {
      let most = 0;
      for (let i = 0; i < this.data.n_layers; i++) for (let h = 0; h < this.data.n_heads; h++) {
        const m = this.matrix(kind, i, h);
        for (let q = 0; q < m.rows; q++) for (let k = 0; k < m.columns; k++) if (!m.blocked(q, k)) most = Math.max(most, Math.abs(m.score(q, k)));
      }
      this._reach[kind] = most;
    }
    return this._reach[kind];
  }
}

const fitted = (x) => { // two digits, not below x: the end of a scale that holds what is in view
  if (!(x > 0)) return 1;
  const unit = 10 ** (Math.floor(Math.log10(x)) - 1);
  return Number((Math.ceil(x / unit - 1e-6) * unit).toPrecision(2));
};
const three = (x) => (x === null || x === undefined ? "–" : x.toFixed(3).replace(/^-(0\.0*)$/, "$1")); // no number is "-0.000"

class View {
  constructor(root) {
    this.root = root;
    this.$ = (name) => root.querySelector(name);
    this.tip = tooltip(root);
    this.preview = null; this.token = null; this.hover = null; this.every = false; this.playing = null;
    this.frames = new Map();
    this.resized = new ResizeObserver(() => {
      if (!this.data) return;
      if (this.wide !== root.clientWidth) { this.wide = root.clientWidth; this.$(".grid").style.setProperty("--thumb", `${this.thumb()}px`); }
      this.draw();
    });
    this.resized.observe(this.$(".paper"));
    this.fit = () => {
      const top = root.getBoundingClientRect().top + (root.closest("[data-testid=stMain]")?.scrollTop ?? 0);
      const more = this.$(".body").getBoundingClientRect().top - root.getBoundingClientRect().top;
      root.style.setProperty("--room", `${Math.max(400, window.innerHeight - Math.max(0, Math.min(top, 300)) - more - 48)}px`);
    };
    window.addEventListener("resize", this.fit);
    const walk = (by) => () => {
      const steps = this.data?.steps ?? [], step = steps[steps.indexOf(this.view?.step) + by];
      if (step === undefined) return false;
      this.stop();
      return this.set({ step }, 250);
    };
    const toggle = () => ((this.data?.steps.length ?? 0) < 2 ? false : this.playing ? this.stop(true) : this.play());
    this.quiet = hotkeys({ ArrowRight: walk(1), ArrowLeft: walk(-1), " ": toggle });
  }

  close() {
    clearInterval(this.playing); clearTimeout(this.later); clearTimeout(this.asking);
    this.resized.disconnect();
    this.quiet();
    window.removeEventListener("resize", this.fit);
  }

  // New data from Python: other frames, another run or input, or a view that the URL asks for.
  take(data, send, more) {
    this.send = send;
    clearTimeout(this.asking);
    // Frames come in slices: ask for the next only once these are shown, and again should the answer bring nothing new.
    const ask = () => { more((this.asked = (this.asked ?? 0) + 1)); this.asking = setTimeout(ask, 1000); };
    if (!data.complete) this.asking = setTimeout(ask, 30);
    const t = (this.t = data.t);
    const same = this.data && this.data.input === data.input;
    if (!same) { this.token = this.hover = this.preview = this.at = null; this.frames.clear(); }
    this.data = data;
    for (const packed of data.frames) if (!this.frames.has(packed.step)) this.frames.set(packed.step, new Frame(packed, data));
    const sent = JSON.stringify(data.view);
    if (this.told !== sent) { this.told = sent; this.view = { ...data.view }; }
    this.view.layer = Math.min(this.view.layer, data.n_layers - 1);
    this.view.head = Math.min(this.view.head, data.n_heads - 1);
    if (!data.steps.includes(this.view.step)) this.view.step = data.view.step;
    this.fit();
    this.controls(t);
    this.draw();
  }

  controls(t) {
    const { data } = this, time = this.$(".time");
    setAttr(time, "max", Math.max(0, data.steps.length - 1));
    setAttr(time, "aria-label", t.slider);
    setAttr(time, "title", t.slider);
    time.disabled = this.$(".play").disabled = data.steps.length < 2;
    time.oninput = () => { this.stop(); this.set({ step: data.steps[Number(time.value)] }, 250); };
    this.$(".play").onclick = () => (this.playing ? this.stop(true) : this.play());
    setAttr(this.$(".play"), "aria-keyshortcuts", "Space");
    const group = (node, name, keys) => {
      setAttr(node, "aria-label", t[name]);
      if (node.children.length !== keys.length) keys.forEach(() => add(node, "button", { type: "button" }));
      keys.forEach((key, i) => {
        setText(node.children[i], t[key]);
        setAttr(node.children[i], "title", t[`${key}_help`]);
        node.children[i].dataset.value = key;
        node.children[i].onclick = () => { this.token = this.hover = this.at = null; this.set({ [name]: key }); };
      });
    };
    group(this.$(".where"), "where", KINDS);
    group(this.$(".show"), "show", ["pattern", "scores"]);
    const save = this.$(".save");
    setAttr(save, "aria-label", t.save);
    if (!save.children.length) for (const what of ["SVG", "PNG", "CSV"]) add(save, "button", { type: "button", class: what.toLowerCase() }, what);
    for (const button of save.children) { setAttr(button, "title", t.save); button.onclick = () => this.save(button.textContent); }
    const every = this.$(".every");
    setText(every.lastElementChild, t.all_heads);
    every.firstElementChild.onchange = (event) => { this.every = event.target.checked; this.draw(); };
    const release = this.$(".release");
    setText(release, t.release);
    release.onclick = () => { this.token = null; this.draw(); };
    setText(this.$(".more summary"), t.table);
    this.$(".more").ontoggle = () => this.tables();
    const layer = this.$(".layer");
    layer.parentElement.hidden = !data.part;
    if (data.part) {
      setText(layer.previousElementSibling, t.column_layer);
      setAttr(layer, "title", t.layers);
      if (layer.length !== data.n_layers) layer.replaceChildren(...Array.from({ length: data.n_layers }, (_, i) => new Option(i + 1, i)));
      layer.value = this.view.layer;
      layer.onchange = () => this.set({ layer: Number(layer.value) });
    }
    every.hidden = Boolean(data.part);
    headGrid(this.$(".grid"), this.layers(), data.n_heads, data.look.heads, this.thumb(), t, {
      point: (layer, head) => { if (data.part) return; this.preview = layer === null ? null : [layer, head]; this.draw(); },
      lock: (layer, head) => { this.chose = true; this.set({ layer, head }); },
    });
    const figure = this.$(".figure");
    figure.onpointermove = (event) => this.point(event);
    figure.onpointerleave = () => { this.hover = null; this.tip.hide(); this.draw(); };
    figure.onclick = (event) => {
      const token = this.tokenOf(event.target);
      if (token) { this.token = this.token?.side === token.side && this.token.i === token.i ? null : token; this.draw(); }
    };
    figure.onkeydown = (event) => this.key(event);
    figure.onkeyup = (event) => { if (event.key === "Tab") this.cell(...(this.at ?? [0, 0]), null); };
    figure.onblur = () => this.tip.hide();
    const word = fill(t[data.target], {});
    setText(this.$(".target"), word);
    setText(this.$(".ready"), this.frames.size < data.steps.length ? fill(t.ready, { n: this.frames.size, all: data.steps.length }) : "");
  }

  // The layers whose heads stand in the grid.
  layers() { return this.data.part ? [this.data.part.layer] : Array.from({ length: this.data.n_layers }, (_, i) => i); }

  // The side of a small map. A narrow window (a projector, a zoomed page) leaves the large one its 360 pixels: the small ones
  // shrink beside it, or, where they would be too small to tell apart, go below it.
  thumb() {
    const { n_layers, n_heads, part } = this.data, width = this.root.clientWidth;
    const room = parseFloat(this.root.style.getPropertyValue("--room")) || 560;
    const side = (across) => (part ? Math.min(48, Math.floor((across - 20) / Math.min(8, n_heads)) - 16)
      : Math.min(124, width * 0.1, Math.floor((room - 60) / n_heads) - 25, Math.floor((across - 50) / n_layers) - 16));
    this.narrow = width < NARROW;
    const beside = side(this.narrow ? width - MAIN : width * 0.4), stacked = this.narrow && beside < 30;
    this.root.classList.toggle("narrow", this.narrow);
    this.root.classList.toggle("stacked", stacked);
    return Math.max(30, stacked ? side(width) : beside);
  }

  // Show something else; the server is told after a pause, so that the URL and the frames it computes follow.
  set(change, wait = 120) {
    Object.assign(this.view, change);
    this.draw();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.send(JSON.stringify(this.view)), wait);
  }

  play() {
    const { steps } = this.data;
    if (this.view.step === steps.at(-1)) this.view.step = steps[0];
    this.playing = setInterval(() => {
      if (this.data.alone && !this.frames.has(this.view.step)) return; // the server is still at it
      const next = steps.find((s) => s > this.view.step && (this.data.alone || this.frames.has(s)));
      if (next === undefined) this.stop(true);
      else if (this.data.alone) this.set({ step: next }, 0);
      else { this.view.step = next; this.draw(); }
    }, 300);
    this.draw();
  }

  stop(tell = false) {
    clearInterval(this.playing);
    this.playing = null;
    if (tell) this.set({});
  }

  // The frame of the chosen step, or the nearest one that is here.
  frame() {
    const { step } = this.view;
    if (this.frames.has(step)) return this.frames.get(step);
    const near = [...this.frames.keys()].sort((a, b) => Math.abs(a - step) - Math.abs(b - step))[0];
    return this.frames.get(near) ?? null;
  }

  // What is drawn: the view, or, until the server has sent another head, the one that lies here.
  get seen() { return this.data.part ? { ...this.view, ...this.data.part } : this.view; }
  place() { return this.data.part ? [this.data.part.layer, this.data.part.head] : this.preview ?? [this.view.layer, this.view.head]; }

  queryName(frame, i) {
    if (this.seen.where === "encoder") return `${i + 1} ${this.data.src[i]}`;
    return `${i + 1} ${fill(this.t.predicts, { reads: frame.packed.reads[i], writes: frame.packed.writes[i] })}`;
  }
  keyName(frame, i) { return `${i + 1} ${(this.seen.where === "decoder" ? frame.packed.reads : this.data.src)[i]}`; }

  draw() {
    const { data, t, seen: view } = this, asked = this.view, frame = this.frame();
    if (!frame) return;
    const colours = theme(this.root), tables = { pattern: sequential(data.look, colours.dark), scores: diverging(data.look, colours.dark) };
    const limit = view.show === "scores" ? fitted(frame.reach(view.where)) : 1; // one scale for all maps in view
    const low = view.show === "scores" ? -limit : 0, table = tables[view.show];
    this.paint = { colours, table, low, limit };
    setAttr(this.root, "data-ready", `${this.frames.size}/${data.steps.length}`);
    const fetching = ["where", "layer", "head"].some((name) => asked[name] !== view[name]);
    const waiting = fetching || frame.step !== view.step, [layer, head] = this.place();

    this.$(".time").value = data.steps.indexOf(view.step);
    setAttr(this.$(".time"), "aria-valuetext", fill(t.step, { step: view.step, steps: data.total }));
    setText(this.$(".when"), fill(t.step, { step: view.step.toLocaleString(), steps: data.total.toLocaleString() }));
    const play = this.$(".play");
    setText(play, this.playing ? t.pause : t.play);
    play.classList.toggle("pause", this.playing !== null);
    for (const name of ["where", "show"]) for (const button of this.$(`.${name}`).children) setAttr(button, "aria-pressed", button.dataset.value === asked[name]);
    const ready = this.$(".ready");
    if (frame.packed.capped && view.where !== "encoder") { ready.classList.add("warn"); setText(ready, `⚠ ${fill(t.capped, { n: frame.packed.writes.length })}`); }
    else { ready.classList.remove("warn"); setText(ready, this.frames.size < data.steps.length ? fill(t.ready, { n: this.frames.size, all: data.steps.length }) : ""); }

    const cross = view.where === "cross" && data.ideal; // then there is a distance to it
    const nearest = (n) => (n.copy <= n.reverse ? `${n.copy.toFixed(2)}\u00a0c` : `${n.reverse.toFixed(2)}\u00a0r`);
    paintHeads(this.$(".grid"), (i, h) => {
      const m = frame.map(view.where, i, h), n = frame.numbers(view.where, i, h);
      const name = fill(t.layer_head, { layer: i + 1, head: h + 1 });
      return { matrix: this.rows(m), table, min: low, max: limit,
        under: (data.part ? `${h + 1} · ` : "") + n.entropy.toFixed(2) + (cross && data.n_heads <= 8 ? ` · ${nearest(n)}` : ""),
        tip: `${name}. ${fill(t.entropy, { value: three(n.entropy) })}${cross ? `, ${fill(t.copy, { value: three(n.copy) })}, ${fill(t.reverse, { value: three(n.reverse) })}` : ""}. ${data.part ? "" : t.preview}` };
    }, [asked.layer, asked.head], this.preview);
    setText(this.$(".under"), data.part ? t.parts : cross ? t.under_cross : t.under);

    const numbers = frame.numbers(view.where, layer, head), [, n_keys] = frame.sizes[view.where];
    this.$(".swatch").style.background = data.look.heads[head % data.look.heads.length];
    setText(this.$(".name"), `${t[view.where]} · ${fill(t.layer_head, { layer: layer + 1, head: head + 1 })}`);
    const state = this.$(".state");
    help(state, t.locked_help, this.tip);
    setText(state, fetching ? "" : this.preview && (layer !== view.layer || head !== view.head) ? t.preview : this.chose ? t.locked : "");
    state.hidden = !state.textContent;
    setText(this.$(".entropy"), fill(t.entropy, { value: three(numbers.entropy) }));
    help(this.$(".entropy"), fill(t.entropy_help, { most: Math.log2(n_keys).toFixed(2), n: n_keys }), this.tip);
    const far = this.$(".far");
    far.hidden = !cross;
    setText(far, cross ? `${fill(t.copy, { value: three(numbers.copy) })} · ${fill(t.reverse, { value: three(numbers.reverse) })}` : "");
    help(far, t.distance_help, this.tip);

    const figure = this.$(".figure"), paper = this.$(".paper");
    figure.classList.toggle("old", waiting);
    const wait = this.$(".wait");
    wait.hidden = !waiting;
    setText(wait, fetching ? t.fetching : waiting ? fill(t.loading, { step: view.step }) : "");
    if (paper.clientWidth && paper.clientHeight) {
      // A long text makes the page longer: nothing is cut. This must not depend on the height, or it would never come to rest.
      paper.style.minHeight = `${Math.ceil(this.figure(figure, frame, layer, head, paper.clientWidth, paper.clientHeight, 0).least)}px`;
    }
    setAttr(figure, "role", "img");
    setAttr(figure, "aria-label", this.summary(frame, layer, head));
    this.legend(this.$(".scale"));
    const blocked = view.where === "decoder" && this.rows(frame.map("decoder", view.layer, 0)).flat().includes(null);
    this.$(".hatched").hidden = !blocked;
    setText(this.$(".hatched").lastChild, t.hatched);
    setText(this.$(".hint"), this.token ? "" : `${t.lines}. ${t.isolate}`);
    this.$(".release").hidden = !this.token;
    if (this.$(".more").open) this.tables();
  }

  rows(m) {
    const scores = this.view.show === "scores";
    return Array.from({ length: m.rows }, (_, q) => Array.from({ length: m.columns }, (_, k) => (m.blocked(q, k) ? null : scores ? m.score(q, k) : m.weight(q, k))));
  }

  legend(node) {
    const { low, limit, table } = this.paint;
    legend(node, table, `${this.t[this.view.show]} ${short(low)}`, short(limit));
  }

  // The picture, as an SVG of its own colours: what stands on the screen is what is saved.
  figure(svg, frame, layer, head, width, height, top) {
    const { colours, table, low, limit } = this.paint, { data, t, seen: view } = this;
    const m = frame.matrix(view.where, layer, head), decoder = view.where !== "encoder", packed = frame.packed;
    const keys = view.where === "decoder" ? packed.reads : data.src, focus = this.hover ?? this.token;
    setAttr(svg, "viewBox", `0 0 ${width} ${height}`);
    setAttr(svg, "font-family", colours.font);
    svg.replaceChildren();
    const hatch = add(add(svg, "defs", {}), "pattern", { id: "blocked", width: 6, height: 6, patternUnits: "userSpaceOnUse" });
    add(hatch, "rect", { width: 6, height: 6, fill: colours.background });
    add(hatch, "path", { d: "M-1,7L7,-1M-1,1L1,-1M5,7L7,5", stroke: colours.text, "stroke-opacity": 0.28, "stroke-width": 1 });

    const chars = (list) => Math.max(...list.map((s) => [...s].length));
    const queryText = (i) => (decoder ? `${packed.reads[i]} → ${packed.writes[i]}` : data.src[i]);
    const longest = chars(Array.from({ length: m.rows }, (_, i) => queryText(i)));
    const label = 34 + 8 * longest, head_room = top + 52, linesWidth = Math.max(230, Math.min(330, width * 0.33));
    const x0 = label + 18, y0 = head_room, q_width = Math.min(label, 120), k_width = 54, LEAST = 4;
    // Where map and lines do not fit side by side the lines go below.
    const below = (this.narrow && !top) || x0 + Math.max(LEAST * m.columns + 44, 170) + q_width + 60 + k_width + 12 > width;
    const across = below ? width - x0 - 12 : width - linesWidth - label - 60;
    const most = Math.max(64, Math.min(120, 360 / Math.max(m.rows, m.columns))); // a short text fills the place, too
    const cell = Math.max(below ? 2 : LEAST, Math.min(most, across / m.columns, below ? Math.max(8, 420 / m.rows) : (height - head_room - 6) / m.rows));
    const font = Math.max(12, Math.min(13, cell * 0.8));
    const name = t[decoder ? "query_decoder" : "query_encoder"];
    const tall = Math.max(cell * m.rows, 18 + [...name].reduce((sum, c) => sum + (c > "\u2e80" ? 12 : 6.4), 0)); // of the map or its name
    this.box = { x0, y0, cell, rows: m.rows, columns: m.columns };

    // Axis names, then tokens with their positions.
    const soft = colours.soft, roles = data.look.roles;
    const axis = (x, y, text, colour, extra = {}) => {
      const g = add(svg, "g", { class: "axis", transform: `translate(${x},${y})${extra.turn ? " rotate(-90)" : ""}` });
      add(g, "rect", { x: 0, y: -9, width: 10, height: 10, rx: 2, fill: colour });
      const [before, ...after] = text.split("ₜ"), node = add(g, "text", { x: 15, y: 0, "font-size": 12, fill: colours.text }, before);
      if (after.length) add(node, "tspan", { dy: 3 }, "t"); // few fonts have the sign
    };
    axis(x0, top + 12, t[view.where === "cross" ? "key_cross" : `key_${view.where}`], roles.key);
    axis(12, below ? y0 + tall : Math.min(height - 4, y0 + tall), name, roles.query, { turn: true });
    const every = Math.ceil(13 / cell), apart = Math.ceil(Math.max(15, 3 + 7 * String(m.columns).length) / cell); // labels that do not touch
    for (let i = 0; i < m.rows; i += every) this.token_(svg, "q", i, queryText(i), x0 - 6, y0 + (i + 0.5) * cell, label - 8, Math.max(cell, 12), "end", font, focus);
    for (let k = 0; k < m.columns; k += apart) this.token_(svg, "k", k, keys[k], x0 + (k + 0.5) * cell, y0 - 17, Math.max(cell, 12), 34, "middle", font, focus);

    const cells = add(svg, "g", { class: "cells", "shape-rendering": "crispEdges" });
    for (let q = 0; q < m.rows; q++) for (let k = 0; k < m.columns; k++) {
      const blocked = m.blocked(q, k), value = view.show === "scores" ? m.score(q, k) : m.weight(q, k);
      add(cells, "rect", { x: (x0 + k * cell).toFixed(2), y: (y0 + q * cell).toFixed(2), width: cell.toFixed(2), height: cell.toFixed(2),
        fill: blocked ? "url(#blocked)" : colourOf(table, value, low, limit), ...(cell > 7 ? { stroke: colours.background, "stroke-width": 1 } : {}) });
      if (cell >= 34 && !blocked && (view.show === "scores" || value >= 0.05)) {
        const [r, g, b] = rgb(colourOf(table, value, low, limit));
        add(cells, "text", { x: (x0 + (k + 0.5) * cell).toFixed(1), y: (y0 + (q + 0.5) * cell + 4).toFixed(1), "text-anchor": "middle", "font-size": 12, "pointer-events": "none",
          fill: 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff" }, view.show === "scores" ? value.toFixed(1).replace(/^-(0\.0)$/, "$1") : value.toFixed(2));
      }
    }
    add(svg, "rect", { x: x0, y: y0, width: cell * m.columns, height: cell * m.rows, fill: "none", stroke: soft, "stroke-width": 1 });
    if (focus) { // the rest steps back
      const shade = (x, y, w, h) => w > 0 && h > 0 && add(svg, "rect", { x, y, width: w, height: h, fill: colours.background, "fill-opacity": 0.72, "pointer-events": "none" });
      const w = cell * m.columns, h = cell * m.rows, at = focus.i * cell;
      if (focus.side === "q") { shade(x0, y0, w, at); shade(x0, y0 + at + cell, w, h - at - cell); } else { shade(x0, y0, at, h); shade(x0 + at + cell, y0, w - at - cell, h); }
    }
    add(svg, "rect", { class: "cursor", fill: "none", stroke: colours.text, "stroke-width": 2, visibility: "hidden", "pointer-events": "none" });

    // The same head as lines. Columns: queries left, keys right.
    const gap = below ? 12 : x0 + Math.max(cell * m.columns + 44, 170), y1 = below ? y0 + tall + 36 : y0;
    const row = below ? Math.max(LEAST, Math.min(24, cell)) : Math.max(LEAST, Math.min(cell, (height - y0 - 6) / Math.max(m.rows, m.columns)));
    const span = Math.max(60, Math.min(260, width - gap - q_width - k_width - 12)), lx = gap + q_width;
    const heads = (this.every && !data.part ? Array.from({ length: data.n_heads }, (_, h) => h) : [head]).map((h) => ({ head: h, weight: frame.matrix(view.where, layer, h).weight }));
    axis(gap, y1 - y0 + top + (below ? 40 : 12), t.query, roles.query);
    axis(lx + span + 4, y1 - y0 + top + (below ? 40 : 12), t.key, roles.key);
    const y = drawLines(svg, { x: lx, y: y1, width: span, row, queries: m.rows, keys: m.columns, heads, focus, colours: data.look.heads });
    const size = Math.max(12, Math.min(13, row * 0.75)), skip = Math.ceil(13 / row);
    for (let i = 0; i < m.rows; i += skip) this.token_(svg, "q", i, queryText(i), lx - 5, y.query(i), q_width - 4, Math.max(row, 12), "end", size, focus);
    for (let k = 0; k < m.columns; k += skip) this.token_(svg, "k", k, keys[k], lx + span + 5, y.key(k), k_width, Math.max(row, 12), "start", size, focus);
    if (focus && !this.every) { // with one token alone there is room for its numbers
      const n = focus.side === "q" ? m.columns : m.rows;
      for (let i = 0; i < n; i++) {
        const weight = focus.side === "q" ? m.weight(focus.i, i) : m.weight(i, focus.i);
        if (weight >= 0.025 && row > 9) add(svg, "text", { x: focus.side === "q" ? lx + span - 4 : lx + 4, y: (focus.side === "q" ? y.key(i) : y.query(i)) - 4, "text-anchor": focus.side === "q" ? "end" : "start",
          "font-size": 12, fill: colours.text, stroke: colours.background, "stroke-width": 3, "paint-order": "stroke", "pointer-events": "none" }, three(weight));
      }
    }
    const lines = row * Math.max(m.rows, m.columns), bottom = below ? y1 + lines : y0 + Math.max(cell * m.rows, lines);
    return { width: Math.max(x0 + cell * m.columns, lx + span + k_width) + 20, height: bottom + 12, least: below ? bottom + 12 : y0 + LEAST * Math.max(m.rows, m.columns) + 6 };
  }

  // A token with its position, on a field that can be clicked.
  token_(svg, side, i, text, x, y, width, height, anchor, font, focus) {
    const { colours } = this.paint, on = focus?.side === side && focus.i === i, role = this.data.look.roles[side === "q" ? "query" : "key"];
    const left = anchor === "end" ? x - width : anchor === "middle" ? x - width / 2 : x;
    const g = add(svg, "g", { class: "tok", "data-side": side, "data-i": i });
    add(g, "rect", { x: left, y: y - height / 2, width, height, rx: 3, fill: role, "fill-opacity": on ? 0.3 : 0 });
    if (anchor === "middle") {
      add(g, "text", { x, y: y - 5, "text-anchor": "middle", "font-size": 12, fill: colours.soft }, String(i + 1));
      add(g, "text", { x, y: y + 10, "text-anchor": "middle", "font-size": font, "font-family": colours.mono, fill: colours.text, "xml:space": "preserve" }, text);
      return;
    }
    const node = add(g, "text", { x, y: y + font * 0.35, "text-anchor": anchor, "font-size": font, "font-family": colours.mono, fill: colours.text, "xml:space": "preserve" });
    const number = () => add(node, "tspan", { "font-size": 12, fill: colours.soft }, anchor === "end" ? `${i + 1}  ` : `  ${i + 1}`);
    if (anchor === "end") number();
    add(node, "tspan", {}, text);
    if (anchor === "start") number();
  }

  tokenOf(node) {
    const token = node.closest?.(".tok");
    return token ? { side: token.dataset.side, i: Number(token.dataset.i) } : null;
  }

  point(event) {
    const token = this.tokenOf(event.target), old = this.hover;
    if (token?.side !== old?.side || token?.i !== old?.i) { this.hover = token; this.draw(); }
    const { x0, y0, cell, rows, columns } = this.box, at = this.$(".figure").getBoundingClientRect();
    const q = Math.floor((event.clientY - at.top - y0) / cell), k = Math.floor((event.clientX - at.left - x0) / cell);
    if (q >= 0 && q < rows && k >= 0 && k < columns) this.cell(q, k, event);
    else { this.tip.hide(); this.cursor(null); }
  }

  cursor(place) {
    const node = this.$(".cursor"), { x0, y0, cell } = this.box;
    if (!node) return;
    setAttr(node, "visibility", place ? "visible" : "hidden");
    if (place) for (const [name, value] of Object.entries({ x: x0 + place[1] * cell, y: y0 + place[0] * cell, width: cell, height: cell })) setAttr(node, name, value);
  }

  cell(q, k, where) {
    const frame = this.frame(), [layer, head] = this.place(), m = frame.matrix(this.seen.where, layer, head), blocked = m.blocked(q, k);
    const text = fill(this.t.cell, { query: this.queryName(frame, q), key: this.keyName(frame, k),
      pattern: blocked ? `0.000 (${this.t.is_blocked})` : three(m.weight(q, k)), score: three(m.score(q, k)) });
    this.cursor([q, k]);
    this.tip.show(where ?? this.$(".cursor"), text);
    this.at = [q, k];
    return text;
  }

  key(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Escape") { this.token = null; this.tip.hide(); this.draw(); }
    if (!move) return;
    event.preventDefault();
    const { rows, columns } = this.box, [q, k] = this.at ?? [0, -move[1]];
    this.at = [Math.min(q, rows - 1), Math.min(k, columns - 1)];
    const bound = (i, n) => Math.max(0, Math.min(n - 1, i));
    setText(this.$("[role=status]"), this.cell(bound(q + move[0], rows), bound(k + move[1], columns), null));
  }

  summary(frame, layer, head) {
    const { t, seen: view } = this, m = frame.matrix(view.where, layer, head), rows = [];
    for (let q = 0; q < Math.min(m.rows, 30); q++) {
      let best = 0;
      for (let k = 1; k < m.columns; k++) if (m.weight(q, k) > m.weight(q, best)) best = k;
      rows.push(fill(t.strongest, { query: this.queryName(frame, q), key: this.keyName(frame, best), value: m.weight(q, best).toFixed(2) }));
    }
    return fill(t.summary, { where: t[view.where], layer: layer + 1, head: head + 1, step: frame.step, queries: m.rows, keys: m.columns, rows: rows.join("; ") });
  }

  tables() {
    const node = this.$(".tables");
    node.replaceChildren();
    if (!this.$(".more").open) return;
    const { t, seen: view, data } = this, frame = this.frame(), [layer, head] = this.place(), m = frame.matrix(view.where, layer, head);
    const table = (title, columns, rows) => {
      const node_ = add(node, "table", {});
      add(node_, "caption", {}, title);
      const line = add(add(node_, "thead", {}), "tr", {});
      columns.forEach((text) => add(line, "th", { scope: "col" }, text));
      const body = add(node_, "tbody", {});
      for (const row of rows) { const tr = add(body, "tr", {}); row.forEach((text, i) => add(tr, i ? "td" : "th", i ? {} : { scope: "row" }, text)); }
    };
    const what = view.show === "scores" ? (q, k) => three(m.score(q, k)) : (q, k) => three(m.weight(q, k));
    table(`${this.$(".name").textContent} · ${t[view.show]}`, [`${t.query} \\ ${t.key}`, ...Array.from({ length: m.columns }, (_, k) => this.keyName(frame, k))],
      Array.from({ length: m.rows }, (_, q) => [this.queryName(frame, q), ...Array.from({ length: m.columns }, (_, k) => (m.blocked(q, k) ? t.blocked : what(q, k)))]));
    const all = [];
    for (const i of this.layers()) for (let h = 0; h < data.n_heads; h++) {
      const n = frame.numbers(view.where, i, h);
      all.push([String(i + 1), String(h + 1), three(n.entropy), ...(data.ideal ? [three(n.copy), three(n.reverse)] : [])]);
    }
    table(`${t.heads_table} · ${t[view.where]}`, [t.column_layer, t.column_head, t.column_entropy, ...(data.ideal ? [t.column_copy, t.column_reverse] : [])], all);
  }

  save(what) {
    const { seen: view, data, t } = this, frame = this.frame(), [layer, head] = [view.layer, view.head];
    const name = `attention_${view.where}_layer${layer + 1}_head${head + 1}_step${frame.step}.${what.toLowerCase()}`;
    if (what === "CSV") return this.file(name, "text/csv;charset=utf-8", this.csv(frame, layer, head));
    const svg = document.createElementNS(SVG, "svg");
    const hover = this.hover;
    this.hover = null;
    const { width, height } = this.figure(svg, frame, layer, head, 1120, Math.max(420, Math.min(900, 30 * frame.sizes[view.where][0] + 120)), 24);
    this.hover = hover;
    setAttr(svg, "xmlns", SVG);
    setAttr(svg, "viewBox", `0 0 ${width} ${height + 26}`);
    setAttr(svg, "width", width); setAttr(svg, "height", height + 26);
    const { colours, table, low, limit } = this.paint;
    const paper = add(svg, "rect", { width, height: height + 26, fill: colours.background });
    svg.prepend(paper);
    add(svg, "text", { x: 8, y: 16, "font-size": 14, "font-weight": 600, fill: colours.text },
      `${t[view.where]} · ${fill(t.layer_head, { layer: layer + 1, head: head + 1 })} · ${fill(t.step, { step: frame.step, steps: data.total })} · ${data.title}`);
    for (let i = 0; i < 60; i++) add(svg, "rect", { x: 70 + 2 * i, y: height + 6, width: 2.5, height: 9, fill: colourOf(table, i / 59) });
    add(svg, "text", { x: 64, y: height + 15, "font-size": 11, "text-anchor": "end", fill: colours.text }, short(low));
    add(svg, "text", { x: 196, y: height + 15, "font-size": 11, fill: colours.text }, `${short(limit)} ${t[view.show]}`);
    svg.querySelector(".cursor")?.remove();
    const text = `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}`;
    this.draw();
    if (what === "SVG") return this.file(name, "image/svg+xml", text);
    const picture = new Image(), canvas = document.createElement("canvas");
    canvas.width = 2 * width; canvas.height = 2 * (height + 26);
    picture.onload = () => {
      canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => this.file(name, "image/png", blob));
    };
    picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
    return undefined;
  }

  csv(frame, layer, head) {
    const { seen: view, data, t } = this, m = frame.matrix(view.where, layer, head), { reads, writes } = frame.packed, decoder = view.where !== "encoder";
    const words = (s) => `"${(/^[=+\-@\t\r]/.test(s) ? `'${s}` : s).replaceAll('"', '""')}"`; // a cell that a spreadsheet would run is quoted
    const lines = [["attention", "layer", "head", "step", "query_position", "query_token", "about_to_predict", "key_position", "key_token", "pattern", "score", "blocked"].join(",")];
    for (let q = 0; q < m.rows; q++) for (let k = 0; k < m.columns; k++) {
      lines.push([view.where, layer + 1, head + 1, frame.step, q + 1, words(decoder ? reads[q] : data.src[q]), words(decoder ? writes[q] : ""),
        k + 1, words((view.where === "decoder" ? reads : data.src)[k]), m.weight(q, k).toFixed(4), m.score(q, k).toFixed(6), m.blocked(q, k) ? 1 : 0].join(","));
    }
    return `\ufeff${lines.join("\r\n")}\r\n`;
  }

  file(name, type, content) {
    const link = document.createElement("a"), url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    link.href = url; link.download = name; link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
}

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector("#attention");
  let view = KEPT.get(root);
  if (!view) KEPT.set(root, (view = new View(root)));
  view.take(data, (text) => setStateValue("view", text), (n) => setTriggerValue("more", n));
  return () => { view.close(); KEPT.delete(root); };
}
