// Keeps the time for a player: `ms` after a value is shown it is reported back once, so a slow page slows the player down.
const TIMERS = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const known = TIMERS.get(parentElement);
  if (known?.now !== data.now) {
    clearTimeout(known?.timer);
    const timer = setTimeout(() => setTriggerValue("tick", data.now), data.ms);
    TIMERS.set(parentElement, { now: data.now, timer });
  }
  return () => clearTimeout(TIMERS.get(parentElement)?.timer);
}
