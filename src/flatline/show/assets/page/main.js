// Puts the pictures into the page.

const pictures = [];
/** Sites up to which a field to find one is of no use. */
const FEW = 8;

function drawNetwork() {
  const rows = [...document.querySelectorAll(".site")];
  const more = document.getElementById("all-sites");
  rows.forEach((row, index) => {
    if ("less" in row.dataset) row.hidden = true;
    pictures.push(new Picture(index, row));
  });
  if (rows.length > FEW) addSiteSearch(rows, more);
  if (!more) return;
  more.hidden = false;
  more.addEventListener("click", () => {
    for (const row of rows) row.hidden = false;
    more.hidden = true;
    rows
      .find((row) => "less" in row.dataset)
      ?.querySelector("canvas")
      .focus();
  });
}

/** A field that leaves the sites whose name holds what is typed; without, the page as it was. */
function addSiteSearch(rows, more) {
  const count = make("span", { class: "note", role: "status" });
  const field = make("input", { id: "site-search", type: "search", autocomplete: "off" });
  let kept;
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    kept ??= { hidden: rows.map((row) => row.hidden), more: more?.hidden };
    const found = data.sites.map((site) => site.name.toLowerCase().includes(wanted));
    rows.forEach((row, index) => (row.hidden = wanted ? !found[index] : kept.hidden[index]));
    if (more) more.hidden = wanted !== "" || kept.more;
    count.textContent = wanted ? plural(found.filter(Boolean).length, "site") : "";
    if (!wanted) kept = undefined;
  });
  const label = make("label", { for: "site-search" }, "Find sites ");
  document
    .getElementById("sites")
    .before(make("div", { class: "filters", id: "site-filters" }, label, field, count));
}

/** Turns the legend into switches that pick out the units of a state. */
function drawLegend() {
  for (const entry of document.querySelectorAll("#legend li")) {
    const kind = data.kinds.findIndex((one) => one.name === entry.dataset.kind);
    const button = make("button", {
      type: "button",
      "aria-pressed": "false",
      title: data.kinds[kind].meaning,
      onclick: () => view.toggleKind(kind),
    });
    button.append(...entry.childNodes);
    entry.replaceChildren(button);
    view.listeners.push(() => button.setAttribute("aria-pressed", view.kinds.has(kind)));
  }
}

function addCopyButtons() {
  for (const code of document.querySelectorAll(".commands code, .command code")) {
    code.replaceWith(...copyable(code.textContent));
  }
}

/** Paper is white, whatever the screen is. */
function preparePrint() {
  let theme;
  const before = () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    root.dataset.print = "";
    repaint();
  };
  const after = () => {
    if (theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = theme;
    delete root.dataset.print;
    repaint();
  };
  addEventListener("beforeprint", before, leaving);
  addEventListener("afterprint", after, leaving);
}

/** Opens the unit that the address names, as `#unit=SITE:UNIT`. */
function openAddress() {
  const [, site, unit] = /^#unit=(\d+):(\d+)$/.exec(location.hash) ?? [];
  if (site !== undefined && Number(unit) < (data.sites[site]?.units ?? 0))
    pictures[site].show(Number(unit));
}

drawLegend();
drawNetwork();
const charts = document.getElementById("charts");
if (charts) drawCharts(charts);
const explorer = document.getElementById("explorer");
const units = explorer && listed.unit.length ? new Explorer(explorer) : null;
addCopyButtons();
addThemeSwitch(repaint, leaving);
preparePrint();
// On a page that is built anew, the reader may have gone elsewhere since.
if (!kept) openAddress();
addEventListener("hashchange", openAddress, leaving);
root.dataset.ready = "";
