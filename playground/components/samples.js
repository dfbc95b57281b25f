// Six unseen strings and what the model generates for them: right and wrong token by token.

class Samples {
  constructor(board) {
    this.board = board;
    this.box = board.root.querySelector(".samples .rows");
  }

  draw() {
    const { seen: live, data, root } = this.board, { labels } = data, samples = live.probe?.samples ?? [];
    const sign = JSON.stringify([samples, live.probe?.step, this.box.clientWidth, labels.expected]);
    if (sign === this.drawn) return;
    this.drawn = sign;
    const from = Math.max(0, ...samples.map((s) => s.src.length));
    const into = 1 + Math.max(0, ...samples.map((s) => s.expected.length)); // not of what is got: that would jump about
    const fit = (room, slots) => Math.min(21, Math.floor(room / (slots || 1)) - 2), room = this.box.clientWidth - 74;
    const stacked = fit(room, from + into) < 11; // long strings: the answer under its source
    const wrongs = samples.some((s) => s.got.join() !== s.expected.join()), beside = fit(room + 44 - 7.4 * (into - 1), from + into);
    const told = wrongs && !stacked && beside >= 12; // the right answer stands beside a wrong one where there is room
    const size = Math.max(10, stacked ? Math.min(15, fit(room + 34, Math.max(from, into))) : told ? beside : fit(room, from + into));
    this.box.classList.toggle("stacked", stacked);
    this.box.style.setProperty("--from", `${from * (size + 2)}px`);
    while (this.box.children.length > samples.length) this.box.lastChild.remove();
    let solved = 0;
    samples.forEach((sample, i) => {
      const row = this.box.children[i] ?? this.row(), [source, , answer, sign] = row.children;
      const length = Math.max(sample.got.length, sample.expected.length), tokens = [], marks = [], titles = [];
      const whole = length <= into; // a broken model writes on and on: the right answer keeps its place beside it
      for (let k = 0; k < (whole ? length : into - 1); k++) {
        const got = sample.got[k], expected = sample.expected[k];
        tokens.push(got ?? "·");
        marks.push(got === undefined ? "missing" : got === expected ? "right" : "wrong");
        titles.push(got === expected ? `${k + 1}: ${got}` : fill(labels.instead, { i: k + 1, got: got ?? "·", expected: expected ?? "·" }));
      }
      const wrong = marks.filter((m) => m !== "right").length + (whole ? 0 : length - into + 1);
      if (!whole) { tokens.push("…"); marks.push("wrong"); titles.push(sample.got.join(" ")); }
      solved += wrong === 0;
      chips(source, sample.src, { size });
      chips(answer, tokens, { marks, titles, size });
      setText(sign.firstChild, !wrong ? "✓" : told ? "✗" : `✗ ${wrong}`);
      setText(sign.lastChild, wrong && told ? sample.expected.join("") : "");
      row.lead = sample.src.join("");
      setAttr(row, "title", labels.lead_generate);
      setAttr(sign, "class", wrong ? "sign bad" : "sign good");
      setAttr(sign, "title", wrong ? fill(labels.wrong_tokens, { n: wrong, expected: sample.expected.join(" ") }) : labels.all_right);
      setAttr(row, "aria-label", `${sample.src.join(" ")} → ${sample.got.join(" ")}: ${wrong ? fill(labels.wrong_tokens, { n: wrong, expected: sample.expected.join(" ") }) : labels.all_right}`);
    });
    setText(root.querySelector(".samples .count"), samples.length ? fill(labels.solved, { n: solved, of: samples.length, step: live.probe.step.toLocaleString("en") }) : "");
  }

  // Pixels that the examples need.
  height() {
    return this.box.classList.contains("stacked") ? this.box.closest(".samples").scrollHeight : 0;
  }

  row() {
    const row = add(this.box, "div", { class: "sample", role: "listitem", tabindex: 0 });
    const lead = () => this.board.open({ page: "generate", text: row.lead });
    row.onclick = lead;
    row.onkeydown = (event) => { if (event.key === "Enter") lead(); };
    add(row, "span", { class: "source" });
    add(row, "span", { class: "arrow", "aria-hidden": "true" }, "→");
    add(row, "span", { class: "answer" });
    const sign = add(row, "span", { class: "sign" });
    add(sign, "span");
    add(sign, "span", { class: "want" });
    return row;
  }
}
