// The Generate page: the output so far, the distribution at a position, the attention that was used, the beam tree.
// The server writes tokens; which position is looked at, and at which head, is this component's own business.

const KEPT = new WeakMap(), PACE = 700; // ms between two tokens while playing
// Three decimals, but nothing likely to be read as never: 5e-6 is "<0.001", and no number is "-0.000".
const three = (x) => (x > 0 && x < 0.0005 ? "<0.001" : x.toFixed(3).replace(/^-(0\.0*)$/, "$1"));
const six = (x) => (x > 0 && x < 5e-7 ? "<0.000001" : x.toFixed(6));

class View {
  constructor(root) {
    this.root = root;
    this.$ = (name) => root.querySelector(name);
    this.tip = tooltip(root);
    this.row = null; this.playing = false; this.count = 0;
    const press = (name) => () => { const button = this.$(`.${name}`); return button.disabled ? false : button.onclick?.(); };
    this.quiet = hotkeys({ ArrowRight: press("next"), n: press("next"), ArrowLeft: press("back"), " ": press("play") });
  }

  close() { clearTimeout(this.timer); this.quiet(); }

  take(data, send) {
    const n = data.tokens.length;
    if (!this.data || this.data.input !== data.input) { this.at = Math.min(n, data.places.length - 1); this.playing = this.playing && n > 0; }
    else if (this.data.tokens.length !== n || this.data.version !== data.version) this.at = data.over ? Math.max(0, n - 1) : n;
    this.at = Math.min(this.at, data.places.length - 1);
    this.data = data;
    this.command = (command) => send(JSON.stringify({ ...command, id: `${Date.now()}.${this.count++}` }));
    for (const name of ["right", "wrong"]) this.root.style.setProperty(`--${name}`, data.look.roles[name]);
    if (data.over) this.playing = false;
    clearTimeout(this.timer);
    if (this.playing) this.timer = setTimeout(() => this.command({ to: n + 1 }), PACE);
    this.draw();
  }

  draw() {
    this.colours = theme(this.root);
    this.buttons(); this.strings(); this.odds(); this.looks(); this.search(); this.table();
  }

  buttons() {
    const { data } = this, { t } = data, n = data.tokens.length;
    const button = (name, text, off, click) => { const node = this.$(`.${name}`); setText(node, text); node.disabled = off; node.onclick = click; };
    button("play", this.playing ? t.pause : t.play, data.over, () => {
      this.playing = !this.playing;
      clearTimeout(this.timer);
      if (this.playing) this.command({ to: n + 1 });
      this.buttons();
    });
    this.$(".play").classList.toggle("pause", this.playing);
    for (const [name, keys] of [["play", "Space"], ["next", "ArrowRight N"], ["back", "ArrowLeft"]]) setAttr(this.$(`.${name}`), "aria-keyshortcuts", keys);
    const go = (to) => () => { this.playing = false; clearTimeout(this.timer); this.command({ to }); };
    button("next", `${t.next} ›`, data.over, go(n + 1));
    button("back", `‹ ${t.back}`, n === 0, go(n - 1));
    button("finish", `${t.finish} »`, data.over, go(data.cap));
    button("restart", `↺ ${t.restart}`, n === 0, go(0));
    // The model is judged by what it wrote itself, not by what the person put in.
    const missing = Math.max(0, (data.answer?.length ?? 0) - n), put = data.hand.filter((i) => i < n).length;
    const wrong = data.marks.filter((mark, i) => mark === "wrong" && !data.hand.includes(i)).length + missing;
    const known = data.answer !== null, status = this.$(".status");
    const said = data.capped ? fill(t.capped, { n }) : !data.over ? (n ? fill(t.written, { n, next: n + 1 }) : t.start)
      : !known ? t.ended
      : put ? fill(wrong ? t.put_wrong : t.put_right, { put, n: wrong }) : wrong ? fill(t.wrong, { n: wrong }) : t.right;
    setText(status, said);
    status.className = `status ${data.over && known ? (wrong ? "wrong" : "right") : ""}`;
  }

