// Both flows over one example, position by position; and what one wrong token does to what follows.

function positionGrid(node, data, tip, cell) {
  const grid = add(add(node, "div", { class: "grid" }), "table", {}), { t } = data;
  const head = add(grid, "tr", {});
  add(head, "th", { class: "row" }, t.position);
  const apart = (i) => (i === data.divergence ? "apart" : "");
  data.columns.forEach((_, i) => add(head, "th", { class: `pos ${apart(i)}`, scope: "col" }, i === data.divergence ? `${i + 1} ≠` : `${i + 1}`));
  for (const line of data.rows) {
    const row = add(grid, "tr", {});
    if (line.side) { add(row, "th", { class: "side", colspan: data.columns.length + 1 }, line.side); continue; }
    const name = add(row, "th", { class: "row", scope: "row" }, line.name);
    if (line.help) help(name, line.help, tip);
    data.columns.forEach((column, i) => cell(add(row, "td", { class: apart(i) }), line, column, i));
  }
}

function tokenChip(node, { token, mark = "", title = "", click, chosen }) {
  if (token === undefined || token === null) return add(node, "span", {}, "");
  const chip = add(node, click ? "button" : "span", { class: `chip ${mark} ${chosen ? "chosen" : ""}`.replace(/\s+/g, " ").trim(), title });
  if (click) { chip.type = "button"; chip.onclick = click; setAttr(chip, "aria-label", title); }
  const sign = /right/.test(mark) ? " ✓" : /wrong/.test(mark) ? " ✗" : "";
  add(chip, "span", {}, token);
  if (sign) add(chip, "small", {}, sign.trim());
  return chip;
}

function plainCell(node, line, column, i) {
  const cell = column[line.id];
  if (line.kind === "number") return void add(node, "span", { class: `num ${cell?.mark ?? ""}`, title: cell?.title ?? "" }, cell?.text ?? "");
  if (cell) tokenChip(node, cell);
}

function drawTwin(view) {
  const { data, send, stage, body, bar } = view;
  for (const button of data.buttons) {
    const node = add(bar, "button", { type: "button", class: `do ${button.main ? "main" : ""}`.trim(), "data-go": button.id }, button.text);
    node.disabled = button.off;
    node.onclick = () => send({ to: button.to });
  }
  add(bar, "span", { class: `say verdict ${data.mark}`, role: "status" }, data.say);
  for (const flow of data.flows) flowRow(stage, flow);
  positionGrid(body, data, view.tip, plainCell);
}

function drawWrong(view) {
  const { data, send, stage, body, bar, tip } = view, { t } = data;
  add(bar, "span", { class: `verdict ${data.mark}`, role: "status" }, data.say);
  positionGrid(stage, data, tip, (node, line, column, i) => {
    const cell = column[line.id];
    if (line.id !== "alone" || !cell) return plainCell(node, line, column, i);
    tokenChip(node, { ...cell, chosen: i === data.at, title: fill(t.choose_position, { i: i + 1 }), click: () => send({ at: i }) });
  });
  const choice = add(body, "div", { class: "choice", role: "group", "aria-label": t.choose_token });
  add(choice, "span", { class: "soft" }, fill(t.choose_token, { i: data.at + 1 }));
  for (const option of data.options) {
    const chip = add(choice, "button", { type: "button", class: "chip", "aria-pressed": option.id === data.token, "data-token": option.id }, option.name);
    if (option.own) chip.title = t.own;
    chip.disabled = option.own;
    chip.onclick = () => send({ put: [data.at, option.id] });
  }
}
