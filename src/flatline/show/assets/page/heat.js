// A map of the dead share: a row per site that lost units, the steps from left to right.

const ROW = 20;
const ROWS = 40;

class HeatMap {
  constructor(stack) {
    const losers = data.sites
      .map((site, index) => {
        const dead = tolls(site);
        return { index, site, dead, share: dead.at(-1) / site.units };
      })
      .filter((row) => row.share > 0);
    const worst = [...losers].sort((a, b) => b.share - a.share);
    this.top = worst[0].share;
    this.rows = worst.slice(0, ROWS).sort((a, b) => a.index - b.index);
    this.line = 0;
    this.build(stack, losers.length - this.rows.length);
    // For tests and tools: how many marks are drawn.
    this.canvas.dataset.marks = this.rows.length * data.bins.number;
    new ResizeObserver(() => this.draw()).observe(this.holder);
    painters.push(() => this.draw());
    clock.listeners.push(() => this.follow());
  }

  build(stack, left) {
    const title = "Share of each site's units that have died";
    const more = left ? `; ${plural(left, "site")} with a smaller share left out` : "";
    this.scale = make("canvas", { class: "scale", "aria-hidden": "true" });
    this.cursor = make("div", { class: "heat-cursor", hidden: true });
    this.canvas = make("canvas", {
      class: "heat",
      tabindex: 0,
      role: "application",
      "aria-label": `${title}. Arrow keys move; the table below holds the same.`,
      onpointermove: (event) => this.point(event),
      onpointerleave: hideTip,
      onblur: hideTip,
      onkeydown: (event) => this.key(event),
    });
    this.holder = make(
      "div",
      { class: "chart" },
      make("h3", { class: "plot-title" }, title + more),
      make("p", { class: "scale-line" }, "0% ", this.scale, ` ${percent(this.top)}`),
      make("div", { class: "heat-body" }, this.canvas, this.cursor),
    );
    stack.append(this.holder);
  }

  draw() {
    this.width = Math.floor(this.holder.clientWidth);
    if (this.width === 0) return;
    this.drawScale();
    const context = prepare(this.canvas, this.width, this.rows.length * ROW);
    this.left = gutter(this.width);
    this.span = this.width - this.left - RIGHT;
    this.rows.forEach((row, line) => this.drawRow(context, row, line));
    this.range = clock.range;
  }

  follow() {
    if (this.range !== clock.range) this.draw();
    this.cursor.hidden = clock.step === null;
    if (clock.step !== null) this.cursor.style.left = `${this.x(clock.step + 0.5)}px`;
  }

  drawScale() {
    const context = prepare(this.scale, 80, 10);
    for (let x = 0; x < 80; x++) this.paint(context, x / 79, x, 0, 1, 10);
  }

  drawRow(context, row, line) {
    context.fillStyle = colour("soft");
    context.font = FONT;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.globalAlpha = 1;
    context.fillText(
      fitted(context, row.site.name, this.left - 10),
      this.left - 8,
      line * ROW + ROW / 2,
    );
    const [low, high] = clock.range;
    const { size, number } = data.bins;
    for (let bin = Math.floor(low / size); bin < Math.min(Math.ceil(high / size), number); bin++) {
      // Whole pixels: neighbours must neither overlap nor leave a gap. A share never falls, so
      // where several parts share a pixel the last may hide the others.
      const from = Math.max(Math.round(this.x(bin * size)), this.left);
      const to = Math.min(Math.round(this.x((bin + 1) * size)), this.left + this.span);
      const width = Math.max(to - from, 1);
      const strength = row.dead[bin] / row.site.units / this.top;
      this.paint(context, strength, from, line * ROW + 1, width, ROW - 2);
    }
  }

  paint(context, strength, x, y, width, height) {
    context.globalAlpha = 1;
    context.fillStyle = colour("cell");
    context.fillRect(x, y, width, height);
    context.globalAlpha = strength;
    context.fillStyle = colour("kind-dead");
    context.fillRect(x, y, width, height);
    context.globalAlpha = 1;
  }

  /** Where a step lies. */
  x(step) {
    const [low, high] = clock.range;
    return this.left + ((step - low) / (high - low)) * this.span;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [low, high] = clock.range;
    const step = Math.floor(
      low + ((event.clientX - box.left - this.left) / this.span) * (high - low),
    );
    const line = Math.floor((event.clientY - box.top) / ROW);
    if (step < low || step >= high || line < 0 || line >= this.rows.length) {
      hideTip();
      return;
    }
    this.line = line;
    clock.look(step);
    showTip(this.describe(), event.clientX, event.clientY);
  }

  describe() {
    const row = this.rows[this.line];
    const bin = Math.min(Math.floor(clock.step / data.bins.size), data.bins.number - 1);
    const [dead, units] = [row.dead[bin], row.site.units];
    const told = `${percent(dead / units)} dead (${grouped(dead)} of ${grouped(units)})`;
    return `${row.site.name}, ${binName(bin)}: ${told}`;
  }

  key(event) {
    const lines = { ArrowUp: -1, ArrowDown: 1 };
    const steps = { ArrowLeft: -data.bins.size, ArrowRight: data.bins.size };
    if (!(event.key in lines) && !(event.key in steps)) return;
    const [low, high] = clock.range;
    const last = this.rows.length - 1;
    this.line = Math.min(Math.max(this.line + (lines[event.key] ?? 0), 0), last);
    clock.look(Math.min(Math.max((clock.step ?? low) + (steps[event.key] ?? 0), low), high - 1));
    const box = this.canvas.getBoundingClientRect();
    announce(this.describe());
    showTip(this.describe(), box.left + this.x(clock.step), box.top + (this.line + 1) * ROW - 8);
    event.preventDefault();
  }
}

/** How many of a site's units are dead now and were so by the end of each part of the run. */
function tolls(site) {
  const dead = new Array(data.bins.number).fill(0);
  for (const [bin, died] of site.deaths) dead[bin] += died;
  for (let bin = 1; bin < dead.length; bin++) dead[bin] += dead[bin - 1];
  return dead;
}

/** A name without its beginning where it is too long: its end tells more. */
function fitted(context, name, width) {
  if (context.measureText(name).width <= width) return name;
  let first = 1;
  const tail = () => `…${name.slice(first)}`;
  while (first < name.length && context.measureText(tail()).width > width) first++;
  return tail();
}
