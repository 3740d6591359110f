// The night that the page shows, as scoring/review.py wrote it, and what the scorer makes of it.

const night = JSON.parse(document.getElementById("night").textContent);
const SLEEP_EPOCH_S = 30, UNSCORED = -1;
const names = [...night.names, "?"]; // names.at(UNSCORED) is "?"

// The table is that of <name>.csv, so that a saved one has the same form.
const rows = night.table.trimEnd().split("\n").map((line) => line.split(","));
const columns = rows.shift();
const stageColumn = columns.indexOf("stage");
const n = rows.length;

const scored = Int8Array.from(rows, (row) => night.names.indexOf(row[stageColumn]));
const probabilityColumns = night.names.map((name) => columns.indexOf(`p_${name}`));
const probabilities = rows.map((row, at) =>
  scored[at] === UNSCORED ? null : probabilityColumns.map((column) => Number(row[column])));
const confidence = probabilities.map((values) => values && Math.max(...values));

const stages = Int8Array.from(scored); // as corrected
const looked = new Uint8Array(n); // 1 where the scorer was
const done = [], undone = []; // corrections: lists of { at, from, to }
let chosen = 0;

const isChanged = (at) => stages[at] !== scored[at];
const differs = (at) => night.scorer !== null && night.scorer[at] !== UNSCORED && stages[at] !== UNSCORED
  && night.scorer[at] !== stages[at];
const count = (test) => {
  let total = 0;
  for (let at = 0; at < n; at += 1) total += test(at) ? 1 : 0;
  return total;
};

const correct = (changes) => {
  const real = changes.filter(({ from, to }) => from !== to);
  for (const { at, to } of real) stages[at] = to;
  if (real.length === 0) return;
  done.push(real);
  undone.length = 0;
};

const move = (from, to, side) => {
  const changes = from.pop();
  if (changes === undefined) return null;
  for (const change of changes) stages[change.at] = change[side];
  to.push(changes);
  return changes[0].at;
};
const undo = () => move(done, undone, "from"); // where it was, null if there is nothing to undo
const redo = () => move(undone, done, "to");

// Sleep epochs without a stage have no probability. They are not certain at all, but most have no signal.
const leastCertain = () => {
  let best = null;
  for (let at = 0; at < n; at += 1) {
    if (!looked[at] && confidence[at] !== null && (best === null || confidence[at] < confidence[best])) best = at;
  }
  return best;
};
const nextDifference = () => {
  for (let step = 1; step <= n; step += 1) if (differs((chosen + step) % n)) return (chosen + step) % n;
  return null;
};

// Times: of the recorder's clock if the start is known, else since the start.
const startS = night.start === null ? null : Date.parse(`${night.start}Z`) / 1000;
const dayStartS = startS === null ? 0 : ((startS % 86400) + 86400) % 86400; // of the start since midnight
const two = (number) => String(number).padStart(2, "0");
const clock = (secondsFromStart, withSeconds = true) => {
  const total = Math.round(secondsFromStart) + dayStartS;
  const hours = Math.floor(total / 3600), minutes = Math.floor(total / 60) % 60;
  const hour = startS === null ? String(hours) : two(hours % 24);
  return `${hour}:${two(minutes)}${withSeconds ? `:${two(total % 60)}` : ""}`;
};
const timeOf = (at) => clock(at * SLEEP_EPOCH_S);
const percent = (fraction) => // 100 only where it is
  `${fraction > 0.995 && fraction < 1 ? Math.min(100 * fraction, 99.9).toFixed(1) : (100 * fraction).toFixed(0)} %`;
