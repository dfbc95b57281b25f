// One head, step by step: a row of linked maps, and below it how the chosen cell is made, number by number.
// All numbers of the head lie here, so a click is answered at once; the page is told afterwards, for the URL.

const KEPT = new WeakMap();
const ORDER = ["embed", "project", "score", "scale", "mask", "softmax", "weigh"];

function unpack(packed) {
  const flat = new Float32Array(Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0)).buffer), [rows, columns] = packed.shape;
  return Array.from({ length: rows }, (_, i) => flat.subarray(i * columns, (i + 1) * columns));
}

const three = (x) => { // a number to read beside others: three digits that mean something, and a real minus sign
  const size = Math.abs(x);
  const text = size >= 1000 ? String(Math.round(x)) : size >= 100 ? x.toFixed(1) : size >= 0.001 || x === 0 ? x.toFixed(size >= 10 ? 2 : 3) : x.toExponential(1);
  return text.replace("-", "−");
};
const inside = (x) => (x < 0 ? `(${three(x)})` : three(x)); // as a factor or a later term of a sum
const cellText = (x) => (x !== 0 && Math.abs(x) < 0.0005 ? "≈ 0" : three(x));
const reach = (rows) => { let most = 1e-9; for (const row of rows) for (const x of row) if (Number.isFinite(x)) most = Math.max(most, Math.abs(x)); return most; };
const sum = (list) => { let total = 0; for (const x of list) total += x; return total; };

class Steps {
  constructor(root) {
    this.root = root; this.tip = tooltip(root); this.count = 0; this.sent = null;
    this.$ = (name) => root.querySelector(name);
    this.resized = new ResizeObserver(() => this.data && this.draw());
    this.resized.observe(this.$(".row"));
    this.fit = () => {
      const top = root.getBoundingClientRect().top + (root.closest("[data-testid=stMain]")?.scrollTop ?? 0);
      const low = window.innerHeight < 860, room = window.innerHeight - Math.min(Math.max(0, top), 420) - (low ? 335 : 390);
      root.style.setProperty("--map", low ? "100px" : "128px");
      root.style.setProperty("--room", `${Math.max(150, Math.min(360, room))}px`);
    };
    window.addEventListener("resize", this.fit);
    this.$(".row").addEventListener("keydown", (event) => this.key(event));
  }

  close() { this.resized.disconnect(); window.removeEventListener("resize", this.fit); }

  take(data, send) {
    this.send = send; this.data = data; this.t = data.t;
    // What the page says of the view is old news if something was clicked since it was asked.
    if (this.sent === null || data.seq === this.sent) this.view = { ...data.view };
    this.waiting = ["where", "layer", "head"].some((name) => this.view[name] !== data.view[name]);
    if (this.text !== data.numbers_key) {
      this.text = data.numbers_key;
      this.m = Object.fromEntries(Object.entries(data.arrays).map(([name, packed]) => [name, unpack(packed)]));
      this.m.masked = this.m.scores.map((row, i) => Array.from(row, (s, j) => (this.m.mask[i][j] ? s : -Infinity)));
    }
    this.clamp();
    this.fit(); this.draw();
  }

  clamp() {
    const { view, data } = this, bound = (x, n) => Math.max(0, Math.min(n - 1, x));
    view.i = bound(view.i, data.queries.length); view.j = bound(view.j, data.keys.length); view.f = bound(view.f, data.d_k); view.c = bound(view.c, data.d_model);
  }

  // The person did something: draw it, then tell the page.
  set(change, did = true) {
    this.view = { ...this.view, ...change };
    this.waiting = ["where", "layer", "head"].some((name) => this.view[name] !== this.data.view[name]);
    if (!this.waiting) this.clamp();
    this.draw();
    this.sent = `${(this.id ??= Math.random().toString(36).slice(2))}.${++this.count}`;
    clearTimeout(this.later);
    this.did = did ? [...new Set([...(this.did ?? []), this.view.panel])] : this.did;
    this.later = setTimeout(() => { this.send(JSON.stringify({ ...this.view, seq: this.sent, did: this.did ?? [] })); this.did = []; }, 60);
  }

  key(event) {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const { queries, keys } = this.data, bound = (x, n) => Math.max(0, Math.min(n - 1, x));
    this.set({ i: bound(this.view.i + move[0], queries.length), j: bound(this.view.j + move[1], keys.length) });
  }

  group(node, label, items, now, choose, colour) {
    setAttr(node, "aria-label", label);
    const text = JSON.stringify([label, items]);
    if (node.dataset.made !== text) {
      node.dataset.made = text;
      node.replaceChildren();
      if (items.some(([, name]) => /^\d+$/.test(name))) add(node, "span", { class: "label" }, label);
      items.forEach(([value, name, help_], n) => {
        const button = add(node, "button", { type: "button", "data-value": value, ...(help_ ? { title: help_ } : {}) });
        if (colour) add(button, "i", { style: `background:${colour(n)}` });
        button.append(name);
      });
    }
    for (const button of node.querySelectorAll("button")) {
      setAttr(button, "aria-pressed", button.dataset.value === String(now));
      button.onclick = () => choose(button.dataset.value);
    }
  }

