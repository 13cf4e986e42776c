// Deaths and metrics over the steps, one plot below the other, with one cursor.

const HEIGHT = 132;
const LOW = 84;
const STEP_AXIS = 34;
const FONT = "12px system-ui, sans-serif";

/** One plot of uPlot that follows the clock. */
class Chart {
  /**
   * `options` holds the height, whether this is the last plot, the range of its values, its line,
   * and what is drawn under and over it.
   */
  constructor(stack, title, series, options) {
    this.series = series;
    this.options = options;
    this.body = make("div", { class: "plot" });
    this.holder = make(
      "div",
      { class: "chart" },
      make("h3", { class: "plot-title" }, title),
      this.body,
    );
    stack.append(this.holder);
    painters.push(() => this.build(true));
    clock.listeners.push(() => this.follow());
    new ResizeObserver(() => this.build()).observe(this.holder);
    leaving.signal.addEventListener("abort", () => this.plot?.destroy());
  }

  build(anew = false) {
    const width = Math.floor(this.holder.clientWidth);
    if (width === 0 || (width === this.width && !anew)) return;
    this.width = width;
    this.plot?.destroy();
    this.plot = new uPlot(this.layout(width), this.series, this.body);
    this.plot.over.addEventListener("dblclick", () => clock.zoom(...WHOLE));
    // For tests and tools: how many marks are drawn.
    this.body.dataset.marks = this.options.marks;
    this.range = clock.range;
    this.follow();
  }

  layout(width) {
    const { height, last, values, line, points, under, over } = this.options;
    return {
      width,
      height: height + (last ? STEP_AXIS : 0),
      padding: [6, RIGHT, last ? 0 : 6, 0],
      legend: { show: false },
      scales: { x: { time: false, range: () => clock.range }, y: values.scale },
      axes: [
        { ...this.axis(stepWords), show: last, size: STEP_AXIS, space: 60 },
        { ...this.axis(valueWords), ...values.axis, size: gutter(width), space: 26 },
      ],
      series: [{}, line()],
      cursor: {
        drag: { x: true, y: false, setScale: false },
        y: false,
        points: { show: points },
      },
      hooks: {
        drawClear: [under],
        draw: [over],
        setCursor: [(plot) => this.cursorMoved(plot)],
        setSelect: [(plot) => this.selected(plot)],
      },
    };
  }

  axis(values) {
    const grid = { stroke: colour("line"), width: 1 };
    return { stroke: colour("soft"), grid, ticks: { show: false }, font: FONT, values };
  }

  cursorMoved(plot) {
    if (this.following) return;
    const { left } = plot.cursor;
    const outside = left === null || left < 0;
    clock.look(outside ? null : Math.max(0, Math.floor(plot.posToVal(left, "x"))));
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [first, end] = [left, left + width].map((x) => Math.round(plot.posToVal(x, "x")));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    clock.zoom(first, end);
  }

  follow() {
    const { plot } = this;
    if (!plot) return;
    this.following = true;
    if (this.range !== clock.range) {
      this.range = clock.range;
      plot.setScale("x", { min: clock.range[0], max: clock.range[1] });
    }
    const left = clock.step === null ? -10 : plot.valToPos(clock.step + 0.5, "x");
    plot.setCursor({ left, top: 0 });
    this.following = false;
  }
}

const stepWords = (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? grouped(tick) : ""));
const valueWords = (_, ticks) => ticks.map((tick) => (tick === null ? "" : figure(tick)));
const nothing = () => {};

// -- deaths -------------------------------------------------------------------------------------

function deathsChart(stack, last) {
  const steps = deathsByBin.map((_, bin) => bin * data.bins.size);
  const each = data.bins.size === 1 ? "each step" : `each ${grouped(data.bins.size)} steps`;
  return new Chart(stack, `Deaths in ${each}; ▴ an exam`, [steps, deathsByBin], {
    height: HEIGHT,
    last,
    values: {
      // Room below 0 for the exams.
      scale: { range: (_, __, most) => [-Math.max(most, 1) / 8, Math.max(most, 1) * 1.05] },
      axis: { filter: (_, ticks) => ticks.map((tick) => (tick < 0 ? null : tick)) },
    },
    line: () => ({
      fill: colour("kind-dead"),
      width: 0,
      paths: uPlot.paths.bars({ size: [1, Infinity, 2], align: 1 }),
      points: { show: false },
    }),
    points: false,
    under: nothing,
    over: tickExams,
    marks: deathsByBin.filter(Boolean).length,
  });
}

