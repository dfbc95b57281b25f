// Figures of one panel side by side, as high as the window has room for.

const KEPT = new WeakMap();

class View {
  constructor(root) {
    this.root = root;
    this.box = root.querySelector(".figures");
    this.tip = tooltip(root);
    this.figures = [];
    this.count = 0;
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.box);
    this.fit = () => {
      const main = root.closest("[data-testid=stMain]") ?? root.getRootNode().host?.closest("[data-testid=stMain]");
      if (main && !this.watched) { this.watched = true; this.above.observe(main.firstElementChild); }
      const top = root.getBoundingClientRect().top + (main?.scrollTop ?? 0), below = this.data?.below ?? 0;
      root.style.setProperty("--room", `${Math.max(this.data?.least ?? 300, Math.min(this.data?.most ?? 620, window.innerHeight - top - below - 26))}px`);
    };
    window.addEventListener("resize", this.fit);
    this.above = new ResizeObserver(this.fit); // what stands above may take its height late: steps in two lines, a font
  }

  close() { this.resized.disconnect(); this.above.disconnect(); window.removeEventListener("resize", this.fit); }

  take(data, send) {
    const kinds = data.figures.map((f) => f.kind).join();
    this.data = data;
    this.pick = (where) => send(JSON.stringify({ ...where, id: `${Date.now()}.${this.count++}` }));
    roles(this.root, data.look);
    setAttr(this.root, "data-panel", data.panel);
    if (this.kinds !== kinds) {
      this.kinds = kinds;
      this.box.replaceChildren();
      this.figures = data.figures.map((f, i) => new FIGURES[f.kind](this, i));
    }
    this.fit();
    this.figures.forEach((figure, i) => figure.take(data.figures[i], data));
    setAttr(this.root, "data-taken", (this.taken = (this.taken ?? 0) + 1));
    requestAnimationFrame(this.fit); // what stands above has its height only now
  }

  draw() { for (const figure of this.figures) figure.draw(); }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root");
  if (!KEPT.has(root)) KEPT.set(root, new View(root));
  const view = KEPT.get(root);
  view.take(data, (where) => setTriggerValue("pick", where));
  return () => { view.close(); KEPT.delete(root); };
}
