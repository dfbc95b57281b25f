// One query's row through softmax: score, what the mask does to it, the exponential, the weight. A click on a key blocks or opens it.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("#maskrow"), { t, reads, row, allowed } = data;
  roles(root, data.look);
  setText(root.querySelector(".queries > span"), t.query);
  const pick = root.querySelector(".pick");
  setAttr(pick, "aria-label", t.query);
  while (pick.children.length > reads.length) pick.lastChild.remove();
  reads.forEach((token, i) => {
    const button = pick.children[i] ?? add(pick, "button", { type: "button" });
    if (!button.children.length) { add(button, "i"); add(button, "b"); }
    setText(button.firstChild, String(i + 1)); setText(button.lastChild, token);
    setAttr(button, "aria-pressed", i === row);
    setAttr(button, "aria-label", fill(t.query_name, { t: i + 1, token }));
    button.onclick = () => setTriggerValue("row", i);
  });
  const head = root.querySelector("thead"), body = root.querySelector("tbody");
  if (head.dataset.n !== String(reads.length)) { head.replaceChildren(); body.replaceChildren(); head.dataset.n = reads.length; }
  const top = head.firstChild ?? add(head, "tr");
  if (!top.children.length) {
    add(top, "th", { scope: "row" });
    for (const _ of reads) { const b = add(add(top, "th", { scope: "col" }), "button", { type: "button" }); add(b, "i"); add(b, "b"); }
    add(top, "th", { class: "sum" }, "Σ");
  }
  setText(top.firstChild, t.keys);
  reads.forEach((token, j) => {
    const button = top.children[j + 1].firstChild;
    setText(button.firstChild, String(j + 1)); setText(button.lastChild, token);
    setAttr(button, "aria-pressed", allowed[j]);
    setAttr(button, "title", t.toggle);
    setAttr(button, "aria-label", fill(allowed[j] ? t.may : t.may_not, { t: row + 1, reads: reads[row], j: j + 1, token }));
    button.onclick = () => setTriggerValue("toggle", j);
  });
  const number = (x) => (x === null ? "−∞" : x === 0 ? "0" : Math.abs(x) < 0.0005 ? x.toExponential(0).replace("-", "−") : x.toFixed(3).replace("-", "−"));
  data.lines.forEach((line, k) => {
    const tr = body.children[k] ?? add(body, "tr");
    setAttr(tr, "class", line.id);
    if (!tr.children.length) {
      const name = add(tr, "th", { scope: "row" });
      add(name, "span"); add(name, "small");
      for (const _ of reads) add(tr, "td");
      add(tr, "td", { class: "sum" });
    }
    setText(tr.firstChild.firstChild, line.name); setText(tr.firstChild.lastChild, line.help);
    line.values.forEach((value, j) => {
      const cell = tr.children[j + 1], leak = line.id === "weight" && !allowed[j] && value > 0;
      setAttr(cell, "class", `${allowed[j] ? "" : "blocked"} ${leak ? "leak" : ""}`.trim());
      setAttr(cell, "title", typeof value === "number" ? exact(value) : "");
      const text = typeof value === "string" ? value : number(value);
      if (line.id !== "weight") { setText(cell, text); return; }
      if (!cell.children.length) { add(cell, "span", { class: "bar" }); add(cell, "span"); }
      cell.firstChild.style.height = `${56 * value}px`;
      setText(cell.lastChild, text);
    });
    setText(tr.lastChild, line.sum === null ? "" : number(line.sum));
  });
  while (body.children.length > data.lines.length) body.lastChild.remove();
  const notes = root.querySelector(".notes");
  while (notes.children.length > data.notes.length) notes.lastChild.remove();
  data.notes.forEach((note, i) => setText(notes.children[i] ?? add(notes, "p"), note));
}
