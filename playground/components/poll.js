// Fetches what is new of a run, about five times a second while it lives, and tells Python when its state changes.

const LIVE = new Set(["queued", "running", "paused"]);
const MANY = 10000; // so many records in one answer: there are more to ask for
const PACE = { queued: 400, running: 200, paused: 800, draft: 2000 }; // milliseconds between two questions

function emptyRun() {
  return { records: [], tests: [], probe: null, version: -1, state: null, reason: "", step: 0, steps: null, n: 0, rewinds: undefined,
    steps_per_s: null, place: null, saved: [], states: [], events: [], heard: false, away: false, gone: false };
}

// Adds an answer to what is already held. A run that was reset or rewound starts again from nothing.
function absorb(live, answer) {
  if (answer.restart) Object.assign(live, { records: [], tests: [] });
  for (const record of answer.records ?? []) {
    live.records.push(record);
    if (record.token_accuracy !== null && record.token_accuracy !== undefined) live.tests.push(record);
  }
  if (answer.probe) { live.probe = answer.probe; live.version = answer.probe.version ?? 0; }
  const { state, reason, step, steps, place, waiting, steps_per_s, saved, states, events, rewinds } = answer;
  Object.assign(live, { state, reason, step, steps, place, waiting, steps_per_s, saved: saved ?? [], states: states ?? [], events: events ?? [], rewinds, heard: true, away: false });
  live.n = answer.n ?? live.records.length;
}

class Poll {
  constructor(live, changed) {
    this.live = live;
    this.changed = changed; // called after every answer
    this.timer = null;
    this.failures = 0;
    this.told = { state: null, at: 0, times: 0 };
    this.onVisible = () => { if (!document.hidden) this.now(); };
    document.addEventListener("visibilitychange", this.onVisible);
  }

  // data.state is what Python believes; tell(name, value) sets a trigger, which reruns the page once.
  follow(data, tell) {
    const url = new URL(data.api, window.location.href).href, news = url !== this.url || data.state !== this.believed;
    if (url !== this.url) { Object.assign(this.live, emptyRun(), { state: data.state }); this.failures = 0; }
    this.url = url;
    this.believed = data.state;
    this.language = data.language;
    this.tell = tell;
    if (data.initial && !this.live.records.length) { absorb(this.live, data.initial); this.changed(); }
    else if (news) this.now();
  }

  now() {
    clearTimeout(this.timer);
    this.request?.abort();
    if (this.url) this.ask();
  }

  // What is held already, so that only the rest is sent.
  question() {
    const { n, version, rewinds } = this.live, held = { n, probe: version, lang: this.language };
    return new URLSearchParams(rewinds === undefined ? held : { ...held, rewinds });
  }

  async ask() {
    const { live, url } = this, start = performance.now(), request = (this.request = new AbortController());
    let wait = null;
    try {
      const answer = await fetch(`${url}?${this.question()}`, { signal: request.signal });
      if (answer.status === 404) { live.gone = true; this.changed(); this.report("deleted"); return; }
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      if (request !== this.request) return; // another run was chosen meanwhile
      absorb(live, news);
      this.failures = 0;
      this.report(live.state);
      wait = news.records?.length >= MANY ? 0 : PACE[live.state] ?? (live.state === this.believed ? null : 1000); // until Python knows the end, too
    } catch {
      if (request.signal.aborted) return;
      this.failures += 1;
      live.away = this.failures > 1; // one lost answer is no news
      wait = Math.min(5000, 300 * 2 ** this.failures);
    }
    this.changed();
    if (wait !== null && !document.hidden) this.timer = setTimeout(() => this.ask(), Math.max(40, wait - (performance.now() - start)));
  }

  // One rerun for a new state. A trigger sent while the server was away is lost, so it is repeated, three times at most.
  report(state) {
    const { told } = this, time = performance.now();
    if (state === this.believed) { told.state = null; return; }
    if (told.state !== state) Object.assign(told, { state, at: -Infinity, times: 0 });
    if (told.times >= 3 || time - told.at < 3000) return;
    told.at = time;
    told.times += 1;
    this.tell(LIVE.has(state) || state === "draft" ? "state" : "ended", state);
  }

  stop() {
    clearTimeout(this.timer);
    this.request?.abort();
    this.url = null;
    document.removeEventListener("visibilitychange", this.onVisible);
  }
}
