// The same padded source twice: with the padding mask and without. Cross-attention, what is predicted, and how far it moved.

const PADVIEWS = new WeakMap();
const SIDE = 152; // labels of the queries and what is predicted, in pixels

function padDraw(root, data, tip) {
  const { t } = data, sides = root.querySelector(".sides"), colours = theme(root), table = sequential(data.look, colours.dark);
  roles(root, data.look);
  const cell = cellSize(root.clientWidth, data.src.length, 2, 2 * SIDE + 36, 30, 12);
  root.style.setProperty("--side", `${data.src.length * cell + SIDE}px`);
  data.sides.forEach((side, k) => {
    let section = sides.children[k];
    if (!section) {
      section = add(sides, "section", { class: side.id });
      add(section, "h4"); add(add(section, "p", { class: "big" }), "b"); add(section.lastChild, "span");
      add(section, "p", { class: "axes soft" });
      const map = add(section, "div", { class: "map" });
      add(map, "span"); add(map, "div", { class: "cols" }); add(map, "span", { class: "soft" });
      add(map, "div", { class: "rows" }); add(map, "canvas", { role: "img" }); add(map, "div", { class: "outs" });
      const writes = add(section, "div", { class: "writes" });
      add(writes, "span", { class: "soft" }); add(writes, "span"); add(writes, "b");
    }
    const [title, big, axes, map, writes] = section.children, [, cols, corner, rows, canvas, outs] = map.children;
    setText(title, side.title);
    setText(big.firstChild, side.difference); setText(big.lastChild, ` ${t.difference}`);
    setAttr(big, "class", side.same ? "big" : "big bad");
    setText(axes, t.axes);
    const marks = data.src.map((_, j) => (j >= data.real ? "filler" : ""));
    axis(cols, data.src, cell, { marks }); axis(rows, data.reads, cell);
    setText(corner, "");
    gridMap(canvas, side.weights, cell, { table, colours });
    setAttr(canvas, "aria-label", `${side.title}. ${t.axes}`);
    while (outs.children.length > side.outputs.length) outs.lastChild.remove();
    side.outputs.forEach((out, i) => {
      const line = outs.children[i] ?? add(outs, "div");
      if (!line.children.length) { add(line, "span", { class: "chip" }); add(line, "span"); }
      line.style.setProperty("--cell", `${cell}px`);
      setText(line.firstChild, out.token);
      setAttr(line.firstChild, "class", `chip ${out.right ? "right" : "wrong"}`);
      setText(line.lastChild, `${out.right ? "✓" : `✗ ${out.expected}`}  Δ ${short(out.change)}`);
    });
    setText(writes.children[0], `${t.writes} `);
    chips(writes.children[1], side.generated.tokens, { size: 16 });
    setText(writes.children[2], side.generated.right ? " ✓" : " ✗");
    canvas.onpointermove = (event) => {
      const at = cellUnder(canvas, event, cell, data.reads.length, data.src.length);
      if (!at) { tip.hide(); return; }
      const weight = side.weights[at.row][at.column];
      const names = { t: at.row + 1, reads: data.reads[at.row], j: at.column + 1, token: data.src[at.column], weight: weight === null ? "0" : exact(weight) };
      tip.show(event, fill(weight === null ? t.blocked : t.weight, names));
    };
    canvas.onpointerleave = () => tip.hide();
  });
  legend(root.querySelector(".scale"), table, "0", "1");
  setText(root.querySelector(".hatch"), t.hatched);
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("#padview");
  let view = PADVIEWS.get(root);
  if (!view) {
    view = { tip: tooltip(root) };
    view.resized = new ResizeObserver(() => padDraw(root, view.data, view.tip));
    PADVIEWS.set(root, view);
    view.data = data;
    view.resized.observe(root);
  }
  view.data = data;
  padDraw(root, data, view.tip);
  return () => { view.resized.disconnect(); PADVIEWS.delete(root); };
}