  // Chips of one string; each has its position below, and a sign where right and wrong are known.
  tokens(node, tokens, make) {
    while (node.children.length > tokens.length) node.lastChild.remove();
    tokens.forEach((token, i) => {
      const { tag = "span", name = "", sign = "", title = "", pressed, click } = make(i);
      let chip = node.children[i];
      if (chip && chip.localName !== tag) { const fresh = document.createElement(tag); chip.replaceWith(fresh); chip = fresh; }
      chip ??= add(node, tag, {});
      if (!chip.children.length) { add(chip, "b", {}); add(chip, "i", {}); }
      if (tag === "button") chip.type = "button";
      setAttr(chip, "class", `token ${name}`.trim());
      setText(chip.children[0], token); setText(chip.children[1], `${i + 1}${sign}`);
      setAttr(chip, "title", title); setAttr(chip, "aria-label", title);
      if (pressed === undefined) chip.removeAttribute("aria-pressed"); else setAttr(chip, "aria-pressed", pressed);
      chip.onclick = click ?? null;
    });
  }

  strings() {
    const { data } = this, { t } = data;
    setText(this.$(".source-label"), t.source); setText(this.$(".output-label"), t.output); setText(this.$(".answer-label"), t.answer);
    this.tokens(this.$(".source"), data.src, (i) => ({ title: `${t.source} ${i + 1}: ${data.src[i]}` }));
    const open = data.over ? [] : ["?"], names = data.tokens.map((id) => data.vocab[id]);
    this.tokens(this.$(".output"), [...names, ...open], (i) => {
      const at = { tag: "button", pressed: i === this.at, click: () => { this.at = i; this.draw(); } };
      if (i >= names.length) return { ...at, name: "open", title: fill(t.open, { i: i + 1 }) };
      const hand = data.hand.includes(i), mark = hand ? "" : data.marks[i], sign = mark === "right" ? " ✓" : mark === "wrong" ? " ✗" : "";
      return { ...at, name: `${mark} ${hand ? "hand" : ""}`.trim(), sign: hand ? " ✎" : sign,
        title: fill(t.chip, { i: i + 1, token: names[i] }) + (hand ? ` (${t.edited})` : "") };
    });
    if (this.at === names.length || data.over) this.$(".output").scrollTop = this.$(".output").scrollHeight; // a long one: its end
    const answer = data.answer === null ? [] : data.answer.map((id) => data.vocab[id]);
    if (!this.$(".answer").children.length) this.$(".answer").replaceChildren(); // the words for "not known"
    this.tokens(this.$(".answer"), answer, (i) => ({ title: `${t.answer} ${i + 1}: ${answer[i]}` }));
    if (data.answer === null) setText(this.$(".answer"), t.answer_unknown);
    // A string that scrolls says how long it is.
    for (const [name, n, text] of [["source", data.src.length, t.source], ["output", names.length, t.output], ["answer", answer.length, t.answer]]) {
      const node = this.$(`.${name}`);
      setText(this.$(`.${name}-label`), node.scrollHeight > node.clientHeight + 4 ? `${text} · ${n} ↕` : text);
    }
  }

