// Where the pre-activation of a unit lay at exams: histograms of a sample, mean and spread of all.

// Taken from a drawing of the page, which names no address of its own.
const SVG = document.querySelector("svg")?.namespaceURI;
/** Sizes of both figures; rows of histograms are higher, and their bars at least so wide. */
const PLOT = { width: 360, left: 96, right: 12, row: 24, axis: 20, ridge: 44, bars: 34, least: 1.5 };

/** All that is known of where z lay, and why there is no histogram where there is none. */
function whereItLay(site, life) {
  const lacking = word(data.lives.axes[site][3]);
  return [
    life.drawn ? ridgePlot(site, life.drawn.map(histogramOf)) : make("p", { class: "note" }, lacking),
    ...(life.z.length ? [spreadPlot(life.z)] : []),
  ];
}

/** From values to places on the drawing. */
function axisOf(least, most) {
  const span = most - least || 1;
  return (value) => PLOT.left + ((value - least) / span) * (PLOT.width - PLOT.left - PLOT.right);
}

/** Numbers below a figure; the first ones have precedence where there is no room for all. */
function axisWords(values, x, height) {
  const kept = [];
  for (const value of values)
    if (kept.every((other) => Math.abs(x(value) - x(other)) > 44)) kept.push(value);
  return kept.map((value) => {
    const anchor = x(value) > PLOT.width - 30 ? "end" : "middle";
    const at = { x: anchor === "end" ? PLOT.width : x(value), y: height - 4, "text-anchor": anchor };
    return drawn("text", at, minus(figure(value)));
  });
}

const minus = (words) => words.replaceAll("-", "−");

