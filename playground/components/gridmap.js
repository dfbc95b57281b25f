// Matrices with the same rows beside each other: sizes, labels of rows and columns, heat maps that answer the pointer.

// The side of a cell so that `maps` matrices of n columns and `rest` pixels of other things fit the width.
function cellSize(width, n, maps, rest, most = 34, least = 14) {
  return Math.max(least, Math.min(most, Math.floor((width - rest) / (maps * n))));
}

// Labels of columns or rows: position (from 1) above or before the token. The same nodes are used again.
function axis(node, tokens, cell, { marks = [], make = () => ["span", {}] } = {}) {
  while (node.children.length > tokens.length) node.lastChild.remove();
  tokens.forEach((token, i) => {
    let label = node.children[i];
    if (!label) {
      const [tag, attributes] = make(i);
      label = add(node, tag, attributes);
      add(label, "i"); add(label, "b");
    }
    setText(label.firstChild, String(i + 1));
    setText(label.lastChild, token);
    setAttr(label, "class", marks[i] ?? "");
    setAttr(label, "style", `--cell: ${cell}px`);
  });
}

// A heat map of matrix[row][column] on a canvas; null is drawn as blocked. outline(i, j) gives the colour of a frame, or null.
function gridMap(canvas, matrix, cell, { table, max = 1, min = 0, outline = null, colours, at = null }) {
  const rows = matrix.length, columns = rows ? matrix[0].length : 0;
  canvas.style.width = `${columns * cell}px`;
  canvas.style.height = `${rows * cell}px`;
  const ctx = sharp(canvas, columns * cell, rows * cell), box = { width: columns * cell, height: rows * cell };
  ctx.clearRect(0, 0, box.width, box.height);
  heat(ctx, matrix, { ...box, table, min, max, grid: colours.line });
  ctx.strokeStyle = colours.line;
  ctx.strokeRect(0.5, 0.5, box.width - 1, box.height - 1);
  for (let i = 0; outline && i < rows; i++) for (let j = 0; j < columns; j++) {
    const colour = outline(i, j);
    if (!colour) continue;
    ctx.strokeStyle = colour; ctx.lineWidth = 2;
    ctx.strokeRect(j * cell + 2, i * cell + 2, cell - 4, cell - 4);
  }
  if (at) cross(ctx, at, cell, rows, columns, colours);
}

// The row and the column under the pointer.
function cross(ctx, { row, column }, cell, rows, columns, colours) {
  ctx.strokeStyle = colours.text; ctx.lineWidth = 1;
  ctx.globalAlpha = 0.55;
  if (row < rows) ctx.strokeRect(0.5, row * cell + 0.5, columns * cell - 1, cell - 1);
  if (column < columns) ctx.strokeRect(column * cell + 0.5, 0.5, cell - 1, rows * cell - 1);
  ctx.globalAlpha = 1;
}

function cellUnder(node, event, cell, rows, columns) {
  const box = node.getBoundingClientRect();
  const row = Math.floor((event.clientY - box.top) / cell), column = Math.floor((event.clientX - box.left) / cell);
  return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
}
