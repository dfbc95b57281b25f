// The tree of beam search as an SVG: one column a token, one node a hypothesis, best first. Thick: the way to the best one.

function beamTree(node, levels, { colours, best, t, tip }) {
  const column = 92, row = 34, high = 24, top = 6, wide = 74;
  const rows = Math.max(1, ...levels.map((level) => level.length)), width = 70 + levels.length * column, height = top + rows * row;
  node.replaceChildren();
  const svg = add(node, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "font-family": colours.font });
  const place = (level, i) => (level < 0 ? [40, top + row / 2] : [54 + level * column + wide / 2, top + i * row + row / 2]);
  const edges = add(svg, "g", { fill: "none" });
  const given = levels[0]?.[0]?.text.slice(0, -1) ?? []; // a beginning that the person gave
  const root = add(svg, "text", { x: 4, y: top + row / 2 + 4, "font-size": 13, "font-family": colours.mono, fill: colours.text },
    given.length ? `✎${given.length > 2 ? "…" : ""}${given.slice(-2).join("")}` : "⟨s⟩");
  if (given.length) add(root, "title", {}, fill(t.given, { text: given.join(" ") }));
  const said = [];
  levels.forEach((level, l) => level.forEach((beam, i) => {
    const [x, y] = place(l, i), [px, py] = place(l - 1, l ? beam.parent : 0), from = px + (l ? wide / 2 : -4), to = x - wide / 2;
    const faded = beam.alive ? 1 : 0.35;
    add(edges, "path", { d: `M${from},${py}C${(from + to) / 2},${py} ${(from + to) / 2},${y} ${to},${y}`, stroke: beam.best ? best : colours.text,
      "stroke-opacity": beam.best ? 1 : 0.45 * faded, "stroke-width": beam.best ? 3 : 1.2, ...(beam.carried ? { "stroke-dasharray": "4 3" } : {}) });
    const group = add(svg, "g", { opacity: faded, tabindex: 0, role: "img" });
    add(group, "rect", { x: x - wide / 2, y: y - high / 2, width: wide, height: high, rx: 5, fill: colours.background, stroke: beam.best ? best : colours.text,
      "stroke-width": beam.best ? 2.5 : 1, "stroke-opacity": beam.best ? 1 : 0.4, ...(beam.carried ? { "stroke-dasharray": "4 3" } : {}) });
    add(group, "text", { x: x - wide / 2 + 6, y: y + 5, "font-size": 13, "font-weight": 600, "font-family": colours.mono, fill: colours.text, "xml:space": "preserve" }, beam.token);
    add(group, "text", { x: x + wide / 2 - 5, y: y + 4, "text-anchor": "end", "font-size": 11, fill: colours.soft }, beam.score.toFixed(2).replace(/^-(0\.0*)$/, "$1"));
    const state = [beam.best ? t.best : "", beam.alive ? "" : t.given_up, beam.ended ? t.was_ended : ""].filter(Boolean).join(", ");
    const text = fill(t.node, { text: beam.text.join(" "), score: beam.score.toFixed(3).replace(/^-(0\.0*)$/, "$1"), p: three(Math.exp(beam.score)) }) + (state ? `\n${state}` : "");
    setAttr(group, "aria-label", text);
    group.onpointerenter = group.onfocus = () => tip.show(group, text);
    group.onpointerleave = group.onblur = () => tip.hide();
    if (l === levels.length - 1) said.push(text.replaceAll("\n", ", "));
  }));
  setAttr(svg, "aria-label", said.join("; "));
  node.scrollLeft = node.scrollWidth; // the newest step
}
