// The network as a picture: for each site a grid of its units, or columns of many where it is wide.

const CELL = 13;
const NARROW_CELL = 9;
const LINES = 6;
const COLUMN = 10;
const COLUMN_HEIGHT = 44;

/** A site's picture: layout, drawing, pointer, keys. */
class Picture {
  constructor(index, element) {
    this.index = index;
    this.site = data.sites[index];
    this.holder = element.querySelector(".picture");
    this.element = element;
    this.focus = 0;
    this.focused = false;
    const states = element.querySelector(".states").textContent;
    this.canvas = make("canvas", {
      class: "units",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "picture of units",
      "aria-label": `Units of site ${this.site.name}: ${states}. Arrow keys move, Enter opens.`,
    });
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", hideTip);
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("focus", () => this.setFocused(true));
    this.canvas.addEventListener("blur", () => this.setFocused(false));
    this.holder.replaceChildren(this.canvas);
    new ResizeObserver(() => this.layout()).observe(this.holder);
    painters.push(() => this.layout(true));
    view.listeners.push(() => this.draw());
  }

  layout(anew = false) {
    const width = Math.floor(this.holder.clientWidth);
    if (width === 0 || (width === this.width && !anew)) return;
    this.width = width;
    const cell = width < 480 ? NARROW_CELL : CELL;
    const most = Math.max(Math.floor(width / cell), 1);
    const lines = Math.max(Math.ceil(this.site.units / most), 1);
    this.dense = lines > LINES;
    if (this.dense) {
      this.per = Math.ceil(this.site.units / Math.ceil(width / COLUMN));
      this.columns = Math.ceil(this.site.units / this.per);
      this.cell = width / this.columns;
      this.height = COLUMN_HEIGHT;
    } else {
      this.per = 1;
      this.columns = Math.ceil(this.site.units / lines);
      this.cell = cell;
      this.height = lines * cell;
    }
    this.cells = Math.ceil(this.site.units / this.per);
    this.focus = Math.min(this.focus, this.cells - 1);
    // For tests and tools: how many marks are drawn.
    this.canvas.dataset.marks = this.cells;
    this.draw();
  }

  draw() {
    if (!this.width) return;
    const context = prepare(this.canvas, this.width, this.height);
    if (this.dense) this.drawColumns(context);
    else this.drawUnits(context);
    if (this.focused) this.drawFocus(context);
  }

  drawUnits(context) {
    const kinds = kindsOf(this.site);
    const size = this.cell - (this.cell > 10 ? 2 : 1);
    const ground = colour("cell");
    for (let unit = 0; unit < this.site.units; unit++) {
      const [x, y] = this.corner(unit);
      context.globalAlpha = view.picks(kinds[unit]) ? 1 : 0.15;
      context.fillStyle = ground;
      context.fillRect(x, y, size, size);
      drawMark(context, kinds[unit], x, y, size);
    }
    context.globalAlpha = 1;
  }

  /** Each column stands for `per` units side by side, stacked by kind. */
  drawColumns(context) {
    for (let cell = 0; cell < this.cells; cell++) {
      const counts = countKinds(this.site, ...this.span(cell));
      const total = counts.reduce((a, b) => a + b);
      const least = 2;
      const spare = this.height - least * counts.filter(Boolean).length;
      let bottom = this.height;
      counts.forEach((count, kind) => {
        if (!count) return;
        const height = least + (spare * count) / total;
        context.globalAlpha = view.picks(kind) ? 1 : 0.15;
        context.fillStyle = colour(`kind-${slug(kind)}`);
        context.fillRect(cell * this.cell, bottom - height, this.cell - 1, height);
        bottom -= height;
      });
    }
    context.globalAlpha = 1;
  }

  drawFocus(context) {
    const [x, y] = this.corner(this.focus);
    const height = this.dense ? this.height : this.cell;
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.strokeRect(x, Math.max(y - 1, 1), this.cell - 1, height - 2);
  }

  corner(cell) {
    return [(cell % this.columns) * this.cell, Math.floor(cell / this.columns) * this.cell];
  }

  /** First unit of a cell, and the one after its last. */
  span(cell) {
    return [cell * this.per, Math.min((cell + 1) * this.per, this.site.units)];
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.cell);
    const line = this.dense ? 0 : Math.floor((event.clientY - box.top) / this.cell);
    const cell = line * this.columns + column;
    const inside = column >= 0 && column < this.columns && line >= 0 && cell < this.cells;
    return inside ? cell : null;
  }

  /** What is known about a cell, in one line. */
  describe(cell) {
    const [first, end] = this.span(cell);
    if (end - first > 1) {
      const counts = countKinds(this.site, first, end);
      const parts = counts.map((n, kind) => n && `${grouped(n)} ${data.kinds[kind].name}`);
      const told = parts.filter(Boolean).reverse().join(", ");
      return `${unitName(this.index, first)}–${end - 1}: ${told}`;
    }
    const kind = data.kinds[kindsOf(this.site)[first]].name;
    const row = rowOf.get(`${this.index}:${first}`);
    const since = row === undefined ? "" : said("since", row);
    return `${unitName(this.index, first)}: ${kind}${since && kind !== since ? `, ${since}` : ""}`;
  }

  point(event) {
    const cell = this.at(event);
    if (cell === null) hideTip();
    else showTip(this.describe(cell), event.clientX, event.clientY);
  }

  click(event) {
    const cell = this.at(event);
    if (cell !== null) {
      this.move(cell);
      this.open();
    }
  }

  key(event) {
    const moves = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      Home: -this.focus,
      End: this.cells - 1 - this.focus,
    };
    if (event.key in moves) this.move(this.focus + moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.open();
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
  }

  move(cell) {
    if (cell < 0 || cell >= this.cells) return;
    this.focus = cell;
    this.draw();
    const words = this.describe(cell);
    announce(words);
    if (!this.focused) return;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = this.corner(cell);
    showTip(words, box.left + x + this.cell, box.top + y + this.cell - 8);
  }

  setFocused(focused) {
    this.focused = focused && this.canvas.matches(":focus-visible");
    if (this.focused) this.move(this.focus);
    else hideTip();
    this.draw();
  }

  /** Shows all that is known about the unit in focus under the picture. */
  open() {
    hideTip();
    this.close();
    const [unit, end] = this.span(this.focus);
    this.card = end - unit > 1 ? this.summary() : unitCard(this.index, unit);
    this.card.append(
      make(
        "button",
        { type: "button", onclick: () => this.listUnits() },
        "List the units of this site",
      ),
      make("button", { type: "button", onclick: () => this.leave() }, "Close"),
    );
    this.element.append(this.card);
    if (end - unit > 1) return;
    try {
      history.replaceState(null, "", `#unit=${this.index}:${unit}`);
    } catch {
      // A page that is shown inside another has no address of its own.
    }
  }

  summary() {
    return make("div", { class: "unit-card" }, make("p", {}, this.describe(this.focus)));
  }

  listUnits() {
    view.change({ site: this.index });
    document.getElementById("units")?.scrollIntoView();
  }

  close() {
    this.card?.remove();
    this.card = null;
  }

  /** Closes the card and gives the focus back to the picture. */
  leave() {
    this.close();
    this.canvas.focus();
  }

  /** Brings a unit into focus from elsewhere. */
  show(unit) {
    this.element.hidden = false;
    this.layout();
    this.canvas.focus({ preventScroll: true });
    this.move(Math.floor(unit / this.per));
    this.open();
    this.element.scrollIntoView({ block: "center" });
  }
}
