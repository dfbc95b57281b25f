// All heads of one attention as maps. "look": one click shows a head large. "silence": each click takes a head out or back.

const RIM = 44, LEFT = 56;

// Silencing shares the window with the strings, so its maps are smaller and scroll where there are many.
function pickLayout(n, wide) {
  if (!wide) return n <= 4 ? { thumb: 84, across: 2 } : n <= 16 ? { thumb: 62, across: 3 } : { thumb: 44, across: 4 };
  return { thumb: n <= 4 ? 118 : n <= 8 ? 78 : n <= 16 ? 58 : 40, across: n <= 4 ? 2 : n <= 16 ? 4 : 8 };
}

function drawLarge(root, data, tip) {
  const figure = root.querySelector(".large"), canvas = figure.firstElementChild, { rows, columns, t } = data;
  figure.hidden = data.chosen === null || data.chosen === undefined;
  if (figure.hidden) return;
  const head = data.heads[data.chosen], colours = theme(root), table = sequential(data.look, colours.dark);
  const cell = Math.max(5, Math.min(Math.max(26, Math.min(60, 180 / Math.max(rows.length, columns.length))), Math.floor(data.height / rows.length), Math.floor(430 / columns.length)));
  const box = { x: LEFT, y: RIM, width: cell * columns.length, height: cell * rows.length };
  // The names of the axes are whole, also where the map is smaller than they are.
  const measure = canvas.getContext("2d"), name = `11px ${colours.font}`;
  measure.font = name;
  const [top, side] = [t.columns, t.rows].map((text) => Math.ceil(measure.measureText(text).width));
  const w = LEFT + Math.max(box.width, top) + 4, h = RIM + Math.max(box.height, side) + 4;
  canvas.style.setProperty("--w", `${w}px`); canvas.style.setProperty("--h", `${h}px`);
  figure.style.setProperty("--w", `${Math.max(w, 320)}px`);
  const ctx = sharp(canvas, w, h);
  ctx.clearRect(0, 0, w, h);
  heat(ctx, head.matrix, { ...box, table, grid: colours.line });
  ctx.textAlign = "center"; ctx.textBaseline = "middle"; ctx.fillStyle = colours.text;
  ctx.font = `${Math.max(7, Math.min(13, cell - 2))}px ${colours.mono}`;
  if (cell >= 8) {
    columns.forEach((token, j) => ctx.fillText(token, LEFT + (j + 0.5) * cell, RIM - 9, cell * 1.5));
    rows.forEach((token, i) => ctx.fillText(token, LEFT - 15, RIM + (i + 0.5) * cell, 26));
  }
  ctx.fillStyle = colours.soft; ctx.font = name;
  ctx.textAlign = "left"; ctx.fillText(t.columns, LEFT, 12);
  ctx.save(); ctx.translate(12, h - 4); ctx.rotate(-Math.PI / 2); ctx.fillText(t.rows, 0, 0); ctx.restore();
  ctx.lineWidth = 1.5; ctx.setLineDash([3, 2]); ctx.strokeStyle = data.look.roles.wrong;
  for (const [i, j] of data.ideal ?? []) ctx.strokeRect(LEFT + j * cell + 1.5, RIM + i * cell + 1.5, cell - 3, cell - 3);
  ctx.setLineDash([]);
  const caption = figure.lastElementChild, said = data.ideal ? `${head.name} · ${t.ideal}` : head.name;
  setText(caption, said);
  setAttr(canvas, "aria-label", `${head.name}. ${head.under.replaceAll("\n", ", ")}`);
  canvas.onpointermove = (event) => {
    const at = cellAt(head.matrix, box, event.offsetX, event.offsetY);
    if (!at) { tip.hide(); return; }
    tip.show(event, fill(t.cell, { query: rows[at.row], i: at.row + 1, key: columns[at.column], j: at.column + 1,
      weight: head.matrix[at.row][at.column].toFixed(3) }));
  };
  canvas.onpointerleave = () => tip.hide();
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), maps = root.querySelector(".maps"), tip = tooltip(root);
  const silence = data.mode === "silence", { thumb, across } = pickLayout(data.heads.length, !silence);
  roles(root, data.look);
  root.classList.toggle("silence", silence);
  root.style.setProperty("--thumb", `${thumb}px`);
  maps.style.setProperty("--across", Math.min(across, data.heads.length));
  setAttr(maps, "aria-label", data.t.maps); setAttr(maps, "role", "group");
  while (maps.children.length > data.heads.length) maps.lastChild.remove();
  const colours = theme(root), table = sequential(data.look, colours.dark);
  data.heads.forEach((head, h) => {
    let button = maps.children[h];
    if (!button) {
      button = add(maps, "button", { type: "button", class: "head" });
      add(button, "span", { class: "name" });
      add(add(button, "span", { class: "picture" }), "canvas", { "aria-hidden": "true" });
      add(button, "span", { class: "under" });
    }
    button.style.setProperty("--head", data.look.heads[h % data.look.heads.length]);
    setText(button.children[0], head.name); setText(button.children[2], head.under);
    setAttr(button, "aria-label", `${head.name}. ${head.under.replaceAll("\n", ", ")}`);
    setAttr(button, "aria-pressed", silence ? head.out : h === data.chosen);
    const ctx = sharp(button.querySelector("canvas"), thumb, thumb);
    ctx.clearRect(0, 0, thumb, thumb);
    heat(ctx, head.matrix, { width: thumb, height: thumb, table });
    button.onclick = () => {
      if (silence) { // shown at once; the consequences follow
        head.out = !head.out;
        setAttr(button, "aria-pressed", head.out);
        setTriggerValue("out", data.heads.flatMap((other, i) => (other.out ? [i] : [])));
      } else {
        data.chosen = h;
        [...maps.children].forEach((other, i) => setAttr(other, "aria-pressed", i === h));
        drawLarge(root, data, tip);
        setTriggerValue("pick", h);
      }
    };
  });
  drawLarge(root, data, tip);
}
