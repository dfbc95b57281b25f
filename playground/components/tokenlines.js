// A few strings under each other, each with its name: what was asked, what came out.

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector("#tokenlines");
  roles(root, data.look);
  while (root.children.length > 2 * data.lines.length) root.lastChild.remove();
  data.lines.forEach((line, i) => {
    const name = root.children[2 * i] ?? add(root, "span", { class: "soft" }), tokens = root.children[2 * i + 1] ?? add(root, "span");
    setText(name, line.name);
    chips(tokens, line.tokens, { marks: line.marks });
  });
}
