// What is drawn on the canvases: the night, the place in it, and the signal of a sleep epoch.

const { ink: INK, blue: BLUE, vermilion: VERMILION, grey: GREY } = night.inks;
const LINE = "#dde2e6", WASH = "#f3f6f8", FONT = "12px system-ui, sans-serif";
const ENDS_S = 5; // of the neighbours' signal
const GRID_UV = 75;
const SCALES_UV = [37.5, 50, 75, 100, 150, 200, 300, 500]; // from the middle to the edge

const byId = (id) => document.getElementById(id);

// A canvas of the size that its place has, in the dots of the screen.
const prepare = (canvas, height) => {
  const ratio = window.devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  context.textBaseline = "middle";
  return [context, width];
};

const text = (context, words, x, y, colour = INK, align = "left") => {
  context.fillStyle = colour;
  context.textAlign = align;
  context.fillText(words, x, y);
};

const line = (context, x1, y1, x2, y2, colour, width = 1) => {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
};

// The tracks of the night, from top to bottom.
const TITLE = 19, AXIS = 24;
const SHRINK = window.innerHeight < 950 ? 0.8 : 1; // so that the signal is on the first screen
const TRACKS = [
  { name: "spectrogram", title: "Spectrogram (Hz)", height: 72 },
  ...(night.scorer === null ? [] : [{ name: "scorer", title: night.scorerName, height: 72 }]),
  { name: "hypnogram", title: `Network and corrections${night.scorer === null ? "" : ", differences below"}`, height: 72 },
  ...(night.scorer === null ? [] : [{ name: "differences", title: "", height: 10 }]),
  { name: "density", title: "Probability of each stage (%)", height: 50 },
  { name: "confidence", title: "Confidence (%)", height: 36 },
  { name: "work", title: "", height: 12 },
];
let nightHeight = 6; // below the buttons
for (const track of TRACKS) {
  if (track.title !== "") track.height *= SHRINK;
  track.top = nightHeight + (track.title === "" ? 3 : TITLE);
  nightHeight = track.top + track.height;
}
nightHeight += AXIS;

let view = [0, n]; // the sleep epochs that are shown
const plot = { left: 46, right: 0, width: 0 };
const xOf = (position) => plot.left + ((position - view[0]) / (view[1] - view[0])) * plot.width;
const positionAt = (x) => Math.floor(view[0] + ((x - plot.left) / plot.width) * (view[1] - view[0]));
const dot = (x) => Math.round(x * (window.devicePixelRatio || 1)) / (window.devicePixelRatio || 1);
const shown = () => [Math.max(Math.floor(view[0]), 0), Math.min(Math.ceil(view[1]), n)];
const bar = (context, begin, end, y, height, least = 1 / (window.devicePixelRatio || 1)) => {
  const left = dot(xOf(begin));
  context.fillRect(left, y, Math.max(dot(xOf(end)) - left, least), height);
};
const MARK = 2; // of a mark, however long the night is

const spectrogram = new Image();
spectrogram.src = night.spectrogram;

const drawHypnogram = (context, { top, height }, hypnogram, colour, changed) => {
  const y = (stage) => top + (height * (night.order.indexOf(stage) + 0.5)) / night.order.length;
  const [first, last] = shown();
  for (const stage of night.order) {
    line(context, plot.left, dot(y(stage)), plot.right, dot(y(stage)), LINE);
    text(context, night.names[stage], plot.left - 7, y(stage), INK, "right");
  }
  context.fillStyle = colour;
  let before = UNSCORED;
  for (let begin = first, end; begin < last; begin = end) {
    const stage = hypnogram[begin];
    for (end = begin + 1; end < last && hypnogram[end] === stage; ) end += 1;
    if (stage !== UNSCORED) {
      const thickness = stage === REM ? 4 : 1.2;
      bar(context, begin, end, y(stage) - thickness / 2, thickness);
      if (before !== UNSCORED) {
        const [upper, lower] = [y(stage), y(before)].sort((a, b) => a - b);
        context.fillRect(dot(xOf(begin)) - 0.5, upper, 1, lower - upper);
      }
    }
    before = stage;
  }
  if (!changed) return;
  context.fillStyle = VERMILION;
  for (let at = first; at < last; at += 1) {
    if (isChanged(at) && hypnogram[at] !== UNSCORED) bar(context, at, at + 1, y(hypnogram[at]) - 3, 6, MARK);
  }
};

const drawDensity = (context, { top, height }) => {
  const [first, last] = shown();
  let y = new Float64Array(last - first).fill(top);
  for (const stage of night.order) {
    context.fillStyle = night.colours[stage];
    for (let at = first; at < last; at += 1) {
      if (probabilities[at] === null) continue;
      const share = height * probabilities[at][stage];
      if (share > 0.05) bar(context, at, at + 1, y[at - first], Math.min(share + 0.3, top + height - y[at - first]));
      y[at - first] += share;
    }
  }
};

