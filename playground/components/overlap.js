// Head by head: how much of their subspaces two heads share, and beside it the angles between the chosen two.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), cells = root.querySelector(".cells"), tip = tooltip(root), { overlap, t } = data;
  roles(root, data.look);
  const n = overlap.length, colours = theme(root), table = sequential(data.look, colours.dark);
  const size = Math.max(9, Math.min(64, Math.floor(300 / n))), named = n <= 16;
  root.style.setProperty("--cell", `${size}px`);
  cells.style.gridTemplateColumns = `${named ? "auto " : ""}repeat(${n}, ${size}px)`;
  setAttr(cells, "aria-label", t.title);
  const sign = `${n} ${size} ${named} ${t.head}`;
  if (cells.dataset.made !== sign) {
    cells.dataset.made = sign;
    cells.replaceChildren();
    if (named) { add(cells, "span"); for (let h = 0; h < n; h++) add(cells, "span", {}, fill(size > 40 ? t.head : "{head}", { head: h + 1 })); }
    for (let g = 0; g < n; g++) {
      if (named) add(cells, "span", {}, fill(t.head, { head: g + 1 }));
      for (let h = 0; h < n; h++) add(cells, "button", { type: "button", "data-at": `${g},${h}` });
    }
  }
  for (const button of cells.querySelectorAll("button")) {
    const [g, h] = button.dataset.at.split(",").map(Number), value = overlap[g][h];
    button.style.background = colourOf(table, value);
    button.style.color = value > 0.55 !== colours.dark ? "#fff" : "#111";
    if (colours.dark && value <= 0.55) button.style.color = "#eee";
    setText(button, size >= 26 ? value.toFixed(2) : "");
    const said = fill(t.cell, { g: g + 1, h: h + 1, value: value.toFixed(3) });
    setAttr(button, "aria-label", said);
    setAttr(button, "aria-pressed", g === data.pair[0] && h === data.pair[1]);
    button.onmouseenter = button.onfocus = () => tip.show(button, said);
    button.onmouseleave = button.onblur = () => tip.hide();
    button.onclick = () => {
      for (const other of cells.querySelectorAll("button")) setAttr(other, "aria-pressed", other === button);
      setTriggerValue("pick", [g, h]);
    };
  }
  legend(root.querySelector(".scale"), table, t.low, t.high);
  setText(root.querySelector("figcaption"), data.caption);
  const bars = root.querySelector(".bars");
  bars.replaceChildren();
  data.shares.forEach((share, i) => {
    const bar = add(bars, "i", { title: fill(t.bar, { i: i + 1, value: share.toFixed(3), angle: data.angles[i].toFixed(0) }) });
    bar.style.height = `${100 * share}%`;
  });
  const line = add(bars, "u");
  line.style.bottom = `${100 * data.mean}%`;
  add(line, "span", {}, data.mean_text);
  setText(root.querySelector(".note"), data.note);
}