  odds() {
    const { data, at } = this, { t } = data, place = data.places[at], past = at < data.tokens.length, node = this.$(".bars");
    const title = this.$(".odds h4");
    setText(title, fill(past ? t.bars_past : t.bars_next, { i: at + 1, token: past ? data.vocab[data.tokens[at]] : "" }));
    help(title, t.bars_help, this.tip);
    // Sorted by logit, which no temperature changes: bars grow and shrink, they do not jump about.
    const order = place.logits.map((_, id) => id).sort((a, b) => place.logits[b] - place.logits[a] || a - b);
    const marked = past ? data.tokens[at] : place.draw, shown = order.slice(0, data.rows);
    for (const id of [marked, place.draw]) if (id !== null && !shown.includes(id)) shown.splice(-1, 1, id);
    while (node.children.length > shown.length) node.lastChild.remove();
    const differs = shown.some((id) => Math.abs(place.p[id] - place.plain[id]) > 0.0005);
    shown.forEach((id, i) => {
      let line = node.children[i];
      if (!line) {
        line = add(node, "div", { role: "button", tabindex: 0 });
        add(line, "span", { class: "name" });
        const track = add(line, "span", { class: "track" });
        add(track, "span", { class: "ghost" }); add(track, "span", { class: "fill" });
        add(line, "span", { class: "value" }); add(line, "span", { class: "mark" });
      }
      const [name, track, value, mark] = line.children, p = place.p[id], off = p === 0;
      setAttr(line, "class", `odd ${off ? "off" : ""} ${id === marked ? "on" : ""}`);
      line.style.setProperty("--bar", id === marked ? data.look.roles.decoder : data.look.roles.encoder);
      setText(name, data.vocab[id]);
      track.children[0].style.width = differs ? `${100 * place.plain[id]}%` : "0";
      track.children[0].hidden = !differs;
      track.children[1].style.width = `${100 * p}%`;
      setText(value, off ? t.cut : three(p));
      setText(mark, id === marked ? `◀ ${past ? t.was : t.will}` : id === place.draw && past ? `◁ ${t.would}` : "");
      const text = fill(t.bar, { token: data.vocab[id], p: six(p), logit: place.logits[id].toFixed(4), plain: six(place.plain[id]) });
      setAttr(line, "aria-label", `${text}. ${t.choose}`);
      line.onpointermove = (event) => this.tip.show(event, text);
      line.onpointerleave = line.onblur = () => this.tip.hide();
      line.onclick = () => { this.playing = false; clearTimeout(this.timer); this.tip.hide(); this.command({ put: [at, id] }); };
      line.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); line.onclick(); } };
    });
    const more = order.length - shown.length;
    setText(this.$(".odds .note"), [t.choose, differs ? t.outline : "", more > 0 ? fill(t.more, { n: more }) : ""].filter(Boolean).join(" · "));
    setAttr(node, "aria-label", fill(t.summary, { i: at + 1, rows: shown.map((id) => `${data.vocab[id]} ${three(place.p[id])}`).join(", ") }));
  }

  // The weights by layer, head and source token; of a large model only one layer lies here, packed.
  cross(place) {
    if (typeof place.cross !== "string") return place.cross;
    if (!place.unpacked) {
      const n = this.data.src.length, units = new Uint16Array(Uint8Array.from(atob(place.cross), (c) => c.charCodeAt(0)).buffer);
      place.unpacked = [Array.from({ length: units.length / n }, (_, h) => Array.from(units.subarray(h * n, (h + 1) * n), (x) => x / 10000))];
    }
    return place.unpacked;
  }

  // One row of cross-attention a layer and head, and the mean of each layer.
  rows(place) {
    const { t, layer: only } = this.data, rows = [];
    this.cross(place).forEach((heads, i) => {
      const layer = only ?? i;
      rows.push({ name: fill(t.mean, { layer: layer + 1 }), head: null, weights: heads[0].map((_, k) => heads.reduce((sum, row) => sum + row[k], 0) / heads.length) });
      heads.forEach((weights, head) => rows.push({ name: fill(t.one, { layer: layer + 1, head: head + 1 }), head, weights }));
    });
    return rows;
  }

  looks() {
    const { data, at } = this, { t } = data, rows = this.rows(data.places[at]), table = sequential(data.look, this.colours.dark);
    if (this.row === null || this.row >= rows.length) this.row = rows.findLastIndex((row) => row.head === null);
    const title = this.$(".looks h4");
    setText(title, fill(t.cross, { i: at + 1 }));
    help(title, t.cross_help, this.tip);
    const one = this.$(".one"), layer = one.lastElementChild;
    one.hidden = data.layer === null;
    if (data.layer !== null) {
      setText(one.firstElementChild, t.layer);
      setAttr(one, "title", t.layer_help);
      if (layer.length !== data.layers) layer.replaceChildren(...Array.from({ length: data.layers }, (_, i) => new Option(i + 1, i)));
      layer.value = data.layer;
      layer.onchange = () => this.command({ layer: Number(layer.value) });
    }
    const shade = (node, weight) => {
      const colour = colourOf(table, weight), [r, g, b] = rgb(colour);
      node.style.setProperty("--shade", colour);
      node.style.setProperty("--ink", 0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#111" : "#fff");
    };
    const chosen = rows[this.row], large = this.$(".large");
    const cell = (row, k) => fill(t.cell, { row: row.name, token: data.src[k], k: k + 1, value: three(row.weights[k]) });
    this.tokens(large, data.src, (k) => ({ title: cell(chosen, k) }));
    data.src.forEach((_, k) => { shade(large.children[k], chosen.weights[k]); setText(large.children[k].lastChild, three(chosen.weights[k])); });
    const all = this.$(".all");
    while (all.children.length > rows.length) all.lastChild.remove();
    rows.forEach((row, i) => {
      const line = all.children[i] ?? add(all, "div", { class: "line", role: "button", tabindex: 0 });
      if (!line.children.length) { add(line, "span", {}); add(line, "div", {}); }
      setText(line.children[0], row.name);
      line.style.setProperty("--head", row.head === null ? "transparent" : data.look.heads[row.head % data.look.heads.length]);
      setAttr(line, "aria-pressed", i === this.row);
      line.onclick = () => { this.row = i; this.looks(); };
      line.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); line.onclick(); } };
      const strip = line.children[1];
      while (strip.children.length > row.weights.length) strip.lastChild.remove();
      row.weights.forEach((weight, k) => {
        const field = strip.children[k] ?? add(strip, "i", {});
        shade(field, weight);
        field.onpointermove = (event) => this.tip.show(event, cell(row, k));
        field.onpointerleave = () => this.tip.hide();
      });
    });
    setText(this.$(".looks .note"), fill(t.row, { row: chosen.name }));
    this.sofar(chosen.name, shade);
  }

  // The same layer and head at every position so far: how the reading moves over the source.
  sofar(name, shade) {
    const { data } = this, { t } = data, node = this.$(".matrix");
    const title = this.$(".sofar h4");
    setText(title, fill(t.sofar, { row: name }));
    while (node.children.length > data.places.length) node.lastChild.remove();
    data.places.forEach((place, i) => {
      const { weights } = this.rows(place)[this.row], line = node.children[i] ?? add(node, "div", { class: "line", role: "button", tabindex: 0 });
      if (!line.children.length) { add(line, "span", {}); add(line, "div", {}); }
      setText(line.children[0], `${i + 1} ${i < data.tokens.length ? data.vocab[data.tokens[i]] : "?"}`);
      setAttr(line, "aria-pressed", i === this.at);
      line.onclick = () => { this.at = i; this.draw(); };
      line.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); line.onclick(); } };
      const strip = line.children[1];
      while (strip.children.length > weights.length) strip.lastChild.remove();
      weights.forEach((weight, k) => {
        const field = strip.children[k] ?? add(strip, "i", {});
        shade(field, weight);
        field.onpointermove = (event) => this.tip.show(event, fill(t.cell, { row: fill(t.open_short, { i: i + 1 }), token: data.src[k], k: k + 1, value: three(weight) }));
        field.onpointerleave = () => this.tip.hide();
      });
    });
  }

  search() {
    const { data } = this, { t } = data, panel = this.$(".search");
    panel.hidden = !data.beams;
    this.root.classList.toggle("beam", Boolean(data.beams));
    if (!data.beams) return;
    const title = panel.querySelector("h4");
    setText(title, fill(t.beams, { beams: data.width }));
    help(title, t.beams_help, this.tip);
    const tree = this.$(".tree");
    if (data.beams.length) beamTree(tree, data.beams, { colours: this.colours, best: data.look.roles.decoder, t, tip: this.tip });
    else { tree.replaceChildren(); setText(tree, t.beams_start); }
  }

  table() {
    const { data, at } = this, { t } = data, more = this.$(".more"), place = data.places[at];
    setText(more.querySelector("summary"), t.table);
    more.ontoggle = () => this.table();
    const node = this.$(".tables");
    node.replaceChildren();
    if (!more.open) return;
    const grid = add(node, "table", {}), head = add(add(grid, "thead", {}), "tr", {}), body = add(grid, "tbody", {});
    for (const text of [t.column_token, t.column_p, t.column_plain, t.column_logit]) add(head, "th", { scope: "col" }, text);
    place.logits.map((_, id) => id).sort((a, b) => place.logits[b] - place.logits[a]).forEach((id) => {
      const line = add(body, "tr", {});
      add(line, "th", { scope: "row" }, data.vocab[id]);
      for (const text of [six(place.p[id]), six(place.plain[id]), place.logits[id].toFixed(4)]) add(line, "td", {}, text);
    });
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("#generate");
  let view = KEPT.get(root);
  if (!view) KEPT.set(root, (view = new View(root)));
  view.take(data, (command) => setTriggerValue("act", command));
  return () => { view.close(); KEPT.delete(root); };
}
