// Attention as lines between two columns of tokens, in a group of an SVG. Weights are gathered in a few strengths and each
// strength is one path, so that eight heads over long strings stay cheap and the saved picture stays a vector.

const STRENGTHS = 12;

function drawLines(parent, { x, y, width, row, queries, keys, heads, focus, colours }) {
  const left = x, right = x + width, height = row * Math.max(queries, keys);
  const at = (n, i) => y + (height - n * row) / 2 + (i + 0.5) * row;
  const group = add(parent, "g", { fill: "none", "stroke-linecap": "round" });
  for (const [n, { head, weight }] of heads.entries()) {
    const aside = (n - (heads.length - 1) / 2) * Math.min(3, row / heads.length); // several heads lie beside each other
    const paths = Array.from({ length: STRENGTHS + 1 }, () => []);
    for (let q = 0; q < queries; q++) {
      if (focus?.side === "q" && focus.i !== q) continue;
      for (let k = 0; k < keys; k++) {
        if (focus?.side === "k" && focus.i !== k) continue;
        const strength = Math.round(weight(q, k) * STRENGTHS * 0.999 + 0.2); // below 0.025: no line
        if (strength > 0) paths[Math.min(strength, STRENGTHS)].push(`M${left},${(at(queries, q) + aside).toFixed(1)}L${right},${(at(keys, k) + aside).toFixed(1)}`);
      }
    }
    paths.forEach((parts, strength) => {
      if (!parts.length) return;
      add(group, "path", { d: parts.join(""), stroke: colours[head % colours.length],
        "stroke-opacity": (0.12 + 0.88 * strength / STRENGTHS).toFixed(2), "stroke-width": (0.6 + 3.4 * strength / STRENGTHS).toFixed(1) });
    });
  }
  return { query: (i) => at(queries, i), key: (i) => at(keys, i) };
}
