// The page at work: what keys, clicks and buttons do, and what is said of it.

let scaleUv = 100, filtered = false, toLeastCertain = false;

const write = (id, words) => {
  const element = byId(id);
  if (element.textContent !== words) element.textContent = words;
};
const several = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
const pressed = (id, is) => byId(id).setAttribute("aria-pressed", String(is));

const describe = (at) => {
  const stage = stages[at], name = stage === UNSCORED ? "not scored" : night.names[stage];
  const parts = [`sleep epoch ${(at + 1).toLocaleString("en")} of ${n.toLocaleString("en")}`];
  if (probabilities[at] === null) parts.push("no probability");
  else if (stage !== UNSCORED) parts.push(`probability ${percent(probabilities[at][stage])}`);
  if (isChanged(at)) parts.push(`changed from ${scored[at] === UNSCORED ? "not scored" : night.names[scored[at]]}`);
  if (night.scorer !== null) {
    const other = night.scorer[at] === UNSCORED ? "no stage" : night.names[night.scorer[at]];
    parts.push(`${night.scorerName.toLowerCase()}: ${other}`);
  }
  return { time: timeOf(at), name, rest: parts.join(", ") };
};

const showChosen = () => {
  const { time, name, rest } = describe(chosen);
  const chip = byId("stage");
  write("time", time);
  write("stage", name);
  chip.style.background = stages[chosen] === UNSCORED ? "" : night.colours[stages[chosen]];
  chip.style.color = ["N2", "N3"].includes(name) ? "#fff" : "";
  chip.classList.toggle("changed", isChanged(chosen));
  write("about", rest);
  const slider = byId("place");
  slider.setAttribute("aria-valuenow", String(chosen + 1));
  slider.setAttribute("aria-valuetext", `${time}, ${name}, ${rest}`);
  for (const button of document.querySelectorAll("[data-stage]")) {
    const stage = Number(button.dataset.stage), share = probabilities[chosen]?.[stage];
    button.setAttribute("aria-pressed", String(stage === stages[chosen]));
    button.querySelector(".share").textContent = share === undefined ? "–" : percent(share);
    button.querySelector("i").style.width = `${100 * (share ?? 0)}%`;
  }
};

const showWork = () => {
  const nChanged = count(isChanged), nLooked = count((at) => looked[at] === 1);
  write("n-looked", `${nLooked.toLocaleString("en")} of ${n.toLocaleString("en")}`);
  write("n-changed", nChanged.toLocaleString("en"));
  if (night.scorer !== null) write("n-differences", count(differs).toLocaleString("en"));
  byId("undo").disabled = done.length === 0;
  byId("redo").disabled = undone.length === 0;
  byId("reset").disabled = nChanged === 0 && nLooked === 0;
  byId("state").classList.toggle("warning", !kept);
  write("state", (kept ? "Kept in this browser: it is here when you open the page again."
    : "This browser keeps nothing for this page: save a file before you close it.")
    + (nChanged === 0 ? "" : saved ? " All corrections are in a file." : " Not yet saved to a file."));
};

const figure = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const showStatistics = () => {
  const hypnograms = { network: scored, corrected: stages, ...(night.scorer === null ? {} : { scorer: night.scorer }) };
  for (const [which, hypnogram] of Object.entries(hypnograms)) {
    const values = sleepStatistics(hypnogram, spanOf(which === "scorer" ? scored : hypnogram));
    for (const cell of document.querySelectorAll(`[data-of=${which}]`)) {
      const { statistic, stageRow: stage } = cell.dataset;
      if (stage === undefined) cell.textContent = figure(values?.[statistic]);
      else {
        const share = values?.percent[stage] ?? null;
        cell.textContent = `${figure(values?.minutes[stage])}${share === null ? "" : ` (${figure(share)}\u00a0%)`}`;
      }
      if (which === "corrected") cell.classList.toggle("changed", cell.textContent !== cell.previousElementSibling.textContent);
    }
    const both = night.scorer === null ? null : agreement(night.scorer, hypnogram);
    const cell = document.querySelector(`[data-agreement=${which}]`);
    if (cell !== null) cell.textContent = both ? `${figure(100 * both.accuracy)} %, ${figure(both.kappa, 2)}` : "–";
  }
};

const showAll = () => {
  showChosen();
  showWork();
  showStatistics();
  drawNight();
  drawSignal(scaleUv, filtered);
};

