// The listed units one by one, by site and state.

const PAGE = 25;

class Explorer {
  constructor(holder) {
    this.page = 0;
    this.site = make(
      "select",
      { id: "site-filter", onchange: () => this.pick() },
      make("option", { value: "" }, "all sites"),
    );
    for (const index of new Set(listed.site))
      this.site.append(make("option", { value: index }, data.sites[index].name));
    this.kinds = make("div", { class: "filters", role: "group", "aria-label": "States" });
    for (const kind of [...new Set(listed.kind)].sort((a, b) => b - a))
      this.kinds.append(this.kindButton(kind));
    this.count = make("p", { class: "note", role: "status" });
    this.body = make("tbody");
    this.back = make("button", { type: "button", onclick: () => this.turn(-1) }, "Previous");
    this.on = make("button", { type: "button", onclick: () => this.turn(1) }, "Next");
    holder.append(
      make("h3", {}, "All units that are not healthy"),
      make(
        "div",
        { class: "filters" },
        make("label", { for: "site-filter" }, "Site "),
        this.site,
        this.kinds,
      ),
      this.count,
      make(
        "div",
        { class: "scroll", role: "region", "aria-label": "Units", tabindex: 0 },
        make("table", {}, make("thead", {}, this.head()), this.body),
      ),
      make("p", { class: "pager" }, this.back, this.on),
    );
    view.listeners.push(() => this.filter());
    this.filter();
  }

  kindButton(kind) {
    return make(
      "button",
      {
        type: "button",
        "data-kind": kind,
        "aria-pressed": "false",
        onclick: () => view.toggleKind(kind),
      },
      markOf(kind),
      ` ${data.kinds[kind].name}`,
    );
  }

  head() {
    const row = make("tr");
    const numbers = ["examples", "fires on", "margin"];
    for (const name of ["unit", "state", "since", ...numbers, "cause"]) {
      row.append(
        make("th", { scope: "col", class: numbers.includes(name) ? "number" : null }, name),
      );
    }
    return row;
  }

  pick() {
    view.change({ site: this.site.value === "" ? null : Number(this.site.value) });
  }

  filter() {
    const rows = listed.unit.map((_, row) => row);
    this.rows = rows.filter(
      (row) =>
        view.picks(listed.kind[row]) && (view.site === null || listed.site[row] === view.site),
    );
    this.page = 0;
    this.site.value = view.site ?? "";
    for (const button of this.kinds.children)
      button.setAttribute("aria-pressed", view.kinds.has(Number(button.dataset.kind)));
    this.fill();
  }

  turn(pages) {
    this.page += pages;
    this.fill();
  }

  fill() {
    const first = this.page * PAGE;
    const rows = this.rows.slice(first, first + PAGE);
    this.body.replaceChildren(...rows.map((row) => this.row(row)));
    const shown = rows.length ? `${grouped(first + 1)}–${grouped(first + rows.length)} of ` : "";
    this.count.textContent = shown + plural(this.rows.length, "unit");
    this.count.dataset.count = this.rows.length;
    this.back.disabled = this.page === 0;
    this.on.disabled = first + PAGE >= this.rows.length;
    this.back.parentElement.hidden = this.rows.length <= PAGE;
  }

  row(row) {
    const [site, unit, kind] = [listed.site[row], listed.unit[row], listed.kind[row]];
    const go = make(
      "button",
      { type: "button", class: "link", onclick: () => pictures[site].show(unit) },
      unitName(site, unit),
    );
    const cells = ["since", "examples", "fires", "margin", "cause"].map((column) =>
      make(
        "td",
        { class: ["since", "cause"].includes(column) ? null : "number" },
        said(column, row),
      ),
    );
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, go),
      make("td", {}, markOf(kind), ` ${data.kinds[kind].name}`),
      ...cells,
    );
  }
}

/** The mark of a kind, as it stands in the legend. */
function markOf(kind) {
  return document
    .querySelector(`#legend [data-kind="${data.kinds[kind].name}"] svg`)
    .cloneNode(true);
}
