// Boxes that data passes through, and the tensors that come out of them: name, shape, a small view of the values.

function flowRow(node, flow, press) {
  const row = add(node, "div", { class: `flow ${flow.small ? "small" : ""}`.trim() });
  if (flow.label) {
    const label = add(row, "div", { class: "label" }, flow.label);
    add(label, "i", {}, flow.under ?? "");
  }
  flow.boxes.forEach((box, i) => {
    if (i) add(row, "div", { class: `arrow ${box.lit ? "lit" : ""}`.trim(), "aria-hidden": "true" }, box.arrow ?? "→");
    const part = add(row, "div", { class: `box ${box.lit ? "lit" : ""} ${box.now ? "now" : ""} ${box.open ? "open" : ""} ${box.wide ? "wide" : ""}`.replace(/\s+/g, " ").trim() });
    if (box.role) part.style.setProperty("--role", box.role);
    if (press) {
      const button = add(part, "button", { type: "button", class: `do ${box.open ? "main" : ""}`.trim(), "data-stage": box.id }, `${i + 1} · ${box.title}`);
      button.disabled = !box.lit && !box.open;
      if (box.now) setAttr(button, "aria-current", "step");
      button.onclick = () => press(i, box);
    } else add(part, "b", {}, box.title);
    for (const text of box.parts) add(part, "span", { class: "part" }, text);
  });
}

const FLOW_ROW = 15, FLOW_WIDE = 226, FLOW_NARROW = 140;

function flowTensor(node, tensor, look, colours, tip) {
  const part = add(node, "section", { class: "tensor", "data-tensor": tensor.id });
  const title = add(part, "h5", {}, tensor.name);
  if (tensor.help) help(title, tensor.help, tip);
  if (tensor.symbol) {
    const shape = add(part, "div", { class: "shape" }, `${tensor.symbol} = `);
    add(shape, "b", {}, tensor.shape);
  }
  if (tensor.kind === "tokens") for (const row of tensor.rows) chips(add(part, "div"), row, { size: 22 });
  if (tensor.kind === "number") add(part, "div", { class: "big" }, tensor.value);
  if (tensor.kind === "bars") flowBars(part, tensor.items, "rows", look);
  if (tensor.kind === "table") flowTable(part, tensor);
  if (tensor.kind === "map") flowMap(part, tensor, look, colours, tip);
  if (tensor.note) add(part, "div", { class: "note" }, tensor.note);
}

function flowMap(node, tensor, look, colours, tip) {
  const { matrix } = tensor, box = add(node, "div", { class: "map" }), names = add(box, "div", { class: "names" });
  const row = Math.max(4, Math.min(FLOW_ROW, Math.floor(190 / matrix.length)));
  names.style.setProperty("--row", `${row}px`);
  matrix.forEach((_, i) => add(names, "span", {}, row < 9 ? "" : tensor.names[i]));
  const limit = tensor.scale === "weights" ? 1 : Math.max(...matrix.flat().filter(Number.isFinite).map(Math.abs), 1e-9);
  const table = tensor.scale === "weights" ? sequential(look, colours.dark) : diverging(look, colours.dark);
  const min = tensor.scale === "weights" ? 0 : -limit;
  const room = (node.parentNode.clientWidth - 300) / 3 - 45; // four tensors beside each other
  const most = Math.max(FLOW_NARROW, Math.min(FLOW_WIDE, room));
  const width = Math.min(most, Math.max(60, matrix[0].length * 14)), height = row * matrix.length;
  const canvas = add(box, "canvas", { role: "img", "aria-label": `${tensor.name} ${tensor.shape}` });
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  heat(sharp(canvas, width, height), matrix, { width, height, table, min, max: limit, grid: colours.line });
  canvas.onpointermove = (event) => {
    const area = canvas.getBoundingClientRect(), cell = cellAt(matrix, { width, height }, event.clientX - area.left, event.clientY - area.top);
    if (!cell) return tip.hide();
    const column = tensor.columns ? tensor.columns[cell.column] : fill(tensor.feature, { i: cell.column + 1 });
    tip.show(event, `${cell.row + 1} ${tensor.names[cell.row]} · ${column}\n${exact(matrix[cell.row][cell.column])}`);
  };
  canvas.onpointerleave = () => tip.hide();
  legend(add(node, "div"), table, tensor.scale === "weights" ? "0" : `−${short(limit)}`, tensor.scale === "weights" ? "1" : short(limit));
}

function flowBars(node, items, name, look) {
  const box = add(node, "div", { class: name }), top = Math.max(...items.map((item) => item.value), 1e-12);
  for (const item of items) {
    add(box, "span", {}, item.name);
    const bar = add(add(box, "span", { class: "track" }), "div", { class: "fill" });
    bar.style.width = `${(100 * item.value) / top}%`;
    if (item.role) bar.style.setProperty("--role", item.role);
    add(box, "span", {}, item.text ?? short(item.value)).title = exact(item.value);
  }
}

function flowTable(node, { head, body }) {
  const grid = add(node, "table", {}), first = add(add(grid, "thead", {}), "tr", {}), rest = add(grid, "tbody", {});
  head.forEach((text, i) => add(first, "th", { scope: "col", class: i ? "" : "name" }, text));
  for (const line of body) {
    const row = add(rest, "tr", {});
    line.forEach((value, i) => (i ? add(row, "td", { title: exact(value) }, Number(value.toPrecision(5)).toString()) : add(row, "th", { scope: "row", class: "name" }, value)));
  }
}

function drawTrain(view) {
  const { data, send, stage, body, bar, colours, tip } = view, { t } = data;
  flowRow(stage, { boxes: data.boxes }, (i, box) => send(box.open ? { to: data.n + 1 } : { at: i }));
  for (const button of data.buttons) {
    const node = add(bar, "button", { type: "button", class: "do", "data-go": button.id }, button.text);
    node.disabled = button.off;
    node.onclick = () => send({ to: button.to });
  }
  add(bar, "span", { class: "say", role: "status" }, data.say);
  const list = add(body, "div", { class: "tensors" });
  for (const tensor of data.tensors) flowTensor(list, tensor, data.look, colours, tip);
  add(body, "p", { class: "soft foot" }, data.tensors.length ? t.symbols : t.empty);
}
