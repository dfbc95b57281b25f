// The layer × head grid: one small map a head, in the head's colour; layers side by side, as the signal passes through them.
// `layers` are those that stand there, or their number; of one alone with many heads these stand in rows of eight.
// Pointing at a map previews it, a click locks it. `on` is {point(layer, head) or point(null), lock(layer, head)};
// `look(layer, head)` gives {matrix, table, min, max, under, tip}.

function headGrid(node, layers, n_heads, colours, size, words, on) {
  layers = Array.isArray(layers) ? layers : Array.from({ length: layers }, (_, i) => i);
  const wanted = [layers, n_heads, words.layer, words.head].join();
  node.style.setProperty("--thumb", `${size}px`);
  if (node.dataset.made !== wanted) {
    node.dataset.made = wanted;
    node.replaceChildren();
    const many = layers.length === 1 && n_heads > 8;
    node.style.gridTemplateColumns = many ? "repeat(8, auto)" : `auto repeat(${layers.length}, auto)`;
    if (!many) add(node, "span");
    if (!many) for (const i of layers) add(node, "span", { class: "label" }, fill(words.layer, { layer: i + 1 }));
    for (let h = 0; h < n_heads; h++) {
      if (!many) add(node, "span", { class: "label" }, fill(words.head, { head: h + 1 }));
      for (const i of layers) {
        const button = add(node, "button", { type: "button", class: "thumb", "data-layer": i, "data-head": h });
        button.style.setProperty("--head", colours[h % colours.length]);
        add(button, "canvas", { "aria-hidden": "true" });
        add(button, "span");
      }
    }
  }
  for (const button of node.querySelectorAll(".thumb")) {
    const place = [Number(button.dataset.layer), Number(button.dataset.head)];
    button.onpointerenter = button.onfocus = () => on.point(...place);
    button.onpointerleave = button.onblur = () => on.point(null);
    button.onclick = () => on.lock(...place);
  }
}

function paintHeads(node, look, locked, preview) {
  for (const button of node.querySelectorAll(".thumb")) {
    const layer = Number(button.dataset.layer), head = Number(button.dataset.head);
    const is = (place) => place !== null && place[0] === layer && place[1] === head;
    setAttr(button, "aria-pressed", is(locked));
    button.classList.toggle("preview", preview !== null && is(preview));
    const { matrix, table, min, max, under, tip } = look(layer, head);
    const canvas = button.firstChild, ctx = sharp(canvas), width = canvas.clientWidth, height = canvas.clientHeight;
    heat(ctx, matrix, { width, height, table, min, max });
    setText(button.lastChild, under);
    setAttr(button, "title", tip);
    setAttr(button, "aria-label", tip);
  }
}
