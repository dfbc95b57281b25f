// Loss by token with the guess line, and how one loss comes out of its logits; and passes against the clock.

function drawLoss(view) {
  const { data, send, body } = view, { t } = data, box = add(body, "div", { class: "lossy" });
  const chart = add(box, "div", { class: "chart" }), n = data.tokens.length, high = 270, foot = 40, head = 16, left = 44;
  const wide = Math.max(26, Math.min(58, (body.clientWidth - 480) / n)), width = left + n * wide + 96;
  const top = Math.max(data.guess * 1.25, ...data.tokens.map((token) => token.loss)), y = (v) => head + (high - head) * (1 - v / top);
  const svg = add(chart, "svg", { width, height: high + foot, viewBox: `0 0 ${width} ${high + foot}`, role: "group", "aria-label": data.text });
  for (let i = 0; i <= 4; i++) {
    const v = (top * i) / 4;
    add(svg, "line", { x1: left, x2: left + n * wide, y1: y(v), y2: y(v), stroke: view.colours.line });
    add(svg, "text", { x: left - 6, y: y(v) + 4, "text-anchor": "end", class: "faint" }, short(Number(v.toPrecision(2))));
  }
  data.tokens.forEach((token, i) => {
    const x = left + i * wide, on = i === data.at;
    const group = add(svg, "g", { class: "bar-hit", tabindex: 0, role: "button", "aria-pressed": on, "aria-label": fill(t.bar, { i: i + 1, token: token.name, loss: token.loss.toFixed(4), p: token.p.toFixed(4) }), "data-token": i });
    add(group, "rect", { x, y: head, width: wide, height: high - head + foot, fill: on ? view.colours.primary : "transparent", "fill-opacity": .12 });
    add(group, "rect", { x: x + wide * .18, y: Math.min(y(token.loss), high - 1.5), width: wide * .64, height: Math.max(1.5, high - y(token.loss)), rx: 2, fill: data.look.roles.decoder });
    add(group, "text", { x: x + wide / 2, y: Math.min(y(token.loss), high) - 4, "text-anchor": "middle", class: "faint" }, short(token.loss));
    add(group, "text", { x: x + wide / 2, y: high + 17, "text-anchor": "middle", class: "token" }, token.name);
    add(group, "text", { x: x + wide / 2, y: high + 33, "text-anchor": "middle", class: "faint" }, `${i + 1}`);
    group.onclick = () => send({ at: i });
    group.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); group.onclick(); } };
  });
  const end = left + n * wide;
  add(svg, "line", { x1: left, x2: end, y1: y(data.guess), y2: y(data.guess), stroke: data.look.roles.wrong, "stroke-width": 2, "stroke-dasharray": "7 5" });
  add(svg, "text", { x: end + 6, y: y(data.guess) + 4 }, data.guess_text);
  add(svg, "line", { x1: left, x2: end, y1: y(data.mean), y2: y(data.mean), stroke: data.look.roles.query, "stroke-width": 2 });
  const apart = Math.abs(y(data.mean) - y(data.guess)) < 16 ? (data.mean > data.guess ? -12 : 20) : 4;
  add(svg, "text", { x: end + 6, y: Math.min(y(data.mean) + apart, high - 2) }, data.mean_text);

  const sum = add(box, "div", { class: "sum" });
  add(sum, "div", { class: "line" }, data.overall);
  if (!data.sum) { add(sum, "p", { class: "soft" }, t.empty); return; }
  add(sum, "h4", {}, data.sum.title).style.margin = "8px 0 4px";
  const grid = add(add(sum, "div", { class: "scroll" }), "table", {}), first = add(grid, "tr", {});
  for (const text of [t.token, t.logit, t.exp, t.p]) add(first, "th", { scope: "col" }, text);
  for (const row of data.sum.rows) {
    const line = add(grid, "tr", { class: row.right ? "right" : "" });
    add(line, "th", { scope: "row", class: "name" }, row.right ? `${row.name} ✓` : row.name);
    for (const text of row.values) add(line, "td", {}, text);
  }
  for (const text of data.sum.lines) add(sum, "div", { class: "line mono" }, text);
}

function drawCost(view) {
  const { data, body } = view;
  flowBars(body, data.items, "rows wide", data.look);
  add(body, "p", {}, data.say);
}
