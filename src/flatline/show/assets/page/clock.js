// One cursor and one range of steps for everything that is drawn over time.

const WHOLE = [0, Math.max(data.bins.steps, data.bins.size * data.bins.number)];

const clock = {
  /** First step shown, and the one after the last. */
  range: WHOLE,
  /** The step that is looked at, or null. */
  step: null,
  listeners: [],
  look(step) {
    if (step === this.step) return;
    this.step = step;
    this.tell();
  },
  zoom(first, end) {
    const range = [Math.max(first, WHOLE[0]), Math.min(end, WHOLE[1])];
    if (range[1] - range[0] < 2) return;
    this.range = range;
    this.tell();
  },
  tell() {
    for (const listener of this.listeners) listener();
  },
};

/** Width of what stands to the left of every plot: the same, so that steps line up. */
const gutter = (width) => (width < 600 ? 58 : 110);
const RIGHT = 14;

/** Deaths of all sites in each part of the run. */
const deathsByBin = new Array(data.bins.number).fill(0);
for (const site of data.sites) for (const [bin, died] of site.deaths) deathsByBin[bin] += died;

/** Index of the last entry of rising `steps` that is at most `step`; -1 for none. */
function before(steps, step) {
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Everything known about the step that is looked at, in one line. */
function tellStep(step) {
  const bin = Math.min(Math.floor(step / data.bins.size), data.bins.number - 1);
  const parts = [deathsByBin[bin] ? `${grouped(deathsByBin[bin])} died` : "none died"];
  for (const metric of data.metrics) {
    const at = before(metric.steps, step);
    if (at < 0) continue;
    const value = metric.values[at];
    parts.push(`${metric.name} ${value === null ? "not finite" : figure(value)}`);
  }
  return `${binName(bin)}: ${parts.join(", ")}`;
}

/** A number with four digits. */
function figure(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7))
    return value.toExponential(2).replace(/\.?0+e/, "e");
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}