  draw() {
    const { data, view, t, root } = this;
    if (!this.m) return;
    this.colours = theme(root);
    roles(root, data.look);
    for (const role of ["query", "key", "value"]) root.style.setProperty(`--${role}-text`, this.ink(data.look.roles[role]));
    this.table_ = { weights: sequential(data.look, this.colours.dark), signed: diverging(data.look, this.colours.dark) };
    root.classList.toggle("waiting", this.waiting);
    root.dataset.panel = view.panel;
    const from = (n) => Array.from({ length: n }, (_, i) => [i, String(i + 1)]);
    this.group(this.$(".where"), t.where, ["encoder", "decoder", "cross"].map((w) => [w, t[w], t[`${w}_help`]]), view.where, (where) => this.set({ where, layer: view.layer }));
    this.group(this.$(".layer"), t.layer, from(data.n_layers), view.layer, (layer) => this.set({ layer: Number(layer) }));
    this.group(this.$(".head"), t.head, from(data.n_heads), view.head, (head) => this.set({ head: Number(head) }), data.n_heads <= 16 ? (n) => data.look.heads[n % data.look.heads.length] : null);
    if (this.waiting) return;
    const now = this.$(".now");
    now.replaceChildren();
    add(now, "span", {}, `${t.query} ${view.i + 1}`); add(now, "span", { class: "chip q" }, data.queries[view.i]);
    add(now, "span", {}, `→ ${t.key} ${view.j + 1}`); add(now, "span", { class: "chip k" }, data.keys[view.j]);
    this.maps();
    this.detail();
  }

  // A role's colour, dark or light enough to be read as text.
  ink(colour) {
    const [r, g, b] = rgb(colour), { dark } = this.colours, luminance = 0.299 * r + 0.587 * g + 0.114 * b;
    const part = dark ? (luminance < 140 ? 0.45 : 0.1) : luminance > 110 ? 0.35 : 0.1, end = dark ? 255 : 0;
    return `rgb(${[r, g, b].map((x) => Math.round(x * (1 - part) + end * part)).join()})`;
  }

  // ---- The row of linked maps -------------------------------------------------------------------------------------
  maps() {
    const { data, view, t, m } = this, row = this.$(".row");
    if (!row.children.length) for (const id of ORDER) {
      const map = add(row, "div", { class: `map ${id}`, "data-id": id });
      add(map, "button", { type: "button", class: "name" }); add(map, "canvas", { role: "img" }); add(map, "div", { class: "op" });
    }
    const span = `${data.queries.length} × ${data.keys.length}`;
    const about = { embed: `${data.queries.length} × ${data.d_model}`, project: `${data.d_model} → ${data.d_k}`, score: `q·k, ${span}`, scale: `÷ ${data.divisor_name}, ${span}`,
      mask: t.op_mask, softmax: t.op_softmax, weigh: `${data.queries.length} × ${data.d_k}` };
    for (const map of row.children) {
      const id = map.dataset.id, canvas = map.querySelector("canvas"), name = map.querySelector(".name");
      map.classList.toggle("on", id === view.panel);
      setText(name, data.titles[id]); setText(map.querySelector(".op"), about[id]);
      name.onclick = () => this.set({ panel: id }, false);
      setAttr(canvas, "aria-label", `${data.titles[id]}, ${about[id]}`);
      const parts = this.parts(id, canvas);
      const ctx = sharp(canvas);
      ctx.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
      for (const part of parts) this.part(ctx, part);
      const find = (event) => {
        const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
        for (const part of parts) { const cell = cellAt(part.matrix, part, x, y); if (cell) return { part, ...cell }; }
        return null;
      };
      canvas.onclick = (event) => { const found = find(event); this.set({ panel: id, ...(found ? found.part.pick(found.row, found.column) : {}) }, !!found); };
      canvas.onmousemove = (event) => { const found = find(event); if (found) this.tip.show(event, found.part.say(found.row, found.column)); else this.tip.hide(); };
      canvas.onmouseleave = () => this.tip.hide();
    }
  }

