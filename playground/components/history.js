// Streamlit makes an entry in the browser's history each time a page writes into its URL: a page that fills in five
// parameters when it opens would take six clicks on Back to leave. Here an action of the person makes one entry; what the
// page writes without one replaces the entry that is there.
export default function () {
  if (window.playgroundHistory) return;
  window.playgroundHistory = true;
  const push = history.pushState;
  let acted = false;
  for (const kind of ["pointerdown", "keydown"]) window.addEventListener(kind, () => (acted = true), { capture: true });
  history.pushState = function (state, title, url) {
    const samePage = new URL(url, location.href).pathname === location.pathname;
    if (samePage && !acted) return history.replaceState(state, title, url);
    acted = false;
    return push.call(history, state, title, url);
  };
}