/** An element of a drawing. */
function drawn(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function drawing(kind, height, words) {
  return drawn("svg", {
    class: kind,
    viewBox: `0 0 ${PLOT.width} ${height}`,
    role: "img",
    "aria-label": words,
  });
}

// -- histograms ---------------------------------------------------------------------------------

/** A histogram as the data have it, its counts unpacked. */
function histogramOf([step, moments, low, width, packed, lost = 0]) {
  const counts = Array.from(atob(packed), (byte) => byte.charCodeAt(0));
  const values = counts.reduce((sum, count) => sum + count, 0);
  return { step, moments: word(moments), low, high: low + width, lost, counts, values };
}

/** A row of bars for each exam, all on one axis, on which the flat tails of φ are shaded. */
function ridgePlot(site, rows) {
  const [low, high, tails] = data.lives.axes[site];
  const [least, most] = ridgeRange(rows, low, high);
  const margin = (most - least) * 0.03 || Math.abs(least) * 0.1 || 1;
  const [start, end] = [least - margin, most + margin];
  const x = axisOf(start, end);
  const bottom = rows.length * PLOT.ridge;
  const height = bottom + PLOT.axis;
  const plot = drawing("ridge", height, `Histograms of z. ${rows.map(ridgeWords).join("; ")}`);
  const ends = [low, high].filter((at) => at !== null && at >= start && at <= end);
  const flat = (from, to) =>
    drawn("rect", { class: "flat", x: x(from), y: 0, width: x(to) - x(from), height: bottom });
  const shades = [];
  if (low !== null && low > start) shades.push(flat(start, Math.min(low, end)));
  if (high !== null && high < end) shades.push(flat(Math.max(high, start), end));
  plot.append(...shades);
  for (const at of ends)
    plot.append(drawn("line", { class: "end", x1: x(at), x2: x(at), y1: 0, y2: bottom + 4 }));
  rows.forEach((row, index) => plot.append(ridgeRow(row, (index + 1) * PLOT.ridge - 4, x)));
  plot.append(...axisWords([...ends, least, most], x, height));
  return make("figure", {}, plot, make("figcaption", {}, ridgeNote(rows, shades.length ? word(tails) : "")));
}

/**
 * The axis reaches over all values; to an end of the flat tails where it is near (the nearest one
 * where all values are equal), and where all values of an exam lie beyond it.
 */
function ridgeRange(rows, low, high) {
  const known = rows.filter((row) => row.low !== null);
  if (!known.length) return [0, 0];
  let least = Math.min(...known.map((row) => row.low));
  let most = Math.max(...known.map((row) => row.high));
  const ends = [low, high].filter((end) => end !== null);
  const near = most - least || Math.min(...ends.map((end) => Math.abs(end - least)));
  for (const end of ends) {
    const beyond = known.some((row) => (end === low ? row.high <= end : row.low >= end));
    if (!beyond && (end < least - near || end > most + near)) continue;
    [least, most] = [Math.min(least, end), Math.max(most, end)];
  }
  return [least, most];
}

function ridgeRow(row, base, x) {
  const group = drawn("g", {}, drawn("title", {}, ridgeWords(row)));
  const { width, left, right } = PLOT;
  const step = drawn("text", { x: left - 8, y: base - (row.moments ? 4 : 10), "text-anchor": "end" });
  step.append(`step ${grouped(row.step)}`);
  group.append(step);
  row.moments.split(", ").forEach((moment, index, { length }) => {
    const y = base - 4 - 13 * (length - index);
    group.append(drawn("text", { class: "moment", x: left - 8, y, "text-anchor": "end" }, moment));
  });
  group.append(drawn("line", { class: "base", x1: left, x2: width - right, y1: base, y2: base }));
  if (row.low === null) return group;
  const size = (row.high - row.low) / row.counts.length;
  const fullest = Math.max(...row.counts);
  row.counts.forEach((count, bin) => {
    if (!count) return;
    const from = x(row.low + bin * size);
    const wide = Math.max(x(row.low + (bin + 1) * size) - from, PLOT.least);
    const high = Math.max((count / fullest) * PLOT.bars, 1);
    group.append(drawn("rect", { class: "bar", x: from, y: base - high, width: wide, height: high }));
  });
  return group;
}

function ridgeWords({ step, moments, low, high, lost, values, counts }) {
  const name = `step ${grouped(step)}${moments ? ` (${moments})` : ""}`;
  const gone = lost ? `, ${plural(lost, "value")} not finite` : "";
  if (low === null) return `${name}: none finite${gone}`;
  if (low === high) return `${name}: ${plural(values, "value")}, all ${minus(figure(low))}${gone}`;
  const size = (high - low) / counts.length;
  const [from, to] = [0, 1].map((side) => low + (counts.indexOf(Math.max(...counts)) + side) * size);
  const range = `${plural(values, "value")} from ${figure(low)} to ${figure(high)}`;
  return minus(`${name}: ${range}, most between ${figure(from)} and ${figure(to)}${gone}`);
}

function ridgeNote(rows, tails) {
  const sizes = rows.map((row) => row.values + row.lost);
  const [fewest, most] = [Math.min(...sizes), Math.max(...sizes)];
  const number = fewest === most ? grouped(most) : `${grouped(fewest)} to ${grouped(most)}`;
  const lost = rows.some((row) => row.lost) ? " Values that are not finite are left out." : "";
  return (
    `Histograms of a sample: ${number} values of z at each exam, evenly chosen over its batch, in ` +
    `${rows[0].counts.length} bins from the smallest to the largest.${lost}` +
    (tails ? ` Shaded: ${tails}.` : "")
  );
}

// -- mean and spread ----------------------------------------------------------------------------

/**
 * Mean and one standard deviation either side of it, at each exam that is known; of all examples
 * that are kept also the smallest and the largest.
 */
function spreadPlot(spreads) {
  const ends = spreads.flatMap(([, mean, wide, low, high]) => [
    low ?? mean - wide,
    high ?? mean + wide,
  ]);
  const [least, most] = [Math.min(...ends, 0), Math.max(...ends, 0)];
  const x = axisOf(least, most);
  const bottom = spreads.length * PLOT.row;
  const height = bottom + PLOT.axis;
  const plot = drawing("spreads", height, `Pre-activation: ${spreads.map(spreadWords).join("; ")}`);
  plot.append(drawn("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: bottom + 4 }));
  spreads.forEach((spread, index) => plot.append(...spreadRow(spread, index, x)));
  plot.append(...axisWords([0, least, most], x, height));
  const note = "dot: mean; bar: one standard deviation either side; thin line: smallest to largest";
  return make("figure", {}, plot, make("figcaption", {}, `Of all examples: ${note}.`));
}

const spreadName = (step) => (step === null ? "last examples" : `step ${grouped(step)}`);

function spreadWords([step, mean, wide, low, high]) {
  const range = low === null ? "" : `, from ${figure(low)} to ${figure(high)}`;
  const words = `${spreadName(step)}: mean ${figure(mean)}, standard deviation ${figure(wide)}`;
  return minus(words + range);
}

function spreadRow(spread, index, x) {
  const [step, mean, wide, low, high] = spread;
  const y = index * PLOT.row + PLOT.row / 2;
  const title = drawn("title", {}, spreadWords(spread));
  const bar = drawn(
    "rect",
    { x: x(mean - wide), y: y - 5, width: Math.max(x(mean + wide) - x(mean - wide), 1), height: 10 },
    title,
  );
  const name = drawn("text", { x: PLOT.left - 8, y: y + 4, "text-anchor": "end" });
  name.append(spreadName(step));
  const marks = [name, bar, drawn("circle", { cx: x(mean), cy: y, r: 3 })];
  if (low !== null)
    marks.splice(1, 0, drawn("line", { class: "range", x1: x(low), x2: x(high), y1: y, y2: y }));
  return marks;
}