  // What a map shows: one or three matrices with their boxes, marks, and what a click on them means.
  parts(id, canvas) {
    const { data, view, m, t } = this, width = canvas.clientWidth, height = canvas.clientHeight;
    const limit = (rows) => ({ min: -reach(rows), max: reach(rows) });
    const q = data.queries, k = data.keys;
    const at = (name, i, f, x) => `${name}${i + 1}[${f + 1}] = ${exact(x)}`;
    const square = (matrix, more) => {
      const left = 12, top = 12, cell = Math.min((width - left) / k.length, (height - top) / q.length);
      return [{ matrix, x: left, y: top, width: cell * k.length, height: cell * q.length, labels: true, cell: [view.i, view.j], pick: (i, j) => ({ i, j }), ...more }];
    };
    const cellSays = (matrix) => (i, j) => `${t.query} ${i + 1} ${q[i]} → ${t.key} ${j + 1} ${k[j]}\n${this.m.mask[i][j] || matrix !== m.masked ? exact(matrix[i][j]) : t.blocked}`;
    if (id === "embed") {
      const side = view.side === "k" ? "k" : "q", matrix = side === "k" ? m.k_input : m.q_input;
      return [{ matrix, x: 0, y: 12, width, height: height - 12, ...limit(matrix), row: side === "k" ? view.j : view.i, head: t.input,
        pick: (row, c) => ({ c, ...(side === "k" ? { j: row } : { i: row }) }), say: (i, c) => at("", i, c, matrix[i][c]).replace(/^/, t.input + " ") }];
    }
    if (id === "project") return ["q", "k", "v"].map((name, n) => {
      const gap = 6, w = (width - 2 * gap) / 3, matrix = m[name];
      return { matrix, x: n * (w + gap), y: 12, width: w, height: height - 12, ...limit(matrix), row: name === "q" ? view.i : view.j, head: name, role: ["query", "key", "value"][n],
        pick: (row, f) => ({ f, part: name, ...(name === "q" ? { i: row } : { j: row }) }), say: (i, f) => at(name, i, f, matrix[i][f]) };
    });
    if (id === "weigh") return [{ matrix: m.z, x: 0, y: 12, width, height: height - 12, ...limit(m.z), row: view.i, head: "z", pick: (i, f) => ({ i, f }), say: (i, f) => at("z", i, f, m.z[i][f]) }];
    const matrix = { score: m.products, scale: m.scores, mask: m.masked, softmax: m.pattern }[id];
    if (id === "softmax") return square(m.pattern, { table: this.table_.weights, min: 0, max: 1, say: cellSays(matrix) });
    // Score and scale keep one scale, so that dividing is seen to make the numbers smaller.
    return square(matrix, { ...limit(id === "mask" ? m.scores : m.products), say: cellSays(matrix) });
  }

  part(ctx, p) {
    const { colours, data } = this;
    heat(ctx, p.matrix, { ...p, table: p.table ?? this.table_.signed });
    const h = p.height / p.matrix.length, w = p.width / p.matrix[0].length;
    ctx.font = `10px ${colours.font}`; ctx.textBaseline = "alphabetic"; ctx.textAlign = "left";
    if (p.head) { ctx.fillStyle = p.role ? this.ink(data.look.roles[p.role]) : colours.soft; ctx.fillText(p.head, p.x, p.y - 3); }
    if (p.labels && h >= 7) {
      ctx.font = `${Math.min(10, h)}px ${colours.mono}`; ctx.fillStyle = colours.soft; ctx.textBaseline = "middle"; ctx.textAlign = "right";
      data.queries.forEach((name, i) => ctx.fillText(name, p.x - 3, p.y + (i + 0.5) * h, 11));
      ctx.textAlign = "center";
      data.keys.forEach((name, j) => ctx.fillText(name, p.x + (j + 0.5) * w, p.y - 6, Math.max(w, 11)));
    }
    ctx.strokeStyle = colours.line; ctx.lineWidth = 1; ctx.strokeRect(p.x + 0.5, p.y + 0.5, p.width - 1, p.height - 1);
    ctx.lineWidth = 2;
    if (p.cell) { ctx.strokeStyle = colours.text; ctx.strokeRect(p.x + p.cell[1] * w, p.y + p.cell[0] * h, w, h); }
    if (p.row !== undefined) { ctx.strokeStyle = p.role ? this.data.look.roles[p.role] : colours.text; ctx.strokeRect(p.x + 1, p.y + p.row * h, p.width - 2, h); }
  }

  // ---- Below: how the chosen cell is made -------------------------------------------------------------------------
  detail() {
    const { view, t, data } = this, id = data.dropped && view.panel === "softmax" ? "dropout" : view.panel;
    const table = ["scale", "mask", "softmax", "dropout"].includes(id);
    this.$(".paper").hidden = table; this.$(".table").hidden = !table;
    const sides = this.$(".detail .side");
    sides.hidden = !(id === "embed" && data.two_inputs);
    if (!sides.hidden) this.group(sides, t.side, [["q", t.side_q], ["k", t.side_k]], view.side, (side) => this.set({ side }));
    this.regions = [];
    const notes = { embed: data.later ? t.what_embed_later : "", project: data.norm ? t.what_project_norm : "" };
    setText(this.$(".what"), fill(t[`what_${id}`] + (notes[id] ? ` ${notes[id]}` : ""), { i: view.i + 1, j: view.j + 1, f: view.f + 1, divisor: data.divisor_name, d: data.d_k, share: data.dropped?.share ?? 0, n: data.keys.length }));
    const line = this[id]();
    this.say(line.parts, line.model, id === "dropout" ? t.dropout_has : t.model_has);
    const code = this.$(".code"), source = data.code[id];
    code.replaceChildren();
    add(code, "span", {}, source.at); code.append(source.text);
  }

