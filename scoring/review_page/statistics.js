// Statistics of a hypnogram and its agreement with another, as utils/sleep_statistics.py and model/metric.py define them.

const MINUTES = SLEEP_EPOCH_S / 60;
const WAKE = night.names.indexOf("W"), REM = night.names.indexOf("REM");

const positionsOf = (hypnogram) => [...hypnogram.keys()].filter((at) => hypnogram[at] !== UNSCORED);
const spanOf = (hypnogram) => {
  const positions = positionsOf(hypnogram);
  return night.inBed ?? [positions[0], positions.at(-1) + 1];
};

// Within a span, in minutes; also in percent of total sleep time, and of time in bed for sleep efficiency. Null where
// there is no such value.
const sleepStatistics = (hypnogram, [begin, end]) => {
  const positions = positionsOf(hypnogram).filter((at) => at >= begin && at < end);
  if (positions.length === 0) return null;
  const asleep = positions.filter((at) => hypnogram[at] !== WAKE);
  const onset = asleep.length > 0 ? asleep[0] : null;
  const firstRem = positions.find((at) => hypnogram[at] === REM) ?? null;
  const minutes = night.names.map((_, stage) => MINUTES * positions.filter((at) => hypnogram[at] === stage).length);
  const total = MINUTES * asleep.length, inBed = MINUTES * (end - begin);
  return {
    inBed,
    total,
    efficiency: (100 * total) / inBed,
    sleepLatency: onset === null ? null : MINUTES * (onset - begin),
    remLatency: firstRem === null ? null : MINUTES * (firstRem - onset),
    wakeAfterOnset: onset === null ? null
      : MINUTES * positions.filter((at) => at > onset && hypnogram[at] === WAKE).length,
    minutes,
    percent: minutes.map((value, stage) => (stage === WAKE || total === 0 ? null : (100 * value) / total)),
  };
};

// Over the sleep epochs that have a stage in both; null if there is none.
const agreement = (reference, hypnogram) => {
  const size = night.names.length, counts = Array.from({ length: size }, () => new Array(size).fill(0));
  let total = 0, same = 0;
  for (let at = 0; at < n; at += 1) {
    if (reference[at] === UNSCORED || hypnogram[at] === UNSCORED) continue;
    counts[reference[at]][hypnogram[at]] += 1;
    total += 1;
    same += reference[at] === hypnogram[at] ? 1 : 0;
  }
  if (total === 0) return null;
  const sum = (values) => values.reduce((all, value) => all + value, 0);
  const byChance = sum(counts.map((row, stage) => sum(row) * sum(counts.map((other) => other[stage])))) / total ** 2;
  return { accuracy: same / total, kappa: byChance === 1 ? 0 : (same / total - byChance) / (1 - byChance) };
};
