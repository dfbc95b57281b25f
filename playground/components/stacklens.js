// What every layer would answer at every position: the winning token and its probability. Framed: right for the first time.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), { t, rows, wants, reads, first, cell } = data;
  const [head, body, foot] = root.querySelector("table").children, colours = theme(root), table = sequential(data.look, colours.dark);
  roles(root, data.look);
  root.style.setProperty("--height", `${data.height}px`);
  head.replaceChildren(); foot.replaceChildren();
  for (const [title, tokens] of [[t.reads, reads], [t.wants, wants]]) {
    const line = add(head, "tr");
    add(line, "th", { scope: "row", class: "soft" }, title);
    tokens.forEach((token) => add(line, "th", { class: "mono" }, token));
    add(line, "th", { class: "soft" }, title === t.wants ? t.share : "");
  }
  const sign = `${rows.length} ${wants.length}`;
  if (body.dataset.made !== sign) { body.dataset.made = sign; body.replaceChildren(); }
  rows.forEach((row, l) => {
    const line = body.children[l] ?? add(body, "tr");
    if (!line.children.length) {
      add(line, "th", { scope: "row" });
      for (let i = 0; i < wants.length; i++) { const b = add(add(line, "td"), "button", { type: "button" }); add(b, "span"); add(b, "small"); }
      const share = add(line, "td", { class: "share" });
      add(share, "b"); add(share, "span");
    }
    setText(line.firstChild, row.title);
    row.tokens.forEach((token, i) => {
      const button = line.children[i + 1].firstChild, p = row.p[i], right = row.right[i];
      setText(button.firstChild, token);
      setText(button.lastChild, p.toFixed(2) + (right ? "✓" : ""));
      button.style.background = colourOf(table, p * 0.62);
      button.style.color = colours.dark ? "#fff" : p > 0.75 ? "#fff" : "#111";
      button.classList.toggle("first", first[i] === l);
      setAttr(button, "aria-pressed", l === cell[0] && i === cell[1]);
      setAttr(button, "data-at", `${l},${i}`);
      setAttr(button, "aria-label", fill(t.cell, { after: row.after, i: i + 1, token, p: p.toFixed(2), verdict: right ? t.right : t.wrong }));
      button.onclick = () => {
        for (const other of body.querySelectorAll("button")) setAttr(other, "aria-pressed", other === button);
        setTriggerValue("pick", [l, i]);
      };
    });
    const share = line.lastChild;
    setText(share.firstChild, `${(100 * row.share).toFixed(0)} %`);
    share.lastChild.style.width = `${80 * row.share}px`;
  });
  const line = add(foot, "tr");
  add(line, "th", { scope: "row", class: "soft" }, t.first);
  first.forEach((l) => add(line, "td", { class: "soft" }, l === null ? "–" : String(l)));
  const top = root.querySelector(".top");
  top.replaceChildren();
  add(top, "h4", {}, data.title);
  for (const { token, p, right } of data.best) {
    const item = add(top, "div", { class: `row ${right ? "right" : ""}` });
    add(item, "span", { class: "chip" }, token);
    add(item, "i").style.width = `${130 * p}px`;
    add(item, "span", {}, `${p.toFixed(3)}${right ? " ✓" : ""}`);
  }
  add(top, "div", { class: "soft" }, data.note);
}