  canvas(height) {
    const canvas = this.$(".paper canvas"), width = this.$(".paper").clientWidth;
    canvas.style.height = `${height}px`;
    const ctx = sharp(canvas, width, height);
    ctx.clearRect(0, 0, width, height);
    const find = (event) => {
      const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      for (const r of this.regions) if (x >= r.x && x < r.x + r.width && y >= r.y && y < r.y + r.height) return [r, Math.min(r.rows - 1, Math.floor(((y - r.y) / r.height) * r.rows)), Math.min(r.columns - 1, Math.floor(((x - r.x) / r.width) * r.columns))];
      return null;
    };
    canvas.onclick = (event) => { const found = find(event); if (found) this.set(found[0].pick(found[1], found[2])); };
    canvas.onmousemove = (event) => { const found = find(event); if (found) this.tip.show(event, found[0].say(found[1], found[2])); else this.tip.hide(); };
    canvas.onmouseleave = () => this.tip.hide();
    return { ctx, width };
  }

  // One vector as bars around a line, labelled; the numbers stand under the bars where there is room.
  bars(ctx, list, { x, y, width, height, colour, name, at, limit, pick, label = 86 }) {
    const { colours } = this, n = list.length, w = (width - label) / n, left = x + label, numbers = w >= 38, size = numbers ? height - 14 : height;
    const zero = y + size / 2, unit = (size / 2 - 1) / (limit || 1);
    ctx.textBaseline = "middle"; ctx.textAlign = "left"; ctx.fillStyle = colours.text; ctx.font = `600 12px ${colours.font}`;
    ctx.fillText(name, x, zero, label - 8);
    for (let c = 0; c < n; c++) {
      const tall = list[c] * unit;
      if (c === at) { ctx.fillStyle = colours.line; ctx.fillRect(left + c * w, y, w, height); }
      ctx.fillStyle = colour; ctx.globalAlpha = at === undefined || c === at ? 1 : 0.62;
      ctx.fillRect(left + c * w + Math.min(2, w * 0.12), Math.min(zero, zero - tall), Math.max(0.6, w - Math.min(4, w * 0.24)), Math.max(0.8, Math.abs(tall)));
      ctx.globalAlpha = 1;
      if (numbers) { ctx.font = `${c === at ? 700 : 400} 11px ${colours.font}`; ctx.textAlign = "center"; ctx.fillStyle = colours.text; ctx.fillText(three(list[c]), left + (c + 0.5) * w, y + height - 6, w - 2); }
    }
    ctx.strokeStyle = colours.soft; ctx.lineWidth = 1; ctx.beginPath(); ctx.moveTo(left, Math.round(zero) + 0.5); ctx.lineTo(left + w * n, Math.round(zero) + 0.5); ctx.stroke();
    if (pick) this.regions.push({ x: left, y, width: w * n, height, rows: 1, columns: n, pick: (_, c) => pick(c), say: (_, c) => `${name} [${c + 1}] = ${exact(list[c])}` });
  }

  embed() {
    const { view, m, data, t, colours } = this, side = data.two_inputs && view.side === "k" ? "k" : "q", row = side === "k" ? view.j : view.i, c = view.c;
    const { ctx, width } = this.canvas(196), token = (side === "k" ? data.keys : data.queries)[row];
    const lists = [[m[`${side}_token`][row], fill(t.row_of, { token })], [m[`${side}_position`][row], fill(t.position_of, { n: row + 1 })], [m[`${side}_input`][row], t.input]];
    const limit = reach(lists.map(([list]) => list));
    lists.forEach(([list, name], n) => this.bars(ctx, list, { x: 0, y: 4 + n * 64, width, height: 58, colour: n === 2 ? colours.text : data.look.heads[n === 0 ? 5 : 6], name, at: c, limit, label: 128, pick: (c_) => ({ c: c_ }) }));
    const raw = m[`${side}_row`][row][c], a = lists[0][0][c], p = lists[1][0][c];
    return { parts: [t.input, ["", "sub", c + 1], " = ", three(raw), ` · √${data.d_model} + `, three(p), " = ", three(a), p < 0 ? " − " : " + ", three(Math.abs(p)), " = ", ["", "b", three(a + p)]], model: [a + p, lists[2][0][c]] };
  }

