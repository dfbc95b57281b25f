// The charts of training on canvas: loss with the guess line, accuracies on unseen strings, learning rate, gradient norm.

const AREA = { left: 38, right: 12, top: 7, bottom: 17 };

// The right end of the step axis: the planned steps, or less while only a small part of a long run has been done.
function lastStep(live, planned) {
  const done = live.records.length ? live.records[live.records.length - 1].step : 0;
  let end = Math.max(planned, done, 1);
  while (end > 60 && done * 5 < end) end /= 2;
  return Math.ceil(end);
}

function ticks(max, about) {
  const raw = max / about, unit = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw * 0.999);
  const found = [];
  for (let v = 0; v <= max * 1.0001; v += size) found.push(Number(v.toPrecision(6)));
  return found;
}

// Points in pixels; where there are more records than pixels, the lowest and highest of each pixel column.
function trace(ctx, records, key, px, py) {
  let column = null, low = 0, high = 0, open = false, last = 0;
  ctx.beginPath();
  const to = (x, y) => { if (open) ctx.lineTo(x, y); else ctx.moveTo(x, y); open = true; };
  const dense = records.length > 1500;
  for (const record of records) {
    const value = record[key];
    if (value === null || value === undefined || !Number.isFinite(value)) continue;
    const x = px(record.step), y = py(value);
    if (!dense) { to(x, y); continue; }
    const at = Math.round(x);
    if (at !== column) {
      if (column !== null) { to(column, low); to(column, high); to(column, last); }
      column = at; low = high = y;
    } else { low = Math.min(low, y); high = Math.max(high, y); }
    last = y;
  }
  if (column !== null) { to(column, low); to(column, high); to(column, last); }
  ctx.stroke();
}

// One chart. lines: [{records, key, colour, dash, dots}], top: upper end of y, rule: {value, label}, failed: mark the end.
// rates: [{step, text}] where a person set the learning rate; until: the step up to which the run is looked at; percent: of y.
function drawChart(canvas, { lines, top, end, rule, cursor, failed, look, stepWord, small, rates, until, percent: shares }) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ctx = sharp(canvas, width, height);
  if (width < 40 || height < 30) return;
  const x0 = AREA.left, x1 = width - AREA.right, y0 = AREA.top, y1 = height - AREA.bottom;
  const px = (step) => x0 + ((x1 - x0) * step) / end, py = (v) => y1 - ((y1 - y0) * Math.min(v, top)) / top;
  ctx.clearRect(0, 0, width, height);
  ctx.font = `11px ${look.font}`;
  ctx.lineWidth = 1;
  ctx.fillStyle = look.soft;
  ctx.strokeStyle = look.line;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  for (const v of ticks(top, Math.max(2, Math.min(5, (y1 - y0) / 26)))) {
    const y = Math.round(py(v)) + 0.5;
    ctx.beginPath(); ctx.moveTo(x0, y); ctx.lineTo(x1, y); ctx.stroke();
    ctx.fillText(shares ? percent(v) : small ? plainNumber(v) : short(v), x0 - 6, y);
  }
  ctx.textBaseline = "alphabetic";
  const word = ctx.measureText(stepWord).width;
  ctx.fillText(stepWord, x1 + 4, height - 3);
  ctx.textAlign = "center";
  for (const v of ticks(end, Math.max(2, Math.min(6, (x1 - x0) / (small ? 52 : 70))))) {
    const x = px(v), half = ctx.measureText(String(v)).width / 2;
    if (x + half < x1 - word - 4) ctx.fillText(Math.round(v).toLocaleString("en"), x, height - 3);
  }
  if (rule) {
    const y = Math.round(py(rule.value)) + 0.5;
    ctx.strokeStyle = look.soft;
    ctx.setLineDash([5, 4]); ctx.beginPath(); ctx.moveTo(x0, y); ctx.lineTo(x1, y); ctx.stroke(); ctx.setLineDash([]);
    ctx.textAlign = "right";
    const text = ctx.measureText(rule.label).width, above = y - 5 > y0 + 8 ? y - 5 : y + 13;
    ctx.fillStyle = look.background; ctx.globalAlpha = 0.8; ctx.fillRect(x1 - text - 3, above - 10, text + 4, 13);
    ctx.globalAlpha = 1; ctx.fillStyle = look.soft; ctx.fillText(rule.label, x1, above);
  }
  ctx.save();
  ctx.beginPath(); ctx.rect(x0 - 2, y0 - 3, x1 - x0 + 5, y1 - y0 + 6); ctx.clip();
  ctx.lineJoin = "round";
  for (const { records, key, colour, dash, dots } of lines) {
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.lineWidth = small ? 1.4 : 1.8;
    ctx.setLineDash(dash ?? []);
    trace(ctx, records, key, px, py);
    ctx.setLineDash([]);
    if (records.length === 1 && Number.isFinite(records[0][key])) { ctx.beginPath(); ctx.arc(px(records[0].step), py(records[0][key]), 2.4, 0, 7); ctx.fill(); }
    if (dots && records.length < 80) for (const r of records) { ctx.beginPath(); ctx.arc(px(r.step), py(r[key]), 2.1, 0, 7); ctx.fill(); }
  }
  ctx.restore();
  for (const mark of rates ?? []) {
    const x = Math.round(px(mark.step)) + 0.5;
    ctx.strokeStyle = ctx.fillStyle = look.mark; ctx.lineWidth = 1; ctx.setLineDash([2, 2]);
    ctx.beginPath(); ctx.moveTo(x, y0); ctx.lineTo(x, y1); ctx.stroke(); ctx.setLineDash([]);
    ctx.textAlign = x > (x0 + x1) / 2 ? "right" : "left";
    if (!small) ctx.fillText(mark.text, x + (x > (x0 + x1) / 2 ? -4 : 4), y0 + 10);
  }
  if (until !== null && until !== undefined) {
    ctx.strokeStyle = look.text; ctx.lineWidth = 1.2;
    ctx.beginPath(); ctx.moveTo(px(until), y0); ctx.lineTo(px(until), y1); ctx.stroke();
  }
  const last = lines[0].records[lines[0].records.length - 1];
  if (failed && last) {
    ctx.fillStyle = look.wrong; ctx.font = `bold 14px ${look.font}`; ctx.textAlign = "center";
    ctx.fillText("✗", px(last.step), Math.max(y0 + 10, py(last[lines[0].key] ?? top)));
  }
  if (cursor) {
    const x = px(cursor.step);
    ctx.strokeStyle = look.soft; ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(x, y0); ctx.lineTo(x, y1); ctx.stroke();
    for (const { records, key, colour } of lines) {
      const at = nearest(records, cursor.step);
      if (at && Number.isFinite(at[key])) { ctx.fillStyle = colour; ctx.beginPath(); ctx.arc(px(at.step), py(at[key]), 3.4, 0, 7); ctx.fill(); }
    }
  }
}

