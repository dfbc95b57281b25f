// Cross-attention with the memory that is chosen: every head small, one head large, and what each memory leads to.

function drawCross(view) {
  const { data, send, body, colours, tip } = view, { t, look } = data;
  const box = add(body, "div", { class: "cross" });
  const left = add(box, "section", {}), heads = add(left, "div", { class: "heads" });
  const table = sequential(look, colours.dark), [layer, head] = data.at;
  headGrid(heads, data.patterns.length, data.patterns[0].length, look.heads, data.thumb, { layer: t.layer, head: t.head },
    { point: () => {}, lock: (l, h) => send({ head: [l, h] }) });
  paintHeads(heads, (l, h) => ({ matrix: data.patterns[l][h], table, min: 0, max: 1, under: "", tip: fill(t.thumb, { layer: l + 1, head: h + 1 }) }), data.at, null);

  const middle = add(box, "section", {});
  const name = add(middle, "h4", {}, fill(t.title, { layer: layer + 1, head: head + 1 }));
  help(name, t.title_help, tip);
  const matrix = data.patterns[layer][head], cell = Math.max(9, Math.min(27, Math.floor(300 / Math.max(matrix.length, matrix[0].length))));
  const large = add(middle, "div", { class: "large" });
  large.style.setProperty("--cell", `${cell}px`);
  add(large, "div", { class: "side" }, t.query);
  const names = add(large, "div", { class: "names" });
  data.queries.forEach((text) => add(names, "span", {}, text));
  const width = cell * matrix[0].length, height = cell * matrix.length;
  const canvas = add(large, "canvas", { role: "img", "aria-label": data.text });
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  heat(sharp(canvas, width, height), matrix, { width, height, table, grid: colours.line });
  canvas.onpointermove = (event) => {
    const area = canvas.getBoundingClientRect(), at = cellAt(matrix, { width, height }, event.clientX - area.left, event.clientY - area.top);
    if (!at) return tip.hide();
    tip.show(event, fill(t.cell, { query: data.queries[at.row], key: data.keys[at.column], k: at.column + 1, value: matrix[at.row][at.column].toFixed(4) }));
  };
  canvas.onpointerleave = () => tip.hide();
  add(large, "span", {}); add(large, "span", {});
  const below = add(large, "div", { class: "below" });
  data.keys.forEach((text) => add(below, "span", {}, text));
  add(large, "span", {}); add(large, "span", {});
  add(large, "div", { class: "under" }, data.key_axis);
  legend(add(middle, "div"), table, "0", "1");

  const right = add(box, "section", { class: "switches", role: "radiogroup", "aria-label": t.switches });
  help(add(right, "h4", {}, t.switches), t.switches_help, tip);
  for (const one of data.switches) {
    const button = add(right, "button", { type: "button", class: "switch", role: "radio", "aria-checked": one.id === data.which, "data-switch": one.id });
    add(button, "span", { class: "dot" });
    add(button, "span", { class: "what" }, one.name);
    const meter = add(button, "span", { class: "meter" }, one.exact === null ? t.unmeasured : fill(t.exact, { percent: (100 * one.exact).toFixed(1) }));
    if (one.exact !== null) add(add(meter, "div", { class: "track" }), "div", { class: "fill" }).style.width = `${100 * one.exact}%`;
    chips(add(button, "span", { class: "out" }), one.output, { marks: one.marks, size: 17 });
    button.onclick = () => send({ memory: one.id });
  }
}
