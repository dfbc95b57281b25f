// Strings side by side: each cell is a text, or tokens of which the wrong and the missing ones are marked.
// A hundred rows are four thousand elements, 0.2 s to lay out: rows are made as they are scrolled to. Those that fill the
// window at first are counted, not measured: to measure is to lay out the page once more.

const AT_ONCE = 12, LOWEST = 22; // pixels that a row is high at least

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".root"), [head, body] = root.querySelector("table").children;
  roles(root, data.look);
  root.style.setProperty("--height", `${data.height}px`);
  head.replaceChildren(); body.replaceChildren();
  const titles = add(head, "tr");
  for (const column of data.columns) add(titles, "th", { scope: "col" }, column);
  const draw = (row) => {
    const line = add(body, "tr");
    for (const cell of row) {
      const td = add(line, "td");
      if (cell.text !== undefined) { setText(td, cell.text); continue; }
      if (cell.right !== undefined) {
        const mark = add(td, "span", { class: `verdict ${cell.right ? "right" : "wrong"}` }, cell.right ? "✓" : "✗");
        setAttr(mark, "aria-label", cell.right ? data.t.right : data.t.wrong);
      }
      const marks = cell.marks ?? [];
      chips(add(td, "span"), cell.tokens, { marks, size: 16, titles: cell.tokens.map((token, i) =>
        `${i + 1}: ${token}${marks[i] ? ` · ${data.t[marks[i]]}` : ""}`) });
    }
  };
  let drawn = 0;
  const more = (n) => { for (const row of data.rows.slice(drawn, drawn += n)) draw(row); };
  more(Math.ceil(data.height / LOWEST));
  if (root.dataset.scrolled) root.scrollTop = 0;
  delete root.dataset.scrolled;
  root.onscroll = () => {
    root.dataset.scrolled = "yes";
    while (drawn < data.rows.length && root.scrollTop + root.clientHeight + 60 > root.scrollHeight) more(AT_ONCE);
  };
}