const drawConfidence = (context, { top, height }) => {
  const [first, last] = shown();
  for (let at = first; at < last; at += 1) {
    if (confidence[at] === null) continue;
    context.fillStyle = confidence[at] < 0.5 ? VERMILION : "#9fbfd2";
    bar(context, at, at + 1, top + height * (1 - confidence[at]), height * confidence[at]);
  }
  line(context, plot.left, dot(top + height / 2), plot.right, dot(top + height / 2), GREY, 0.6);
};

const drawScale = (context, { top, height }, values, highest) => {
  for (const value of values) text(context, String(value), plot.left - 7, top + height * (1 - value / highest), INK, "right");
};

// Neither the stages nor the work: drawn once for each part of the night that is shown.
const drawStill = (context) => {
  const track = Object.fromEntries(TRACKS.map((each) => [each.name, each]));
  const { top, height } = track.spectrogram;
  context.fillStyle = "#e9edf0";
  context.fillRect(plot.left, top, plot.width, height);
  if (spectrogram.complete && spectrogram.naturalWidth > 0) {
    const [first, last] = shown();
    context.imageSmoothingEnabled = view[1] - view[0] > plot.width;
    context.drawImage(spectrogram, first, 0, last - first, spectrogram.naturalHeight,
      xOf(first), top, xOf(last) - xOf(first), height);
  }
  drawScale(context, track.spectrogram, [0, 10, 20, 30], night.maxHz);
  drawDensity(context, track.density);
  drawScale(context, track.density, [0, 50, 100], 100);
  drawConfidence(context, track.confidence);
  drawScale(context, track.confidence, [50, 100], 100);
  for (const { title, top: y } of TRACKS) {
    context.font = `600 ${FONT}`;
    text(context, title, plot.left, y - 10);
    context.font = FONT;
  }
  drawLegend(context, track.density.top - 10);
  drawAxis(context, nightHeight - AXIS);
};

const drawLegend = (context, y) => {
  const width = 46, left = plot.right - width * night.order.length;
  if (left < plot.left + 170) return;
  night.order.forEach((stage, place) => {
    context.fillStyle = night.colours[stage];
    context.fillRect(left + width * place, y - 5, 10, 10);
    context.strokeStyle = GREY;
    context.lineWidth = 0.6;
    context.strokeRect(left + width * place, y - 5, 10, 10);
    text(context, night.names[stage], left + width * place + 14, y + 0.5);
  });
};

const STEPS_S = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];
const drawAxis = (context, y) => {
  const length = (view[1] - view[0]) * SLEEP_EPOCH_S, first = view[0] * SLEEP_EPOCH_S + dayStartS;
  const step = STEPS_S.find((each) => (each / length) * plot.width >= 62) ?? 86400;
  line(context, plot.left, y + 0.5, plot.right, y + 0.5, GREY);
  for (let tick = Math.ceil(first / step) * step; tick <= first + length; tick += step) {
    const x = dot(xOf((tick - dayStartS) / SLEEP_EPOCH_S));
    line(context, x, y, x, y + 4, GREY);
    text(context, clock(tick - dayStartS, false), Math.min(x, plot.right - 8), y + 14, INK, "center");
  }
};

// Sleep epochs that the network could not score, over all tracks.
const drawUnscored = (context) => {
  const [first, last] = shown();
  for (let begin = first, end; begin < last; begin = end) {
    for (end = begin + 1; end < last && scored[end] === scored[begin]; ) end += 1;
    if (scored[begin] !== UNSCORED) continue;
    context.fillStyle = "rgba(107, 118, 128, 0.3)";
    for (const { top, height } of TRACKS) bar(context, begin, end, top, height);
    if (xOf(end) - xOf(begin) > 60) {
      text(context, "not scored", xOf((begin + end) / 2), TRACKS[0].top + TRACKS[0].height / 2, INK, "center");
    }
  }
};

const drawMarks = (context, { top, height }, isMarked, colour, isFirst = true) => {
  context.fillStyle = WASH;
  if (isFirst) context.fillRect(plot.left, top, plot.width, height);
  const [first, last] = shown();
  context.fillStyle = colour;
  for (let at = first; at < last; at += 1) if (isMarked(at)) bar(context, at, at + 1, top, height, MARK);
};

const still = document.createElement("canvas");
let stillView = null; // what `still` shows

