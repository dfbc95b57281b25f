// Shared by every component: small DOM helpers, the theme, colour scales, heat maps, tooltips, token chips.
// Texts are set with textContent only: a token may be "<img onerror=…>" and must be shown as it is.

const SVG = "http://www.w3.org/2000/svg";

function add(parent, tag, attributes, text) {
  const namespace = tag === "svg" || parent.namespaceURI === SVG ? SVG : "http://www.w3.org/1999/xhtml";
  const node = document.createElementNS(namespace, tag);
  for (const name in attributes) node.setAttribute(name, attributes[name]);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

// Touch the page only where something changed: five updates a second must not make anything flicker.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setAttr(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// "Step {step} of {steps}" with values; the templates come translated from Python.
function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));
}

// At most three significant digits to read at a glance; exact(v) is for under the pointer.
function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
  return size >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

// A share: 0.986 -> "98.6%". 100% only where all are right, 0% only where none is.
function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  const text = (100 * share).toFixed(1).replace(/\.0$/, "");
  return `${text === "100" && share < 1 ? "99.9" : text === "0" && share > 0 ? "0.1" : text}%`;
}

// A rate as people write it: 0.00008, never 8e-05 beside 0.00024.
function plainNumber(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const rounded = Number(value.toPrecision(3));
  if (rounded === 0 || Math.abs(rounded) >= 1) return String(rounded);
  return rounded.toFixed(Math.min(20, 3 - Math.floor(Math.log10(Math.abs(rounded))))).replace(/0+$/, "");
}

function exact(value) {
  return value === null || value === undefined || !Number.isFinite(value) ? "–" : String(Number(value.toPrecision(8)));
}

function rgb(colour) {
  const hex = /^#([0-9a-f]{6})/i.exec(colour.trim());
  if (hex) return [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16));
  return (colour.match(/[\d.]+/g) ?? [128, 128, 128]).slice(0, 3).map(Number);
}

// What a canvas needs to know of Streamlit's theme. Read it once per draw, not once per cell.
function theme(root) {
  const style = getComputedStyle(root);
  const variable = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const background = variable("--st-background-color", "#ffffff");
  const [r, g, b] = rgb(background);
  const text = variable("--st-text-color", "#222222");
  const [tr, tg, tb] = rgb(text);
  return {
    text, background, dark: 0.299 * r + 0.587 * g + 0.114 * b < 128,
    soft: `rgba(${tr},${tg},${tb},.66)`, line: `rgba(${tr},${tg},${tb},.13)`,
    primary: variable("--st-primary-color", "#0072B2"),
    font: style.fontFamily || "sans-serif", mono: variable("--st-code-font", "monospace"),
  };
}

// The role colours as CSS variables (--query, --right, …) for style sheets.
function roles(root, look) {
  for (const role in look.roles) root.style.setProperty(`--${role}`, look.roles[role]);
}

// Colour scales: 256 entries of [r, g, b], flat, made once for a list of stops.
const SCALES = new Map();

function scale(stops) {
  const name = stops.join();
  if (!SCALES.has(name)) {
    const points = stops.map(rgb), table = new Uint8ClampedArray(256 * 3);
    for (let i = 0; i < 256; i++) {
      const at = (i / 255) * (points.length - 1), low = Math.min(Math.floor(at), points.length - 2), part = at - low;
      for (let c = 0; c < 3; c++) table[3 * i + c] = points[low][c] * (1 - part) + points[low + 1][c] * part;
    }
    SCALES.set(name, table);
  }
  return SCALES.get(name);
}

const sequential = (look, dark) => scale(look.sequential[dark ? "dark" : "light"]); // weights, 0 … 1
const diverging = (look, dark) => scale(look.diverging[dark ? "dark" : "light"]); // scores, -limit … limit

function colourOf(table, value, min = 0, max = 1) {
  const i = 3 * Math.round(255 * Math.min(1, Math.max(0, (value - min) / (max - min || 1))));
  return `rgb(${table[i]},${table[i + 1]},${table[i + 2]})`;
}

// A canvas as sharp as the screen: returns its context, in CSS pixels. Its CSS size must come from the style sheet.
function sharp(canvas, width = canvas.clientWidth, height = canvas.clientHeight) {
  const ratio = window.devicePixelRatio || 1, w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  return ctx;
}

// Draws matrix[row][column] into a box. One small image, blown up without smoothing: cheap for hundreds of maps.
// A value that is not a finite number (a blocked score) is left as a grey cell with a stroke through it.
const scratch = document.createElement("canvas");