// Show the chosen sleep epoch, and the part of the night around it.
const showView = (length) => {
  const size = Math.min(length, n);
  let begin = view[0];
  if (size !== view[1] - view[0] || chosen < view[0] || chosen >= view[1]) begin = Math.round(chosen - size / 2);
  begin = Math.min(Math.max(begin, 0), n - size);
  view = [begin, begin + size];
  byId("wider").disabled = size === n;
  byId("closer").disabled = size <= 20;
};

const choose = (at) => {
  if (at === null || at < 0 || at >= n) return;
  chosen = at;
  looked[at] = 1;
  write("hint", "");
  showView(view[1] - view[0]);
  keep();
  showChosen();
  showWork();
  drawNight();
  drawSignal(scaleUv, filtered);
};

const afterChange = (at) => {
  saved = count(isChanged) === 0;
  choose(at);
  showStatistics();
};

const setStage = (stage) => {
  looked[chosen] = 1;
  correct([{ at: chosen, from: stages[chosen], to: stage }]);
  afterChange((toLeastCertain ? leastCertain() : null) ?? Math.min(chosen + 1, n - 1));
};

const goBack = (change) => {
  const at = change();
  if (at !== null) afterChange(at);
};

const notify = (words, buttons = []) => {
  byId("notice").hidden = words === "";
  write("notice-text", words);
  byId("notice-buttons").replaceChildren(...buttons.map(([label, action]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => {
      notify("");
      action();
      byId("place").focus();
    });
    return button;
  }));
};

const jump = (at, nothing) => (at === null ? write("hint", nothing) : choose(at));

const reset = () => {
  const nChanged = count(isChanged);
  const question = `Discard ${several(nChanged, "correction")} and what was looked at? This cannot be undone.`;
  if (!window.confirm(question)) return;
  stages.set(scored);
  looked.fill(0);
  done.length = undone.length = 0;
  saved = true;
  keep();
  showAll();
};

const saveAs = (which) => {
  const name = save(FILES[which]);
  saved = true;
  keep();
  showWork();
  write("saved", `Given to the browser as ${name}: look for it among the downloads.`);
};

const scale = (step) => {
  const place = SCALES_UV.indexOf(scaleUv) + step;
  scaleUv = SCALES_UV[Math.min(Math.max(place, 0), SCALES_UV.length - 1)];
  write("scale", `±${scaleUv} µV`);
  drawSignal(scaleUv, filtered);
};

const zoom = (factor) => {
  showView(Math.max(Math.round((view[1] - view[0]) * factor), 20));
  drawNight();
};

const ACTIONS = {
  back: () => choose(chosen - 1),
  on: () => choose(chosen + 1),
  "far-back": () => choose(Math.max(chosen - 10, 0)),
  "far-on": () => choose(Math.min(chosen + 10, n - 1)),
  uncertain: () => jump(leastCertain(), "Every scored sleep epoch was looked at."),
  difference: () => jump(nextDifference(), `No difference from the ${night.scorerName.toLowerCase()} is left.`),
  undo: () => goBack(undo),
  redo: () => goBack(redo),
  larger: () => scale(-1),
  smaller: () => scale(1),
  filter: () => {
    filtered = !filtered;
    pressed("filter", filtered);
    drawSignal(scaleUv, filtered);
  },
  "to-least-certain": () => {
    toLeastCertain = !toLeastCertain;
    pressed("to-least-certain", toLeastCertain);
  },
  closer: () => zoom(1 / 2),
  wider: () => zoom(2),
  reset,
  "save-csv": () => saveAs("csv"),
  "save-edf": () => saveAs("edf"),
  "save-lines": () => saveAs("lines"),
};
const KEYS = {
  arrowleft: "back", arrowright: "on", arrowup: "larger", arrowdown: "smaller", u: "uncertain", f: "filter",
  "+": "closer", "-": "wider", ...(night.scorer === null ? {} : { d: "difference" }),
};
const STAGE_KEYS = { w: 0, 0: 0, 1: 1, 2: 2, 3: 3, r: 4, 5: 4, "?": UNSCORED };
const ONCE = [...Object.keys(STAGE_KEYS), "u", "d"]; // however long the key is held: nobody looked at what flies by