const drawNight = () => {
  const [context, width] = prepare(byId("tracks"), nightHeight);
  if (width === 0) return; // the page is not laid out yet
  plot.right = width - 10;
  plot.width = plot.right - plot.left;
  const canvas = context.canvas, is = [canvas.width, canvas.height, ...view, spectrogram.complete].join();
  if (stillView !== is) {
    [still.width, still.height] = [canvas.width, canvas.height];
    const stillContext = still.getContext("2d");
    stillContext.setTransform(context.getTransform());
    stillContext.font = FONT;
    stillContext.textBaseline = "middle";
    drawStill(stillContext);
    stillView = is;
  }
  context.save();
  context.resetTransform();
  context.drawImage(still, 0, 0);
  context.restore();
  for (const track of TRACKS) {
    if (track.name === "scorer") drawHypnogram(context, track, night.scorer, INK, false);
    if (track.name === "hypnogram") drawHypnogram(context, track, stages, BLUE, true);
    if (track.name === "differences") drawMarks(context, track, differs, VERMILION);
    if (track.name === "work") {
      drawMarks(context, track, (at) => looked[at] && !isChanged(at), "#5596ba");
      drawMarks(context, track, isChanged, VERMILION, false);
      text(context, "Seen", plot.left - 7, track.top + track.height / 2, INK, "right");
    }
  }
  drawUnscored(context);
  drawPlace();
};

// A frame around the chosen sleep epoch in each track, seen on dark and on light ground.
const drawPlace = () => {
  const [context] = prepare(byId("place"), nightHeight);
  const left = xOf(chosen), width = Math.max(xOf(chosen + 1) - left, 3);
  if (chosen < view[0] || chosen >= view[1]) return;
  for (const { name, top, height } of TRACKS) {
    const isDark = name === "spectrogram" || name === "density";
    for (const [colour, thickness] of [...(isDark ? [["#fff", 4]] : []), [VERMILION, 1.8]]) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.strokeRect(left, top - 1, width, height + 2);
    }
  }
  context.fillStyle = VERMILION;
  context.beginPath();
  for (const [dx, dy] of [[-6, -11], [6, -11], [0, -2]]) context.lineTo(left + width / 2 + dx, TRACKS[0].top + dy);
  context.fill();
};

const drawSignal = (scaleUv, filtered) => {
  const height = window.innerWidth < 600 ? 220 : 250, top = 22, bottom = height - 22;
  const [context, width] = prepare(byId("signal"), height);
  const left = 46, right = width - 10, length = SLEEP_EPOCH_S + 2 * ENDS_S;
  const x = (seconds) => left + ((seconds + ENDS_S) / length) * (right - left); // from the begin of the sleep epoch
  const y = (uv) => (top + bottom) / 2 - (uv / scaleUv) * ((bottom - top) / 2);
  context.fillStyle = WASH;
  context.fillRect(left, top, x(0) - left, bottom - top);
  context.fillRect(x(SLEEP_EPOCH_S), top, right - x(SLEEP_EPOCH_S), bottom - top);
  for (let s = -ENDS_S; s <= SLEEP_EPOCH_S + ENDS_S; s += 1) {
    line(context, dot(x(s)), top, dot(x(s)), bottom, s % 5 === 0 ? "#c3ccd3" : LINE, s % 5 === 0 ? 1 : 0.7);
    const isLabelled = s >= 0 && s <= SLEEP_EPOCH_S && s % (width < 600 ? 10 : 5) === 0;
    if (isLabelled) text(context, clock(chosen * SLEEP_EPOCH_S + s), x(s), height - 9, INK, "center");
  }
  for (let uv = GRID_UV / 2; uv <= scaleUv; uv += GRID_UV) {
    for (const sign of [1, -1]) {
      line(context, left, dot(y(sign * uv)), right, dot(y(sign * uv)), "#8fb3c9", 1);
      text(context, `${sign < 0 ? "−" : ""}${uv}`, left - 7, y(sign * uv), INK, "right");
    }
  }
  text(context, "µV", left - 7, 12, INK, "right");
  for (const [step, place, align] of [[-1, left + 2, "left"], [1, right, "right"]]) {
    const name = chosen + step < 0 || chosen + step >= n ? "" : names.at(stages[chosen + step]);
    text(context, step < 0 ? `◂ ${name}` : `${name} ▸`, place, 12, "#55616c", align);
  }
  if (packed === null) {
    text(context, "Reading the signal …", (left + right) / 2, (top + bottom) / 2, INK, "center");
    return;
  }
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  const begin = Math.round((chosen * SLEEP_EPOCH_S - ENDS_S) * night.fs);
  const values = microvolts(begin, begin + Math.round(length * night.fs) + 1, filtered);
  const edges = [0, Math.round(ENDS_S * night.fs), Math.round((ENDS_S + SLEEP_EPOCH_S) * night.fs), values.length - 1];
  ["#8a959e", INK, "#8a959e"].forEach((colour, part) => {
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.lineJoin = "round";
    context.beginPath();
    for (let i = edges[part], isDown = false; i <= edges[part + 1]; i += 1) {
      if (Number.isNaN(values[i])) isDown = false;
      else if (isDown) context.lineTo(x(i / night.fs - ENDS_S), y(values[i]));
      else context.moveTo(x(i / night.fs - ENDS_S), y(values[i]));
      if (!Number.isNaN(values[i])) isDown = true;
    }
    context.stroke();
  });
  context.restore();
  for (const s of [0, SLEEP_EPOCH_S]) line(context, dot(x(s)), top, dot(x(s)), bottom, GREY, 1.4);
};
