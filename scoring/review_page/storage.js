// The work stays in this browser: one entry of localStorage for each scoring of a night.

const FORM = "attnsleep-review-1:"; // the number is the version of what an entry holds
const entryKey = `${FORM}${night.name}:${night.checksum}`;
const storage = (() => {
  try {
    window.localStorage.setItem(`${FORM}test`, "");
    window.localStorage.removeItem(`${FORM}test`);
    return window.localStorage;
  } catch {
    return null;
  }
})();
let kept = storage !== null; // whether all is in the browser's storage
let saved = true; // whether all corrections are in a file, or there are none
let answered = false; // whether the scorer said what becomes of the work on another scoring

const runs = (flags) => {
  const list = [];
  for (let at = 0; at < n; at += 1) {
    if (!flags[at]) continue;
    if (list.length > 0 && list.at(-1)[1] === at) list.at(-1)[1] = at + 1;
    else list.push([at, at + 1]);
  }
  return list;
};

const keep = () => {
  const changes = {};
  for (let at = 0; at < n; at += 1) if (isChanged(at)) changes[at] = names.at(stages[at]);
  try {
    const entry = { n, start: night.start, changes, looked: runs(looked), chosen, saved, answered, time: Date.now() };
    storage.setItem(entryKey, JSON.stringify(entry));
    kept = true;
  } catch { // no storage, or it is full
    kept = false;
  }
};

// An entry whose sleep epochs are those of this night; null if it is of another one.
const readEntry = (key) => {
  try {
    const entry = JSON.parse(storage.getItem(key));
    return entry !== null && entry.n === n && entry.start === night.start ? entry : null;
  } catch {
    return null;
  }
};

const changesOf = (entry) => Object.entries(entry.changes)
  .map(([at, name]) => ({ at: Number(at), from: stages[at], to: night.names.indexOf(name) }))
  .filter(({ at }) => at >= 0 && at < n);

const restore = () => {
  const entry = readEntry(entryKey);
  if (entry === null) return false;
  stages.set(scored);
  looked.fill(0);
  for (const { at, to } of changesOf(entry)) stages[at] = to;
  for (const [begin, end] of entry.looked) looked.fill(1, begin, end);
  chosen = Math.min(entry.chosen, n - 1);
  saved = entry.saved;
  answered = entry.answered;
  done.length = undone.length = 0;
  return true;
};

// The last work on another scoring of the same night: it is offered, never taken over unasked.
const otherEntry = () => {
  if (storage === null) return null;
  const keys = Object.keys(storage).filter((key) => key !== entryKey
    && key.startsWith(`${FORM}${night.name}:`) && /^[0-9a-f]{16}$/.test(key.slice(FORM.length + night.name.length + 1)));
  const entries = keys.map(readEntry).filter((entry) => entry !== null && Object.keys(entry.changes).length > 0);
  return entries.sort((a, b) => b.time - a.time)[0] ?? null;
};