// The record closest to a step; records are in order of their steps.
function nearest(records, step) {
  let low = 0, high = records.length - 1;
  if (high < 0) return null;
  while (low < high) { const middle = (low + high) >> 1; if (records[middle].step < step) low = middle + 1; else high = middle; }
  return low && step - records[low - 1].step < records[low].step - step ? records[low - 1] : records[low];
}

class Curves {
  constructor(board) {
    this.board = board;
    this.find = (name) => board.root.querySelector(name);
    this.canvases = ["loss", "accuracy", "rate", "gradient"].map((name) => this.find(`canvas.${name}`));
    for (const canvas of this.canvases) {
      canvas.onpointermove = (event) => this.point(event, event.offsetX, canvas);
      canvas.onpointerleave = canvas.onblur = () => { this.cursor = null; board.tip.hide(); this.draw(); };
      canvas.onkeydown = (event) => this.key(event, canvas);
    }
    this.find(".table-switch").onclick = () => { this.table = !this.table; this.shown = null; this.draw(); };
  }

  point(event, x, canvas) {
    const { live } = this.board, width = canvas.clientWidth - AREA.left - AREA.right;
    this.cursor = nearest(live.records, ((x - AREA.left) / width) * lastStep(live, live.steps ?? this.board.data.facts.steps));
    this.explain(event);
  }

