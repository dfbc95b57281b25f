// The same target twice: predicted in one pass, and one token at a time. A ring marks where a prediction is read off.
// The triangle of the mask inside the one pass has the shape of the passes on the other side: that is the point.

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("#twins"), { t, reads } = data, rows = Math.min(reads.length, 8);
  roles(root, data.look);
  const most = Math.max(...data.sides.map((side) => side.seconds));
  data.sides.forEach((side, k) => {
    let section = root.children[k];
    if (!section) {
      section = add(root, "section", { class: side.id });
      add(section, "h4"); add(section, "div", { class: "clock" }); add(section, "div", { class: "passes" }); add(section, "div", { class: "more" });
      add(section, "div", { class: "triangle" });
      add(section.children[1], "i"); add(section.children[1], "b"); add(section.children[1], "span", { class: "soft" });
    }
    const [title, clock, passes, more, triangle] = section.children;
    setText(title, side.title);
    clock.firstChild.style.width = `${(180 * side.seconds) / most}px`;
    setText(clock.children[1], side.time); setText(clock.children[2], side.note);
    const count = side.passes === 1 ? 1 : rows;
    while (passes.children.length > count) passes.lastChild.remove();
    for (let i = 0; i < count; i++) {
      const line = passes.children[i] ?? add(passes, "div", { class: "pass" });
      if (!line.firstChild) add(line, "span");
      setText(line.firstChild, fill(t.pass, { i: i + 1 }));
      while (line.children.length > rows + 1) line.lastChild.remove();
      for (let j = 0; j < rows; j++) {
        const chip = line.children[j + 1] ?? add(line, "span");
        const seen = side.passes === 1 || j <= i, asked = side.passes === 1 || j === i;
        setText(chip, reads[j]);
        setAttr(chip, "class", `chip ${seen ? "" : "hidden"} ${asked ? "asked" : ""}`.trim());
        setAttr(chip, "title", asked ? fill(t.asked, { j: j + 1 }) : "");
      }
    }
    if (side.mask) {
      while (triangle.children.length > rows + 1) triangle.lastChild.remove();
      setText(triangle.firstChild ?? add(triangle, "p"), side.mask);
      for (let i = 0; i < rows; i++) {
        const line = triangle.children[i + 1] ?? add(triangle, "div");
        while (line.children.length > rows) line.lastChild.remove();
        for (let j = 0; j < rows; j++) setAttr(line.children[j] ?? add(line, "i"), "class", j <= i ? "open" : "");
      }
    }
    setText(more, reads.length > rows ? fill(t.more, { n: reads.length }) : "");
  });
  while (root.children.length > data.sides.length) root.lastChild.remove();
}
