// Streamlit makes an entry in the browser's history each time a page writes into its URL: a page that fills in five
// parameters when it opens would take six clicks on Back to leave. And when such a page is opened by a link, its
// parameters may come before its name. Here an action of the person makes one entry; what follows by itself replaces it.
// And Back says so in the URL (address.py takes it out again): otherwise what it brings looks like what a click carries
// that was made before the browser knew its newest URL.
export default function () {
  if (window.playgroundHistory) return;
  window.playgroundHistory = true;
  const push = history.pushState;
  let acted = false;
  for (const kind of ["pointerdown", "keydown", "click"])
    window.addEventListener(kind, () => (acted = true), { capture: true });
  window.addEventListener("popstate", () => (acted = false), { capture: true });
  const leave = () => { // Streamlit asks for the page before a listener of ours could write: the entry is marked when it is left
    if (!location.hash && !/[?&]back=/.test(location.search))
      history.replaceState(history.state, "", `${location.pathname}${location.search ? `${location.search}&` : "?"}back=1`);
  };
  history.pushState = function (state, title, url) {
    const add = acted ? push : history.replaceState;
    if (acted) leave();
    acted = false;
    return add.call(history, state, title, url);
  };
}
