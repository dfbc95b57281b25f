// The panels of a lab in a row. Ticks, and what was expected of its experiments, are kept in this browser, so that a reload
// does not take them away. They are not in the URL: who gets a link shall tick, and guess, for themselves.

const STORE = "playground.labs", GUESSES = "playground.guesses";

function stored(name) {
  try { return JSON.parse(localStorage.getItem(name)) ?? {}; } catch { return {}; }
}

function store(name, value) {
  try { localStorage.setItem(name, JSON.stringify(value)); } catch { /* private window */ }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), list = root.querySelector("ol"), { lab, now, panels, guesses, t } = data;
  setAttr(root, "aria-label", t.label);
  const onward = root.querySelector(".onward");
  onward.hidden = !t.next_lab;
  setAttr(onward, "title", t.next_lab); setAttr(onward, "aria-label", t.next_lab);
  onward.classList.toggle("ready", panels.every((panel) => panel.done));
  onward.onclick = () => setTriggerValue("go", "next lab");
  while (list.children.length > panels.length) list.lastChild.remove();
  panels.forEach((panel, i) => {
    const button = list.children[i]?.firstChild ?? add(add(list, "li"), "button", { type: "button" });
    const [number, title] = button.children.length ? button.children : [add(button, "span", { class: "number" }), add(button, "span")];
    setText(number, panel.done ? "✓" : String(i + 1));
    setAttr(number, "class", panel.done ? "number done" : "number");
    setText(title, panel.title);
    setAttr(button, "aria-label", `${i + 1}. ${panel.title}${panel.done ? `, ${t.done}` : ""}`);
    if (panel.id === now) setAttr(button, "aria-current", "step"); else button.removeAttribute("aria-current");
    button.onclick = () => { if (panel.id !== now) setTriggerValue("go", panel.id); };
  });
  const done = panels.filter((p) => p.done).map((p) => p.id), all = stored(STORE), mine = Array.isArray(all[lab]) ? all[lab] : [];
  const known = panels.map((p) => p.id), lost = mine.filter((id) => known.includes(id) && !done.includes(id));
  const before = stored(GUESSES)[lab] ?? {}, forgot = Object.keys(before).some((key) => !(key in guesses));
  if ((lost.length || forgot) && root.dataset.told !== lab) {
    root.dataset.told = lab;
    setTriggerValue("remember", { done: lost, guesses: before });
    return;
  }
  root.dataset.told = lab;
  store(STORE, { ...all, [lab]: [...new Set([...mine, ...done])] });
  store(GUESSES, { ...stored(GUESSES), [lab]: guesses });
}