  project() {
    const { view, m, data, t, colours } = this, part = view.part, f = view.f;
    const names = ["q", "k", "v"], gap = 22, { ctx, width } = this.canvas(226), w = (width - 2 * gap) / 3;
    names.forEach((name, n) => {
      const role = ["query", "key", "value"][n], colour = data.look.roles[role], x0 = n * (w + gap), token = name === "q" ? view.i : view.j;
      const input = name === "q" ? m.x_q[view.i] : m.x_k[view.j], weight = m[`w_${name}`], out = (name === "v" ? m.v : m[`raw_${name}`])[token];
      const left = x0 + 52, tall = 128, top = 62, wide = w - 52 - 92, limit = reach([input]), rows = out.length, h = tall / rows;
      this.bars(ctx, input, { x: x0, y: 4, width: 52 + wide, height: 50, colour: colours.soft, name: `x${this.small(token + 1)}`, limit, label: 52, pick: () => ({ part: name }) });
      const most = reach(weight);
      heat(ctx, weight, { x: left, y: top, width: wide, height: tall * weight.length / rows, table: this.table_.signed, min: -most, max: most });
      ctx.strokeStyle = colour; ctx.lineWidth = 2; ctx.strokeRect(left, top, wide, tall);
      ctx.font = `600 12px ${colours.font}`; ctx.textBaseline = "middle"; ctx.textAlign = "left"; ctx.fillStyle = this.ink(colour);
      ctx.fillText("W", x0, top + 12); ctx.font = `600 9px ${colours.font}`; ctx.fillText(name.toUpperCase(), x0 + 13, top + 17);
      ctx.font = `10px ${colours.font}`; ctx.fillStyle = colours.soft; ctx.fillText(`${rows} × ${input.length}`, x0, top + 32, 50);
      // The result, one bar a row of W.
      const far = reach([out]), right = left + wide + 8, room = 84, zero = right + room * 0.36, unit = (room * 0.34) / far;
      for (let r = 0; r < rows; r++) {
        const on = r === f && name === part, y = top + r * h;
        if (on) { ctx.fillStyle = colours.line; ctx.fillRect(left, y, wide + 8 + room, h); ctx.strokeStyle = colours.text; ctx.strokeRect(left, y, wide, h); }
        ctx.fillStyle = colour; ctx.globalAlpha = on ? 1 : 0.7;
        ctx.fillRect(Math.min(zero, zero + out[r] * unit), y + Math.min(1.5, h * 0.12), Math.max(0.8, Math.abs(out[r] * unit)), Math.max(0.8, h - Math.min(3, h * 0.24)));
        ctx.globalAlpha = 1;
        if (h >= 11) { ctx.font = `${on ? 700 : 400} 10px ${colours.font}`; ctx.textAlign = "right"; ctx.fillStyle = colours.text; ctx.fillText(three(out[r]), right + room, y + h / 2); }
      }
      ctx.strokeStyle = colours.soft; ctx.lineWidth = 1; ctx.beginPath(); ctx.moveTo(zero, top); ctx.lineTo(zero, top + tall); ctx.stroke();
      ctx.font = `600 13px ${colours.font}`; ctx.textAlign = "center"; ctx.fillStyle = this.ink(colour); ctx.fillText(`${name}${this.small(token + 1)}`, zero, top - 10);
      ctx.font = `11px ${colours.font}`; ctx.textAlign = "left"; ctx.fillStyle = colours.soft;
      ctx.fillText(fill(t.reads, { name: `${t[role]} ${name}${this.small(token + 1)}`, token: (name === "q" ? data.queries : data.keys)[token] }), left, top + tall + 16, wide + 90);
      this.regions.push({ x: left, y: top, width: wide + 8 + room, height: tall, rows, columns: 1, pick: (r) => ({ part: name, f: r }), say: (r) => `${name}${token + 1}[${r + 1}] = ${exact(out[r])}` });
    });
    const token = part === "q" ? view.i : view.j, role = { q: "query", k: "key", v: "value" }[part];
    const input = part === "q" ? m.x_q[view.i] : m.x_k[view.j], weight = m[`w_${part}`][f], bias = m[`b_${part}`][0][f], out = (part === "v" ? m.v : m[`raw_${part}`])[token][f];
    const head = [[part, role, token + 1], `[${f + 1}] = `];
    if (!weight) return { parts: [...head, t.not_sent, " ", ["", "b", three(out)]], model: null };
    const products = Array.from(input, (x, c) => x * weight[c]), total = sum(products) + bias;
    const turned = data.rotary && part !== "v" ? [` · ${fill(t.turned, { value: three(m[part][token][f]) })}`] : [];
    return { parts: [...head, ...this.terms(input, weight, products, ["", role]), bias < 0 ? " − " : " + ", three(Math.abs(bias)), ` (${t.bias}) = `, ["", "b", three(total)], ...turned], model: [total, out] };
  }

  // "0.1·0.5 + 0.3·−0.2 + … (n more)" as parts of a formula.
  terms(a, b, products, cls, most = 5) {
    const parts = [];
    for (let c = 0; c < Math.min(most, a.length); c++) parts.push(c ? " + " : "", ["", cls[0], null, c ? inside(a[c]) : three(a[c])], "·", ["", cls[1], null, inside(b[c])]);
    if (a.length > most) parts.push(` + … (${fill(this.t.more, { n: a.length - most, value: three(sum(products.slice(most))) })})`);
    return parts;
  }

