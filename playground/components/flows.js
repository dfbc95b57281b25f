// The lab of two data flows. The server computes and keeps the state; a click says where to arrive, never "one more".

const FLOWS = new WeakMap(), DRAW = { train: drawTrain, twin: drawTwin, wrong: drawWrong, cross: drawCross, loss: drawLoss, cost: drawCost };

class FlowsView {
  constructor(root) {
    this.root = root;
    this.tip = tooltip(root);
    [this.bar, this.stage, this.body] = ["bar", "stage", "body"].map((name) => root.querySelector(`.${name}`));
    this.count = 0;
  }

  take(data, trigger) {
    this.data = data;
    this.send = (command) => trigger("act", JSON.stringify({ ...command, id: `${Date.now()}.${this.count++}` }));
    this.colours = theme(this.root);
    roles(this.root, data.look);
    const held = this.root.getRootNode().activeElement, again = held && this.nameOf(held);
    this.tip.hide();
    const scrolled = this.root.querySelector(".grid")?.scrollLeft ?? 0;
    for (const part of [this.bar, this.stage, this.body]) part.replaceChildren();
    DRAW[data.view](this);
    this.bar.hidden = !this.bar.children.length;
    if (again) this.root.querySelector(again)?.focus({ preventScroll: true }); // the keyboard stays where it was
    const grid = this.root.querySelector(".grid");
    if (grid) grid.scrollLeft = scrolled;
  }

  // How to find a control again after everything was drawn anew.
  nameOf(node) {
    for (const name of ["stage", "go", "token", "switch"]) if (node.dataset?.[name] !== undefined) return `[data-${name}="${CSS.escape(node.dataset[name])}"]`;
    return null;
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector("#flows");
  let view = FLOWS.get(root);
  if (!view) FLOWS.set(root, (view = new FlowsView(root)));
  view.take(data, setTriggerValue);
  return () => FLOWS.delete(root);
}
