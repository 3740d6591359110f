// The corrected hypnogram as files, in the forms that predict.py writes.

// The table of the network with the corrected stages, and a column that says what the scorer did. No cell is quoted.
const csvText = () => {
  const lines = rows.map((row, at) => {
    const cells = [...row, isChanged(at) ? "changed" : looked[at] ? "looked at" : ""];
    cells[stageColumn] = names.at(stages[at]);
    return cells.join(",");
  });
  return `${[[...columns, "review"].join(","), ...lines].join("\n")}\n`;
};

// The codes 0 to 4, and -1 where there is no stage.
const linesText = () => `${stages.join("\n")}\n`;

// EDF+ with an annotation for each run of a stage, all in one data record. The header is that of predict.py's file, but
// for the number of samples in the record, its last field.
const edfBytes = () => {
  const onset = columns.indexOf("onset"); // in the recording, which was perhaps cut
  let text = "+0\x14\x14\0";
  for (let begin = 0, end; begin < n; begin = end) {
    for (end = begin + 1; end < n && stages[end] === stages[begin]; ) end += 1;
    const name = stages[begin] === REM ? "R" : names.at(stages[begin]);
    text += `+${rows[begin][onset]}\x15${(end - begin) * SLEEP_EPOCH_S}\x14Sleep stage ${name}\x14\0`;
  }
  if (text.length % 2 === 1) text += "\0"; // a sample is two bytes
  const header = atob(night.edfHeader), nSamplesAt = 256 + 16 + 80 + 5 * 8 + 80;
  const nSamples = String(text.length / 2).padEnd(8);
  const all = header.slice(0, nSamplesAt) + nSamples + header.slice(nSamplesAt + 8) + text;
  return Uint8Array.from(all, (character) => character.charCodeAt(0));
};

const FILES = {
  csv: { end: "_reviewed.csv", type: "text/csv", content: csvText },
  edf: { end: "_reviewed-Hypnogram.edf", type: "application/octet-stream", content: edfBytes },
  lines: { end: "_reviewed.txt", type: "text/plain", content: linesText },
};

const save = ({ end, type, content }) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content()], { type }));
  link.download = `${night.name}${end}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return link.download;
};
