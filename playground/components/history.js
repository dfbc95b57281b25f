// Streamlit makes an entry in the browser's history each time a page writes into its URL: a page that fills in five
// parameters when it opens would take six clicks on Back to leave. And when such a page is opened by a link, its
// parameters may come before its name. Here an action of the person makes one entry; what follows by itself replaces it.
export default function () {
  if (window.playgroundHistory) return;
  window.playgroundHistory = true;
  const push = history.pushState;
  let acted = false;
  for (const kind of ["pointerdown", "keydown", "click"])
    window.addEventListener(kind, () => (acted = true), { capture: true });
  history.pushState = function (state, title, url) {
    const add = acted ? push : history.replaceState;
    acted = false;
    return add.call(history, state, title, url);
  };
}