// A button that its own action switched off loses the focus, which would begin again at the top of the page.
const act = (action) => {
  action();
  if (document.activeElement.disabled) byId("place").focus();
};

const isScrolled = (element) => element !== null && element.scrollWidth > element.clientWidth;

const onKey = (event) => {
  const isLatin = event.key <= "~" || !event.code.startsWith("Key"); // else the letter that stands there on most keyboards
  const key = (isLatin ? event.key : event.code.slice(3)).toLowerCase();
  let action = null;
  if (key.startsWith("arrow") && isScrolled(event.target.closest(".scroll"))) return;
  if (event.ctrlKey || event.metaKey) {
    if (!event.altKey && key === "z") action = event.shiftKey ? ACTIONS.redo : ACTIONS.undo;
    if (!event.altKey && key === "y") action = ACTIONS.redo;
  } else if (event.altKey) return;
  else if (event.shiftKey && key === "arrowleft") action = ACTIONS["far-back"];
  else if (event.shiftKey && key === "arrowright") action = ACTIONS["far-on"];
  else if (Object.hasOwn(STAGE_KEYS, key)) action = () => setStage(STAGE_KEYS[key]);
  else if (Object.hasOwn(KEYS, key)) action = ACTIONS[KEYS[key]];
  if (action === null) return;
  event.preventDefault();
  if (!event.repeat || !ONCE.includes(key)) act(action);
};

// Show the work of another window, unless there is some here that could not be kept.
const follow = (isOther) => {
  if (!isOther || !kept || !restore()) return;
  showView(view[1] - view[0]);
  showAll();
};

const listen = () => {
  document.addEventListener("keydown", onKey);
  for (const [id, action] of Object.entries(ACTIONS)) byId(id)?.addEventListener("click", () => act(action));
  for (const button of document.querySelectorAll("[data-stage]")) {
    button.addEventListener("click", () => setStage(Number(button.dataset.stage)));
  }
  const place = byId("place"), inPlot = (event) => positionAt(event.offsetX);
  place.addEventListener("click", (event) => choose(Math.min(Math.max(inPlot(event), 0), n - 1)));
  place.addEventListener("pointermove", (event) => {
    const at = inPlot(event);
    if (at < view[0] || at >= view[1]) return write("under", "");
    const { time, name } = describe(at);
    return write("under", `${time} ${name}${probabilities[at] ? `, ${percent(confidence[at])}` : ""}`);
  });
  place.addEventListener("pointerleave", () => write("under", ""));
  new ResizeObserver(() => {
    drawNight();
    drawSignal(scaleUv, filtered);
  }).observe(document.querySelector("main"));
  spectrogram.addEventListener("load", drawNight);
  window.addEventListener("storage", (event) => follow(event.key === entryKey)); // the page is open twice
  window.addEventListener("pageshow", (event) => follow(event.persisted)); // it comes back as it was left
  window.addEventListener("beforeunload", (event) => {
    if (kept || saved) return;
    event.preventDefault(); // the browser asks
    event.returnValue = true; // the same for browsers before 2024
  });
};

// Corrections alone: who found another stage right has not looked at this one. What was corrected here stays.
const takeOver = (other) => {
  const changes = changesOf(other).filter(({ at }) => !isChanged(at));
  correct(changes);
  for (const { at } of changes) looked[at] = 1;
  answered = true;
  afterChange(chosen);
};

const begin = () => {
  const isScored = (stage) => stage !== UNSCORED;
  chosen = Math.max(scored.findIndex(isScored), 0);
  view = [chosen, scored.findLastIndex(isScored) + 1 || n];
  restore();
  const other = answered ? null : otherEntry();
  if (other !== null) {
    const nOther = Object.keys(other.changes).length;
    notify(`This browser keeps ${several(nOther, "correction")} of another scoring of this night.`, [
      ["Take them over", () => takeOver(other)],
      ["Leave them", () => {
        answered = true;
        keep();
      }],
    ]);
  }
  listen();
  showView(view[1] - view[0]);
  showAll();
};

begin();
document.addEventListener("DOMContentLoaded", async () => { // the signal is the last element of the page
  try {
    packed = await unpack(document.getElementById("samples").textContent);
  } catch {
    write("hint", "This browser cannot read the signal: open the page with one of 2023 or later.");
  }
  byId("signal").removeAttribute("aria-busy");
  drawSignal(scaleUv, filtered);
});