  key(event, canvas) {
    const { records } = this.board.live, move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -25, PageDown: 25 }[event.key];
    if (!move || !records.length) return;
    event.preventDefault();
    const at = this.cursor ? records.indexOf(this.cursor) : records.length;
    this.cursor = records[Math.max(0, Math.min(records.length - 1, at + move))];
    this.explain(canvas);
  }

  explain(where) {
    const { labels, facts } = this.board.data, { live } = this.board, r = this.cursor;
    if (!r) return;
    const test = nearest(live.tests, r.step), set = this.rates().findLast((m) => m.step <= r.step), lines = [
      `${labels.step} ${r.step}`, `${labels.loss}: ${exact(r.loss)}`, `${labels.guess_line}: ${exact(facts.guess)}`];
    if (test) lines.push(`${labels.token_accuracy} (${labels.step} ${test.step}): ${percent(test.token_accuracy)}`,
      `${labels.exact_match} (${labels.step} ${test.step}): ${percent(test.exact_match)}`);
    lines.push(`${labels.lr}: ${plainNumber(r.lr)}`, `${labels.grad_norm}: ${exact(r.grad_norm)}`);
    if (set) lines.push(fill(labels.rate_set, set));
    this.board.tip.show(where, lines.join("\n"));
    this.draw();
  }

  // Where a person set the learning rate while it trained: the peak, which the schedule goes on from.
  rates() {
    const { live, data } = this.board;
    let before = data.facts.lr;
    return live.events.filter((e) => e.event === "lr" && Number.isFinite(e.lr)).map((e) => {
      const mark = { step: e.step, before: plainNumber(before), rate: plainNumber(e.lr), text: `${plainNumber(before)} → ${plainNumber(e.lr)}` };
      before = e.lr;
      return mark;
    });
  }

  draw() {
    const { seen: live, data, colours, replay } = this.board, { labels, facts } = data, { records, tests } = live;
    const last = records[records.length - 1], test = tests[tests.length - 1], roles = data.look.roles;
    setText(this.find("[data-t=empty_curves]"), LIVE.has(live.state) ? labels.empty_curves_live : labels.empty_curves);
    this.find(".charts").hidden = Boolean(this.table);
    this.find(".table").hidden = !this.table;
    setAttr(this.find(".table-switch"), "aria-pressed", Boolean(this.table));
    setText(this.find(".now.loss"), last ? short(last.loss) : "");
    setText(this.find(".now.token"), test ? percent(test.token_accuracy) : "");
    setText(this.find(".now.exact"), test ? percent(test.exact_match) : "");
    setText(this.find(".now.rate"), last ? fill(labels.rate_now, { lr: plainNumber(last.lr) }) : "");
    setText(this.find(".now.gradient"), last ? short(last.grad_norm) : "");
    if (this.table) { this.fillTable(); return; }
    const all = this.board.live.records; // the scales stay while one looks back
    const highest = (key, otherwise) => all.reduce((m, r) => (r[key] > m && Number.isFinite(r[key]) ? r[key] : m), otherwise);
    const end = lastStep(this.board.live, live.steps ?? facts.steps), stepWord = labels.step_axis, cursor = this.cursor;
    const look = { ...colours, wrong: roles.wrong, mark: roles.key }, until = replay.at;
    const rates = this.rates().filter((m) => until === null || m.step <= until);
    const chart = (i, lines, top, more) => drawChart(this.canvases[i], { lines, top, end, cursor, look, stepWord, until, ...more });
    const top = Math.min(Math.max(facts.guess * 1.12, highest("loss", 0) * 1.04), facts.guess * 3);
    chart(0, [{ records, key: "loss", colour: colours.primary }], top,
      { rule: { value: facts.guess, label: `${labels.guess_line} ${short(facts.guess)}` }, failed: live.state === "failed", rates });
    chart(1, [{ records: tests, key: "token_accuracy", colour: colours.soft, dash: [6, 3], dots: true },
      { records: tests, key: "exact_match", colour: roles.right, dots: true }], 1.04, { percent: true });
    chart(2, [{ records, key: "lr", colour: colours.soft }], (highest("lr", 0) || facts.lr) * 1.15, { small: true, rates });
    chart(3, [{ records, key: "grad_norm", colour: colours.soft }], (highest("grad_norm", 0) || 1) * 1.1, { small: true });
    const say = (i, text) => setAttr(this.canvases[i], "aria-label", text);
    const values = { step: last?.step ?? 0, loss: short(last?.loss), guess: short(facts.guess), token: percent(test?.token_accuracy),
      exact: percent(test?.exact_match), lr: plainNumber(last?.lr), grad: short(last?.grad_norm) };
    say(0, fill(labels.loss_alt, values)); say(1, fill(labels.accuracy_alt, values));
    say(2, [fill(labels.lr_alt, values), ...rates.map((m) => fill(labels.rate_set, m))].join(" ")); say(3, fill(labels.grad_alt, values));
  }

  fillTable() {
    const { seen: live, data } = this.board, rows = live.records.slice(-200).reverse(), sign = `${live.records.length}/${rows[0]?.step}`;
    if (this.shown === sign) return;
    this.shown = sign;
    const keys = ["step", "loss", "token_accuracy", "exact_match", "lr", "grad_norm", "tokens_per_s"];
    const table = document.createElement("table"), head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
    for (const key of keys) add(head, "th", { scope: "col" }, data.labels[key]);
    for (const record of rows) {
      const tr = add(body, "tr");
      for (const key of keys) add(tr, "td", {}, key === "step" ? record.step : record[key] == null ? "" : String(Number(record[key].toPrecision(5))));
    }
    this.find(".table").replaceChildren(table);
  }
}
