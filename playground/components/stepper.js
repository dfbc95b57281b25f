// The panels of a lab in a row. Ticks are kept in this browser, so that a reload does not take them away.

const STORE = "playground.labs";

function stored() {
  try { return JSON.parse(localStorage.getItem(STORE)) ?? {}; } catch { return {}; }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root"), list = root.querySelector("ol"), { lab, now, panels, t } = data;
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
  const done = panels.filter((p) => p.done).map((p) => p.id), all = stored(), mine = Array.isArray(all[lab]) ? all[lab] : [];
  const known = panels.map((p) => p.id), lost = mine.filter((id) => known.includes(id) && !done.includes(id));
  if (lost.length && root.dataset.told !== lab) { root.dataset.told = lab; setTriggerValue("remember", lost); return; }
  root.dataset.told = lab;
  try { localStorage.setItem(STORE, JSON.stringify({ ...all, [lab]: [...new Set([...mine, ...done])] })); } catch { /* private window */ }
}
