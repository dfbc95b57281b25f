// The residual stream: for every part of both stacks how long the vector is that it adds, and how long the stream is after it.
// Under them the chosen part on the chosen token, feature by feature.

function makeStack(box, stack, data, most, tell) {
  const t = data.t;
  box.replaceChildren();
  box.style.setProperty("--share", stack.parts.length + 1);
  box.style.setProperty("--role", data.look.roles[stack.id]);
  const top = add(box, "div", { class: "top" });
  add(top, "b", {}, stack.title);
  add(top, "span", { class: "soft" }, t.token);
  const pick = add(top, "span", { class: "pick", role: "group", "aria-label": `${stack.title}: ${t.token}` });
  stack.tokens.forEach((token, i) => {
    const button = add(pick, "button", { type: "button", "aria-pressed": i === stack.token, title: `${i + 1}: ${token}` }, token);
    button.onclick = () => {
      [...pick.children].forEach((other, j) => setAttr(other, "aria-pressed", j === i));
      tell("token", [stack.id, i]);
    };
  });
  const bars = add(box, "div", { class: "bars" }), height = data.bar, wide = stack.parts.length <= 20;
  bars.style.setProperty("--bar", `${height}px`);
  const column = (kind, label, added, after, said) => {
    const part = add(bars, kind === "start" ? "span" : "button", { class: `part ${kind}`, title: said, "aria-label": said });
    const pair = add(part, "span", { class: "pair" });
    if (added !== null) add(pair, "i", { class: kind }).style.height = `${(100 * added) / most}%`;
    add(pair, "i", { class: "sum" }).style.height = `${(100 * after) / most}%`;
    add(part, "span", { class: "say" }, wide ? label : " ");
    return part;
  };
  column("start", t.start, null, stack.start, fill(t.start_said, { norm: short(stack.start) }));
  for (const p of stack.parts) {
    const values = { part: t[p.kind], layer: p.layer, added: p.added.toFixed(2), before: p.before.toFixed(2), after: p.after.toFixed(2), angle: p.angle.toFixed(0) };
    const part = column(p.kind, t[`${p.kind}_short`], p.added, p.after, fill(t.part_said, values));
    part.type = "button";
    setAttr(part, "data-place", p.place);
    setAttr(part, "aria-pressed", p.place === data.chosen);
    part.onclick = () => {
      for (const other of box.parentElement.querySelectorAll(".part[aria-pressed]")) setAttr(other, "aria-pressed", other === part);
      tell("pick", p.place);
    };
  }
  const layers = add(box, "div", { class: "layers" });
  add(layers, "span").style.setProperty("--n", 1);
  const every = stack.parts.at(-1).layer, per = stack.parts.length / every;
  for (let i = 1; i <= every; i++) add(layers, "span", {}, every > 8 ? String(i) : fill(t.layer, { layer: i })).style.setProperty("--n", per);
}

function drawStrips(root, data) {
  const box = root.querySelector(".detail"), { detail } = data, colours = theme(root);
  box.replaceChildren();
  add(box, "h4", {}, detail.title);
  const table = diverging(data.look, colours.dark);
  for (const { label, values, norm } of detail.strips) {
    const strip = add(box, "div", { class: "strip" });
    add(strip, "span", {}, label);
    const canvas = add(strip, "canvas", { role: "img", "aria-label": `${label} ${norm.toFixed(3)}` });
    add(strip, "span", { class: "norm" }, fill(data.t.length, { norm: norm.toFixed(2) }));
    const ctx = sharp(canvas);
    heat(ctx, [values], { width: canvas.clientWidth, height: canvas.clientHeight, table, min: -detail.limit, max: detail.limit });
    const tip = data.tip;
    canvas.onpointermove = (event) => {
      const i = Math.floor((event.offsetX / canvas.clientWidth) * values.length);
      if (i >= 0 && i < values.length) tip.show(event, fill(data.t.feature, { i: i + 1, value: values[i].toFixed(4) }));
    };
    canvas.onpointerleave = () => tip.hide();
  }
  add(box, "div", { class: "soft" }, detail.note);
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), stacks = root.querySelector(".stacks");
  roles(root, data.look);
  data.tip = tooltip(root);
  const most = Math.max(...data.stacks.flatMap((s) => [s.start, ...s.parts.flatMap((p) => [p.added, p.after])])) || 1;
  while (stacks.children.length < data.stacks.length) add(stacks, "section", { class: "stack" });
  data.stacks.forEach((stack, i) => makeStack(stacks.children[i], stack, data, most, setTriggerValue));
  let key = root.querySelector(".key");
  if (!key) { key = add(root, "div", { class: "key" }); stacks.after(key); }
  key.replaceChildren();
  for (const kind of ["self", "cross", "ffn", "sum"]) { const item = add(key, "span"); add(item, "i", { class: kind }); item.append(data.t[`${kind}_key`]); }
  drawStrips(root, data);
  root.observer?.disconnect();
  root.observer = new ResizeObserver(() => drawStrips(root, data));
  root.observer.observe(root);
  return () => root.observer?.disconnect();
}