function heat(ctx, matrix, { x = 0, y = 0, width, height, table, min = 0, max = 1, grid = null }) {
  const rows = matrix.length, columns = rows ? matrix[0].length : 0, blocked = [];
  if (!rows || !columns) return;
  if (scratch.width !== columns || scratch.height !== rows) { scratch.width = columns; scratch.height = rows; }
  const small = scratch.getContext("2d"), image = small.createImageData(columns, rows), data = image.data;
  const factor = 255 / (max - min || 1);
  for (let i = 0, at = 0; i < rows; i++) {
    const row = matrix[i];
    for (let j = 0; j < columns; j++, at += 4) {
      const value = row[j];
      if (value === null || !Number.isFinite(value)) { blocked.push([i, j]); continue; }
      const k = 3 * Math.max(0, Math.min(255, Math.round((value - min) * factor)));
      data[at] = table[k]; data[at + 1] = table[k + 1]; data[at + 2] = table[k + 2]; data[at + 3] = 255;
    }
  }
  small.putImageData(image, 0, 0);
  ctx.imageSmoothingEnabled = false;
  ctx.clearRect(x, y, width, height);
  ctx.drawImage(scratch, x, y, width, height);
  const w = width / columns, h = height / rows;
  ctx.lineWidth = 1;
  ctx.strokeStyle = "rgba(128,128,128,.45)";
  for (const [i, j] of blocked) {
    ctx.fillStyle = "rgba(128,128,128,.12)";
    ctx.fillRect(x + j * w, y + i * h, w, h);
    ctx.beginPath(); ctx.moveTo(x + j * w, y + (i + 1) * h); ctx.lineTo(x + (j + 1) * w, y + i * h); ctx.stroke();
  }
  if (grid && w > 7 && h > 7) {
    ctx.strokeStyle = grid;
    ctx.beginPath();
    for (let j = 1; j < columns; j++) { ctx.moveTo(x + j * w, y); ctx.lineTo(x + j * w, y + height); }
    for (let i = 1; i < rows; i++) { ctx.moveTo(x, y + i * h); ctx.lineTo(x + width, y + i * h); }
    ctx.stroke();
  }
}

// Which cell of a heat map lies under a point of its box; null outside.
function cellAt(matrix, { x = 0, y = 0, width, height }, px, py) {
  const row = Math.floor(((py - y) / height) * matrix.length), column = Math.floor(((px - x) / width) * matrix[0].length);
  return row >= 0 && row < matrix.length && column >= 0 && column < matrix[0].length ? { row, column } : null;
}

// One tooltip for a component, inside its root. show(event or element, text) places it near the pointer or under the element;
// with an extra node it shows that instead of text, and with beside it stands to the right of the element, never over it.
function tooltip(root) {
  const node = root.querySelector(":scope > .tip") ?? add(root, "div", { class: "tip", role: "tooltip", hidden: "" });
  return {
    node,
    show(where, text, extra, beside) {
      if (extra) { if (node.lastChild !== extra) node.replaceChildren(extra); } else setText(node, text);
      node.hidden = false;
      const box = root.getBoundingClientRect(), size = node.getBoundingClientRect();
      const target = where.getBoundingClientRect?.();
      const px = target ? target.left + target.width / 2 : where.clientX;
      const py = target ? target.bottom : where.clientY;
      if (beside) {
        const right = target.right - box.left + 10, top = target.top - box.top + target.height / 2 - size.height / 2;
        node.style.left = `${right + size.width > box.width - 4 ? target.left - box.left - size.width - 10 : right}px`;
        node.style.top = `${Math.max(4, Math.min(top, box.height - size.height - 4))}px`;
        return;
      }
      let left = px - box.left + 14, top = py - box.top + 14;
      if (left + size.width > box.width - 4) left = Math.max(4, px - box.left - size.width - 10);
      if (top + size.height > box.height - 4) top = Math.max(4, (target ? target.top : py) - box.top - size.height - 10);
      node.style.left = `${left}px`; node.style.top = `${top}px`;
    },
    hide() { node.hidden = true; },
  };
}

// Marks a word as one that explains itself, for pointer and keyboard.
function help(node, text, tip) {
  node.classList.add("term");
  node.tabIndex = 0;
  setAttr(node, "aria-description", text);
  node.onmouseenter = node.onfocus = () => tip.show(node, text);
  node.onmouseleave = node.onblur = () => tip.hide();
}

// Keys that work while no control has the focus: sliders own the arrows, buttons the space. acts: key -> what it does, which may
// say false for "not now". Gives back what ends it.
function hotkeys(acts) {
  const press = (event) => {
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey || document.activeElement !== document.body) return;
    if (act() !== false) event.preventDefault();
  };
  document.addEventListener("keydown", press);
  return () => document.removeEventListener("keydown", press);
}

// Tokens as chips. marks[i] is "right", "wrong", "missing" or undefined; each chip tells its position (from 1) and titles[i].
function chips(node, tokens, { marks = [], titles = [], size = 18 } = {}) {
  node.classList.add("chips");
  node.style.setProperty("--chip", `${size}px`);
  while (node.children.length > tokens.length) node.lastChild.remove();
  tokens.forEach((token, i) => {
    const chip = node.children[i] ?? add(node, "span", { class: "chip" });
    setText(chip, token);
    setAttr(chip, "class", `chip ${marks[i] ?? ""}`.trim());
    setAttr(chip, "title", titles[i] ?? `${i + 1}: ${token}`);
  });
}

// The legend of a scale: low end, a bar of its colours, high end.
function legend(node, table, low, high) {
  node.classList.add("legend");
  const [a, bar, b] = node.children.length === 3 ? node.children
    : [add(node, "span"), add(node, "canvas", { "aria-hidden": "true" }), add(node, "span")];
  setText(a, low); setText(b, high);
  const ctx = sharp(bar, 72, 8);
  for (let i = 0; i < 72; i++) { ctx.fillStyle = colourOf(table, i / 71); ctx.fillRect(i, 0, 1.5, 8); }
}