/** Below the deaths, where exams were. */
function tickExams(plot) {
  const { ctx, bbox } = plot;
  const size = 3 * uPlot.pxRatio;
  const bottom = bbox.top + bbox.height;
  ctx.save();
  ctx.fillStyle = colour("accent");
  for (const step of data.exams) {
    if (step < clock.range[0] || step >= clock.range[1]) continue;
    const x = plot.valToPos(step + 0.5, "x", true);
    ctx.beginPath();
    ctx.moveTo(x, bottom - 2 * size);
    ctx.lineTo(x + size, bottom);
    ctx.lineTo(x - size, bottom);
    ctx.fill();
  }
  ctx.restore();
}

/** Behind a metric, where units died: the more, the darker. */
function shadeDeaths(plot) {
  const { ctx, bbox } = plot;
  const most = Math.max(...deathsByBin, 1);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colour("kind-dead");
  deathsByBin.forEach((died, bin) => {
    if (!died) return;
    const left = plot.valToPos(bin * data.bins.size, "x", true);
    const right = plot.valToPos((bin + 1) * data.bins.size, "x", true);
    ctx.globalAlpha = 0.06 + 0.24 * (died / most);
    ctx.fillRect(left, bbox.top, Math.max(right - left, 1.5), bbox.height);
  });
  ctx.restore();
}

// -- metrics ------------------------------------------------------------------------------------

function metricChart(stack, metric, last) {
  const wide = isWide(metric.values);
  const few = metric.steps.length <= 40;
  const title = metric.name + (wide ? " (logarithmic)" : "");
  return new Chart(stack, title, [metric.steps, metric.values], {
    height: metric.name === "loss" ? HEIGHT : LOW,
    last,
    values: wide ? LOGARITHMIC : { scale: { range: padded } },
    line: () => ({
      stroke: colour("accent"),
      width: 1.5,
      spanGaps: few,
      points: { show: few, size: 5, fill: colour("accent") },
    }),
    points: true,
    under: shadeDeaths,
    over: nothing,
    marks: metric.values.filter((value) => value !== null).length,
  });
}

/** Whether a metric is told apart better by its order of magnitude. */
function isWide(values) {
  const finite = values.filter((value) => value !== null);
  const low = Math.min(...finite);
  return low > 0 && Math.max(...finite) / low > 50;
}

/** A range with some air, also around a constant. */
function padded(_, low, high) {
  if (low === null) return [0, 1];
  const air = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - air, high + air];
}

const LOGARITHMIC = {
  scale: { distr: 3, range: (_, low, high) => (low === null ? [1, 10] : [low / 1.2, high * 1.2]) },
  axis: { splits: (_, __, low, high) => decades(low, high), filter: (_, ticks) => ticks },
};

/** Powers of ten in a range, and what lies between where there are few. */
function decades(low, high) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const steps = last - first > 3 ? [1] : [1, 3];
  const every = Math.ceil((last - first) / 6);
  const ticks = [];
  for (let power = first; power <= last; power += every) {
    for (const step of steps) ticks.push(step * 10 ** power);
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

// -- all of them --------------------------------------------------------------------------------

/** Builds all that is drawn over time. */
function drawCharts(holder) {
  const readout = make(
    "p",
    { class: "readout" },
    "Point at a plot to read its values; drag to zoom.",
  );
  const whole = make("button", { type: "button", hidden: true }, "Show the whole run");
  whole.addEventListener("click", () => clock.zoom(...WHOLE));
  const stack = make("div", {
    class: "stack",
    tabindex: 0,
    role: "application",
    "aria-label":
      "Plots over steps. Left and right move the cursor, plus and minus zoom, 0 shows the whole.",
    onkeydown: chartKey,
    onpointerleave: () => clock.look(null),
  });
  holder.append(make("div", { class: "reading" }, readout, whole), stack);
  const metrics = data.metrics.filter((metric) => metric.values.some((value) => value !== null));
  if (deathsByBin.some(Boolean)) {
    new HeatMap(stack);
    deathsChart(stack, metrics.length === 0);
  }
  metrics.forEach((metric, index) => metricChart(stack, metric, index === metrics.length - 1));
  clock.listeners.push(() => {
    whole.hidden = clock.range[0] === WHOLE[0] && clock.range[1] === WHOLE[1];
    if (clock.step !== null) readout.textContent = tellStep(clock.step);
  });
}

function chartKey(event) {
  if (event.target !== event.currentTarget) return;
  const { size } = data.bins;
  const [low, high] = clock.range;
  const now = clock.step ?? low;
  const quarter = Math.ceil((high - low) / 4);
  const moves = { ArrowLeft: now - size, ArrowRight: now + size, Home: low, End: high - 1 };
  if (event.key in moves) {
    clock.look(Math.min(Math.max(moves[event.key], low), high - 1));
    announce(tellStep(clock.step));
  } else if (event.key === "+") clock.zoom(now - quarter, now + quarter);
  else if (event.key === "-") clock.zoom(low - 2 * quarter, high + 2 * quarter);
  else if (event.key === "0" || event.key === "Escape") clock.zoom(...WHOLE);
  else return;
  event.preventDefault();
}
