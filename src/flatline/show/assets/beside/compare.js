// Metrics of several runs in the same plots, with one cursor.

const data = JSON.parse(document.getElementById("data").textContent);
const live = document.getElementById("live");
const plots = [];
let rows = [];

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const COLOURS = 6;

/** Elements with attributes and children; text is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`);
const grouped = (number) => number.toLocaleString("en");

/** A colour of the theme as canvas understands it. */
function resolved(name) {
  const probe = make("span", { hidden: "" });
  probe.style.color = colour(name);
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** A number with four digits. */
function figure(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

/** Where every plot ends, so that steps stand below each other. */
const LAST = Math.max(...data.charts.flatMap(({ series }) => series.flatMap(({ steps }) => steps)));

/** The metrics of all runs by step: one list of steps, an empty frame, and each run's values. */
function aligned(series) {
  const frame = [
    [0, LAST],
    [null, null],
  ];
  return uPlot.join([frame, ...series.map(({ steps, values }) => [steps, values])]);
}

function draw(stack) {
  for (const plot of plots.splice(0)) plot.destroy();
  stack.replaceChildren();
  rows = data.charts.map((chart) => {
    const readout = make("span", { class: "readout" });
    const body = make("div", { class: "plot" });
    const title = make("h3", { class: "plot-title" }, `${chart.title} `, readout);
    stack.append(make("div", { class: "chart" }, title, body));
    const table = aligned(chart.series);
    body.dataset.marks = chart.series
      .flatMap(({ values }) => values)
      .filter((value) => value !== null).length;
    plots.push(new uPlot(layout(chart, stack.clientWidth), table, body));
    return { readout, table };
  });
}

function layout(chart, width) {
  const axis = {
    stroke: resolved("soft"),
    grid: { stroke: resolved("line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  return {
    width,
    height: 170,
    padding: [6, 14, 0, 0],
    legend: { show: false },
    scales: { x: { time: false }, y: chart.wide ? { distr: 3 } : {} },
    axes: [axis, { ...axis, ...(chart.wide ? DECADES : {}), size: 64, values: ticked }],
    series: [
      {},
      { show: false },
      ...chart.series.map((_, run) => ({
        stroke: resolved(`run-${run % COLOURS}`),
        width: 1.5,
        dash: DASHES[Math.floor(run / COLOURS) % DASHES.length],
        spanGaps: true,
        points: { show: false },
      })),
    ],
    cursor: { sync: { key: "steps" }, drag: { x: true, y: false } },
    hooks: { setCursor: [(plot) => tell(plot)] },
  };
}

const ticked = (_, ticks) => ticks.map((value) => (value === null ? "" : figure(value)));

/** One line of the grid per power of ten. */
const DECADES = {
  splits: (_, __, low, high) => {
    const ticks = [];
    for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++)
      ticks.push(10 ** power);
    return ticks;
  },
};

/** The values at a step, of each run its last one before it. */
function tell(plot) {
  const { idx } = plot.cursor;
  const row = rows[plots.indexOf(plot)];
  if (!row) return;
  if (idx === null || idx === undefined) {
    row.readout.textContent = "";
    return;
  }
  const [steps, , ...runs] = row.table;
  const said = runs.map((values, run) => {
    let at = idx;
    while (at >= 0 && (values[at] === null || values[at] === undefined)) at--;
    return `${data.runs[run]} ${at < 0 ? "–" : figure(values[at])}`;
  });
  row.readout.textContent = `step ${grouped(steps[idx])}: ${said.join(", ")}`;
}

/** Arrow keys move the cursor of all plots. */
function moveCursor(event) {
  const moves = { ArrowLeft: -1, ArrowRight: 1 };
  const [first] = plots;
  if (!(event.key in moves) || !first) return;
  const last = first.data[0].length - 1;
  const far = Math.max(Math.round(last / 100), 1);
  const at = Math.min(Math.max((first.cursor.idx ?? 0) + far * moves[event.key], 0), last);
  for (const plot of plots) {
    plot.setCursor({ left: plot.valToPos(first.data[0][at], "x"), top: 10 }, true, false);
  }
  live.textContent = rows.map((row) => row.readout.textContent).join("; ");
  event.preventDefault();
}

const holder = document.getElementById("charts");
const stack = make("div", {
  class: "stack",
  tabindex: "0",
  role: "application",
  "aria-label": "Plots over steps. Left and right move the cursor.",
});
stack.addEventListener("keydown", moveCursor);
holder?.append(stack);
const redraw = () => holder && draw(stack);
let drawnWidth;
if (holder) {
  new ResizeObserver(() => {
    if (stack.clientWidth === drawnWidth) return;
    drawnWidth = stack.clientWidth;
    redraw();
  }).observe(stack);
}
addThemeSwitch(redraw, {});
redraw();
root.dataset.ready = "";