  small(n) { return String(n).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]); }

  score() {
    const { view, m, data, t, colours } = this, q = m.q[view.i], k = m.k[view.j], products = Array.from(q, (x, f) => x * k[f]);
    const { ctx, width } = this.canvas(208), limit = reach([q, k]), pick = (f) => ({ f });
    this.bars(ctx, q, { x: 0, y: 4, width, height: 62, colour: data.look.roles.query, name: `q${this.small(view.i + 1)}  ${data.queries[view.i]}`, at: view.f, limit, pick });
    this.bars(ctx, k, { x: 0, y: 72, width, height: 62, colour: data.look.roles.key, name: `k${this.small(view.j + 1)}  ${data.keys[view.j]}`, at: view.f, limit, pick });
    this.bars(ctx, products, { x: 0, y: 140, width, height: 64, colour: colours.text, name: t.times, at: view.f, limit: reach([products]), pick });
    const total = sum(products);
    return { parts: [["q", "query", view.i + 1], " · ", ["k", "key", view.j + 1], " = ", ...this.terms(q, k, products, ["query", "key"], 6), " = ", ["", "b", three(total)]], model: [total, m.products[view.i][view.j]] };
  }

  weigh() {
    const { view, m, data, t, colours } = this, i = view.i, a = m.pattern[i], n = data.keys.length, d = data.d_k;
    const room = parseFloat(getComputedStyle(this.root).getPropertyValue("--room")) || 250;
    const h = Math.max(5, Math.min(20, (room - 62) / n)), every = Math.ceil(9 / h), thin = h > 9 ? 2 : 1, { ctx, width } = this.canvas(h * n + 60), top = 18;
    const label = 150, right = Math.min(280, width * 0.27), wide = width - label - right - 24, cell = wide / d, x0 = label;
    const parts = data.keys.map((_, j) => Array.from(m.v[j], (v) => a[j] * v)), total = Array.from({ length: d }, (_, f) => sum(parts.map((p) => p[f])));
    const most = Math.max(reach(parts), reach([total])), signed = this.table_.signed, font = Math.max(8, Math.min(11, h - 1));
    ctx.textBaseline = "middle"; ctx.font = `11px ${colours.font}`; ctx.fillStyle = colours.soft;
    ctx.textAlign = "left"; ctx.fillText(`${t.key} · ${t.weight} a`, 0, 8); ctx.fillText(t.contributions, x0, 8, wide); ctx.fillText(fill(t.running, { f: view.f + 1 }), x0 + wide + 22, 8, right);
    const number = (value, x, y, w, background) => {
      const [r, g, b] = rgb(background);
      ctx.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff"; ctx.textAlign = "center"; ctx.fillText(cellText(value), x, y, w - 3);
    };
    // The running sum of one feature: each key moves it, the last place is z.
    const places = [0]; for (const p of parts) places.push(places.at(-1) + p[view.f]);
    const low = Math.min(0, ...places), high = Math.max(0, ...places), rx = x0 + wide + 22, unit = right / (high - low || 1), px = (v) => rx + (v - low) * unit;
    parts.forEach((p, j) => {
      const y = top + j * h, on = j === view.j;
      if (on) { ctx.fillStyle = colours.line; ctx.fillRect(0, y, width, h); }
      ctx.font = `${on ? 700 : 400} ${font}px ${colours.mono}`; ctx.fillStyle = colours.text; ctx.textAlign = "left"; if (on || (j % every === 0 && Math.abs(j - view.j) >= every)) ctx.fillText(`${j + 1} ${data.keys[j]}`, 2, y + h / 2, 46);
      ctx.fillStyle = colours.line; ctx.fillRect(52, y + thin, 48, h - 2 * thin); ctx.fillStyle = data.look.roles.query; ctx.fillRect(52, y + thin, 48 * a[j], h - 2 * thin);
      ctx.font = `${on ? 700 : 400} ${font}px ${colours.font}`; ctx.textAlign = "right"; ctx.fillStyle = colours.text; if (on || (j % every === 0 && Math.abs(j - view.j) >= every)) ctx.fillText(m.mask[i][j] ? cellText(a[j]) : "0 ⊘", 142, y + h / 2);
      for (let f = 0; f < d; f++) {
        const fillStyle = colourOf(signed, p[f], -most, most);
        ctx.fillStyle = fillStyle; ctx.fillRect(x0 + f * cell, y + 0.5, cell + 0.4, h - 1);
        if (cell >= 36 && h >= 12) { ctx.font = `${font}px ${colours.font}`; number(p[f], x0 + (f + 0.5) * cell, y + h / 2, cell, fillStyle); }
      }
      ctx.fillStyle = p[view.f] < 0 ? colourOf(signed, -0.75, -1, 1) : colourOf(signed, 0.75, -1, 1);
      ctx.fillRect(Math.min(px(places[j]), px(places[j + 1])), y + thin, Math.max(1.5, Math.abs(p[view.f] * unit)), h - 2 * thin);
      ctx.strokeStyle = colours.soft; ctx.lineWidth = 1; ctx.beginPath(); ctx.moveTo(px(places[j + 1]), y + h - 2); ctx.lineTo(px(places[j + 1]), y + h + 2); ctx.stroke();
    });
    const y = top + n * h + 8;
    ctx.font = `700 12px ${colours.font}`; ctx.textAlign = "left"; ctx.fillStyle = colours.text; ctx.fillText(`${t.sum} = z${this.small(i + 1)}`, 2, y + 12, label - 8);
    total.forEach((z, f) => {
      const fillStyle = colourOf(signed, z, -most, most);
      ctx.fillStyle = fillStyle; ctx.fillRect(x0 + f * cell, y, cell + 0.4, 24);
      if (cell >= 36) { ctx.font = `700 11px ${colours.font}`; number(z, x0 + (f + 0.5) * cell, y + 12, cell, fillStyle); }
    });
    ctx.strokeStyle = colours.text; ctx.lineWidth = 1; ctx.strokeRect(x0, y, wide, 24); ctx.lineWidth = 2; ctx.strokeRect(x0 + view.f * cell, top, cell, n * h); ctx.strokeRect(x0 + view.f * cell, y, cell, 24);
    ctx.strokeStyle = colours.soft; ctx.lineWidth = 1; ctx.beginPath(); ctx.moveTo(px(0), top); ctx.lineTo(px(0), top + n * h); ctx.stroke();
    ctx.fillStyle = colours.text; ctx.beginPath(); ctx.arc(px(places[n]), y + 6, 4, 0, 7); ctx.fill(); ctx.font = `700 11px ${colours.font}`;
    const end = px(places[n]); ctx.textAlign = end > rx + right / 2 ? "right" : "left"; ctx.fillText(three(places[n]), end + (end > rx + right / 2 ? -8 : 8), y + 7);
    this.regions.push({ x: x0, y: top, width: wide, height: n * h, rows: n, columns: d, pick: (j, f) => ({ j, f }), say: (j, f) => `a · v${j + 1}[${f + 1}] = ${exact(a[j])} · ${exact(m.v[j][f])} = ${exact(parts[j][f])}` });
    this.regions.push({ x: x0, y, width: wide, height: 24, rows: 1, columns: d, pick: (_, f) => ({ f }), say: (_, f) => `z${i + 1}[${f + 1}] = ${exact(total[f])}` });
    this.regions.push({ x: 0, y: top, width: label, height: n * h, rows: n, columns: 1, pick: (j) => ({ j }), say: (j) => `a = ${exact(a[j])}` });
    this.regions.push({ x: rx, y: top, width: right, height: n * h, rows: n, columns: 1, pick: (j) => ({ j }), say: (j) => `${exact(places[j])} + ${exact(parts[j][view.f])} = ${exact(places[j + 1])}` });
    // The three largest in the formula, by size; all of them stand in the picture.
    const order = data.keys.map((_, j) => j).sort((x, y_) => Math.abs(parts[y_][view.f]) - Math.abs(parts[x][view.f])).slice(0, 3).sort((x, y_) => x - y_);
    const line = [["z", "", i + 1], `[${view.f + 1}] = `];
    order.forEach((j, at) => line.push(at ? " + " : "", ["", "query", null, cellText(a[j])], "·", ["", "value", null, inside(m.v[j][view.f])]));
    if (n > order.length) line.push(` + … (${fill(t.more, { n: n - order.length, value: three(total[view.f] - sum(order.map((j) => parts[j][view.f]))) })})`);
    return { parts: [...line, " = ", ["", "b", three(total[view.f])]], model: [total[view.f], m.z[i][view.f]] };
  }

  // ---- Steps that work on a row of the matrix: a table, one column a key ----------------------------------------------
  rows(lines) {
    const { data, view } = this, node = this.$(".table"), at = node.scrollLeft;
    node.replaceChildren();
    const table = add(node, "table", {}), head = add(add(table, "thead", {}), "tr", {});
    const named = add(head, "th", { style: "cursor:default;text-align:left;font-weight:500" }, `${this.t.query} ${view.i + 1} · ${data.queries[view.i]}  →`);
    named.style.whiteSpace = "nowrap";
    const sums = lines.some((line) => line.sum !== undefined);
    data.keys.forEach((name, j) => {
      const th = add(head, "th", { class: j === view.j ? "at" : "", scope: "col" }, name);
      add(th, "small", {}, String(j + 1)); th.onclick = () => this.set({ j });
    });
    if (sums) add(head, "th", { style: "cursor:default" }, "Σ");
    const body = add(table, "tbody", {});
    for (const line of lines) {
      const tr = add(body, "tr", {});
      add(tr, "th", { scope: "row" }, line.name);
      data.keys.forEach((_, j) => {
        const value = line.value(j), text = typeof value === "number" ? (Number.isFinite(value) ? cellText(value) : "−∞") : value;
        const no = line.no ? !line.no(j) : !Number.isFinite(typeof value === "number" ? value : 0);
        const td = add(tr, "td", { class: [j === view.j ? "at" : "", no ? "no" : "", line.bad?.(j) ? "bad" : ""].join(" ").trim(), title: typeof value === "number" ? exact(value) : text }, text);
        if (line.table && !no) {
          const background = colourOf(line.table, value, line.min, line.max), [r, g, b] = rgb(background);
          td.style.background = background; td.style.color = 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff";
        }
        td.onclick = () => this.set({ j });
      });
      if (sums) add(tr, "td", { class: "sum", title: line.sum === undefined ? "" : exact(line.sum) }, line.sum === undefined ? "" : three(line.sum));
    }
    node.scrollLeft = at;
  }

  scale() {
    const { view, m, data, t } = this, { i, j } = view, limit = { table: this.table_.signed, min: -reach(m.products), max: reach(m.products) };
    const lines = [{ name: t.line_product, value: (j_) => m.products[i][j_], ...limit }, { name: t.line_divisor, value: () => `÷ ${data.divisor_name}` }];
    if (data.alibi) lines.push({ name: t.line_alibi, value: (j_) => m.bias_ij[i][j_] });
    lines.push({ name: t.line_score, value: (j_) => m.scores[i][j_], ...limit });
    this.rows(lines);
    const bias = data.alibi ? m.bias_ij[i][j] : 0, found = m.products[i][j] / data.divisor + bias;
    return { parts: [["s", "", `${i + 1},${j + 1}`], " = ", three(m.products[i][j]), ` ÷ ${data.divisor_name}`, data.divisor_name === three(data.divisor) ? "" : ` = ${three(m.products[i][j])} ÷ ${three(data.divisor)}`,
      data.alibi ? ` − ${three(-bias)}` : "", " = ", ["", "b", three(found)]], model: [found, m.scores[i][j]] };
  }

  mask() {
    const { view, m, t } = this, { i, j } = view, limit = { table: this.table_.signed, min: -reach(m.scores), max: reach(m.scores) };
    this.rows([{ name: t.line_score, value: (j_) => m.scores[i][j_], ...limit }, { name: t.line_allowed, value: (j_) => (m.mask[i][j_] ? "✓" : "⊘"), no: (j_) => m.mask[i][j_] },
      { name: t.line_masked, value: (j_) => m.masked[i][j_], ...limit }]);
    const free = m.mask[i][j];
    return { parts: [["s", "", `${i + 1},${j + 1}`], " = ", three(m.scores[i][j]), free ? " + 0 = " : " + (−∞) = ", ["", "b", free ? three(m.scores[i][j]) : "−∞"], ` · ${free ? t.may : t.may_not}`], model: null };
  }

  softmax() {
    const { view, m, t } = this, { i, j } = view, row = m.masked[i], top = Math.max(...row), e = row.map((s) => Math.exp(s - top)), total = sum(e);
    const weights = e.map((x) => x / total);
    this.rows([{ name: t.line_masked, value: (j_) => row[j_] }, { name: t.line_less, value: (j_) => row[j_] - top }, { name: t.line_exp, value: (j_) => e[j_], sum: total, no: (j_) => m.mask[i][j_] },
      { name: t.line_weight, value: (j_) => m.pattern[i][j_], sum: sum(m.pattern[i]), table: this.table_.weights, min: 0, max: 1, no: (j_) => m.mask[i][j_] }]);
    const inside = Number.isFinite(row[j]) ? `${three(row[j])} − ${three(top)}`.replace("− −", "+ ") : "−∞";
    return { parts: [["a", "", `${i + 1},${j + 1}`], " = e", ["", "sup", null, inside], " ÷ Σ = ", three(e[j]), " ÷ ", three(total), " = ", ["", "b", three(weights[j])]], model: [weights[j], m.pattern[i][j]] };
  }

  dropout() {
    const { view, m, t, data } = this, { i, j } = view, { share } = data.dropped, kept = m.kept[i], after = m.after[i];
    this.rows([{ name: t.line_weight, value: (j_) => m.pattern[i][j_], sum: sum(m.pattern[i]), table: this.table_.weights, min: 0, max: 1 }, { name: t.line_kept, value: (j_) => (kept[j_] ? "✓" : "✗") , no: (j_) => kept[j_] },
      { name: fill(t.line_after, { share: 1 - share }), value: (j_) => after[j_], sum: sum(after), bad: (j_) => after[j_] > 1 }]);
    const found = kept[j] ? m.pattern[i][j] / (1 - share) : 0;
    return { parts: [["a", "", `${i + 1},${j + 1}`], " → ", three(m.pattern[i][j]), kept[j] ? ` ÷ ${three(1 - share)} = ` : " · 0 = ", ["", "b", three(found)], found > 1 ? " > 1" : ""], model: [found, after[j]] };
  }

  // The formula with its numbers. Where the sum was made here from its parts, the model's own number stands beside it.
  say(parts, model, has) {
    const node = this.$(".formula");
    node.replaceChildren();
    for (const part of parts) {
      if (!Array.isArray(part)) { node.append(part); continue; }
      const [text, kind, index, value] = part;
      if (kind === "b") add(node, "b", {}, index);
      else if (kind === "sub") add(node, "sub", {}, String(index));
      else if (kind === "sup") add(node, "sup", {}, value);
      else { const span = add(node, "span", { class: kind }, value ?? text); if (index !== null && index !== undefined) add(span, "sub", {}, String(index)); }
    }
    if (!model) return;
    const [here, there] = model, far = !(Math.abs(here - there) <= 1e-4 * Math.max(1, Math.abs(there)));
    add(node, "span", { class: far ? "far" : "ok", title: `${exact(here)} / ${exact(there)}` }, fill(`${far ? "✗" : "✓"} ${has}`, { value: three(there) }));
  }
}

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector("#steps");
  let steps = KEPT.get(root);
  if (!steps) KEPT.set(root, (steps = new Steps(root)));
  steps.take(data, (text) => setStateValue("view", text));
  return () => { steps.close(); KEPT.delete(root); };
}
