// The signal in microvolts: unpacked once, filtered for what is shown.

const GAP = -32768; // of the packed values: nothing was recorded
const MARGIN_S = 10; // on either side of what is shown: what the filter needs to settle
const BAND_HZ = [0.3, 35];
let packed = null; // Int16Array, in steps of night.stepUv

// Base64, deflated: the low bytes of all differences between samples, then the high bytes.
const unpack = async (text) => {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const values = new Int16Array(planes.length / 2);
  for (let i = 0, last = 0; i < values.length; i += 1) {
    last += planes[i] | (planes[values.length + i] << 8);
    values[i] = last; // the differences are modulo 2 ** 16, as the values are
  }
  return values;
};

// Second-order sections of Butterworth filters, as { b, a } with a[0] = 1 (bilinear transform, Q = 1 / sqrt 2).
const section = (hz, isHighPass) => {
  const k = Math.tan((Math.PI * hz) / night.fs), norm = 1 / (1 + Math.SQRT2 * k + k * k);
  const gain = isHighPass ? norm : k * k * norm;
  return {
    b: [gain, isHighPass ? -2 * gain : 2 * gain, gain],
    a: [1, 2 * (k * k - 1) * norm, (1 - Math.SQRT2 * k + k * k) * norm],
  };
};
const SECTIONS = [section(BAND_HZ[0], true), ...(BAND_HZ[1] < 0.45 * night.fs ? [section(BAND_HZ[1], false)] : [])];

const run = (values, { b, a }) => {
  let [x1, x2, y1, y2] = [0, 0, 0, 0];
  for (let i = 0; i < values.length; i += 1) {
    const x = values[i], y = b[0] * x + b[1] * x1 + b[2] * x2 - a[1] * y1 - a[2] * y2;
    [x2, x1, y2, y1] = [x1, x, y1, y];
    values[i] = y;
  }
};

// Forward and backward, so that no wave moves; the amplitude is a half at the ends of the band.
const bandPass = (values) => {
  const offset = values[0]; // so that the filter starts near its rest
  for (let i = 0; i < values.length; i += 1) values[i] -= offset;
  for (const pass of [0, 1]) {
    for (const each of SECTIONS) run(values, each);
    values.reverse();
  }
};

// Microvolts from sample `begin` to before `end`, NaN in gaps and beyond the ends of the recording.
const microvolts = (begin, end, filtered) => {
  const margin = filtered ? Math.round(MARGIN_S * night.fs) : 0;
  const first = begin - margin, values = new Float64Array(end - begin + 2 * margin).fill(NaN);
  for (let i = Math.max(first, 0); i < Math.min(end + margin, packed.length); i += 1) {
    if (packed[i] !== GAP) values[i - first] = packed[i] * night.stepUv;
  }
  for (let i = 0; filtered && i < values.length; i += 1) {
    if (Number.isNaN(values[i])) continue;
    let last = i;
    while (last < values.length && !Number.isNaN(values[last])) last += 1;
    bandPass(values.subarray(i, last)); // between gaps, each for itself
    i = last;
  }
  return values.subarray(margin, margin + end - begin);
};
