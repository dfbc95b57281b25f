// The live board of the Train page: one component, six parts, one redraw per answer of the server.

const BOARDS = new WeakMap();

class Board {
  constructor(root) {
    this.root = root;
    this.live = emptyRun();
    this.tip = tooltip(root);
    this.poll = new Poll(this.live, () => this.later());
    this.map = new ModelMap(this);
    this.thumbs = new Thumbs(this);
    this.curves = new Curves(this);
    this.samples = new Samples(this);
    this.strip = new Strip(this);
    this.replay = new Replay(this);
    this.later = this.later.bind(this);
    this.observer = new ResizeObserver(this.later);
    this.observer.observe(root);
    window.addEventListener("resize", this.later);
  }

  update({ data, setStateValue, setTriggerValue }) {
    if (this.data?.run !== data.run) { this.part = data.part ?? null; this.replay.forget(); }
    const next = JSON.stringify(data.draft ?? null);
    if (this.next !== next) { this.next = next; this.map.view = data.draft?.facts ? "draft" : "run"; } // a change is looked at
    this.data = data;
    this.tellPart = (part) => setStateValue("part", part);
    this.tellStep = (step) => setStateValue("step", step);
    this.open = (where) => setTriggerValue("open", where); // another page: Python goes there
    this.colours = theme(this.root);
    this.table = sequential(data.look, this.colours.dark);
    roles(this.root, data.look);
    this.words();
    this.version = JSON.stringify([data.facts, data.labels, data.look]); // what the drawings are built from
    this.map.version = `${this.version} ${next}`;
    this.poll.follow(data, setTriggerValue);
    this.later();
  }

  // Fills in every text that does not change while training.
  words() {
    const { labels, sample } = this.data;
    for (const node of this.root.querySelectorAll("[data-t]")) setText(node, labels[node.dataset.t]);
    for (const node of this.root.querySelectorAll("[data-t-label]")) setAttr(node, "aria-label", labels[node.dataset.tLabel]);
    for (const node of this.root.querySelectorAll("[data-help]")) help(node, labels[node.dataset.help], this.tip);
    setAttr(this.root, "aria-label", labels.board);
    const badge = this.root.querySelector(".badge");
    badge.hidden = !sample || Boolean(this.data.draft);
    legend(this.root.querySelector(".thumbs .legend"), this.table, "0", "1");
  }

  choose(part, keep) {
    this.part = part === this.part && !keep ? null : part;
    this.later();
    clearTimeout(this.telling); // walking through the map with the arrow keys is one rerun, not ten
    this.telling = setTimeout(() => this.tellPart(this.part), 250);
  }

  later() {
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  // As tall as the window allows, so that the page itself never scrolls.
  fit() {
    const host = this.root.getRootNode().host ?? this.root, main = host.closest("[data-testid=stMain]");
    const block = host.closest("[data-testid=stMainBlockContainer]");
    const below = block ? parseFloat(getComputedStyle(block).paddingBottom) : 10;
    const top = this.root.getBoundingClientRect().top + (main?.scrollTop ?? window.scrollY);
    // Long strings stand under one another: where the window is too low for them the page scrolls, nothing inside it does.
    const least = 540 + Math.max(0, this.samples.height() - 190);
    const height = this.data.height ?? Math.max(least, Math.floor(window.innerHeight - top - below - 10));
    if (this.root.style.getPropertyValue("--height") !== `${height}px`) this.root.style.setProperty("--height", `${height}px`);
  }

  draw() {
    if (!this.data || !this.root.isConnected) return;
    const start = performance.now(), { live } = this;
    this.seen = this.replay.seen; // the run as it is, or as it was
    this.fit();
    this.root.classList.toggle("no-data", live.heard && !live.records.length); // not before the server has answered
    this.root.classList.toggle("no-probe", live.heard && !live.probe);
    const { map, thumbs, curves, samples, strip, replay } = this;
    thumbs.draw(); // first: it shares the height with the map
    for (const part of [map, curves, samples, strip, replay]) part.draw();
    performance.clearMeasures("board");
    performance.measure("board", { start, end: performance.now() });
  }

  stop() {
    this.poll.stop();
    this.replay.stop();
    this.observer.disconnect();
    window.removeEventListener("resize", this.later);
    clearTimeout(this.telling);
    if (this.frame) cancelAnimationFrame(this.frame);
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".root");
  if (!BOARDS.has(root)) BOARDS.set(root, new Board(root));
  const board = BOARDS.get(root);
  board.update(component);
  return () => { board.stop(); BOARDS.delete(root); };
}
