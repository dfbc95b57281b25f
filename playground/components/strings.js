// Strings side by side: each cell is a text, or tokens of which the wrong and the missing ones are marked.
// A hundred rows are four thousand elements, 0.2 s to lay out: rows are made as they are scrolled to.

const AT_ONCE = 12;

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
  const more = () => {
    while (drawn < data.rows.length && (drawn === 0 || root.scrollTop + root.clientHeight + 60 > root.scrollHeight))
      for (const row of data.rows.slice(drawn, drawn += AT_ONCE)) draw(row);
  };
  root.scrollTop = 0;
  root.onscroll = more;
  more();
}
