// What the reader chose and looks at, kept while the page's contents are replaced.
// Runs at the end of the page's own scripts, in their scope.

const main = document.querySelector("main");

/** The way to an element from the nearest one around it that has an id. */
function pathTo(element) {
  const steps = [];
  let at = element;
  while (at && !at.id) {
    if (at === main || !at.parentElement) return null;
    steps.unshift([...at.parentElement.children].indexOf(at));
    at = at.parentElement;
  }
  return at && { id: at.id, steps, tag: element.tagName };
}

function find(path) {
  let at = path && document.getElementById(path.id);
  for (const step of path?.steps ?? []) at = at?.children[step];
  return at?.tagName === path?.tag ? at : null;
}

/** What must not move: what has the focus, where it can be seen, else what begins near the top. */
function anchor() {
  const edge = Math.max(document.querySelector("header.top").getBoundingClientRect().bottom, 0);
  const { activeElement } = document;
  const focused = main.contains(activeElement) && activeElement.getBoundingClientRect();
  if (focused && focused.bottom > edge && focused.top < innerHeight)
    return { path: pathTo(activeElement), top: focused.top };
  let found = null;
  for (const part of main.querySelectorAll("[id], .chart")) {
    const { top, height } = part.getBoundingClientRect();
    const away = Math.abs(top - edge);
    if (height && !(away >= found?.away)) found = { path: pathTo(part), top, away };
  }
  return found;
}

function keepPicture(picture) {
  const [first] = picture.span(picture.focus);
  return [picture.site.name, { first, open: Boolean(picture.card) }];
}

/** What is typed into the search for sites, which is then taken back: what it hid is not hidden. */
function takeSearch() {
  const field = document.getElementById("site-search");
  if (!field) return null;
  const { value, selectionStart, selectionEnd } = field;
  search("");
  return { value, caret: [selectionStart, selectionEnd] };
}

function search(words) {
  const field = document.getElementById("site-search");
  if (!field) return;
  field.value = words;
  field.dispatchEvent(new Event("input"));
}

function keep() {
  const place = anchor();
  const searched = takeSearch();
  const { activeElement } = document;
  const [...scrolled] = main.querySelectorAll(".scroll");
  const [...opened] = main.querySelectorAll("details[open]");
  return {
    kinds: [...view.kinds].map((kind) => data.kinds[kind].name),
    site: view.site === null ? null : data.sites[view.site].name,
    pictures: new Map(pictures.filter(({ width }) => width).map(keepPicture)),
    address: location.href,
    all: document.getElementById("all-sites")?.hidden,
    shown: pictures.filter(({ element }) => !element.hidden).map(({ site }) => site.name),
    range: clock.range === WHOLE ? null : clock.range,
    step: clock.step,
    page: units?.page,
    opened: opened.map(pathTo),
    scrolled: scrolled.map((region) => [pathTo(region), region.scrollLeft]),
    focus: main.contains(activeElement) ? pathTo(activeElement) : null,
    anchor: place,
    searched,
  };
}

function restorePictures() {
  for (const { element, site } of pictures)
    if (kept.all || kept.shown.includes(site.name)) element.hidden = false;
  if (kept.all) document.getElementById("all-sites")?.setAttribute("hidden", "");
  for (const picture of pictures) {
    const was = kept.pictures.get(picture.site.name);
    picture.layout();
    if (!was || !picture.width) continue;
    picture.focus = Math.min(Math.floor(was.first / picture.per), picture.cells - 1);
    if (was.open) picture.open();
  }
  history.replaceState(null, "", kept.address); // cards that open name themselves in it
}

function restoreChoices() {
  const site = data.sites.findIndex((one) => one.name === kept.site);
  const kinds = data.kinds.flatMap((one, kind) => (kept.kinds.includes(one.name) ? [kind] : []));
  if (kinds.length || site >= 0)
    view.change({ kinds: new Set(kinds), site: site < 0 ? null : site });
  if (kept.page) units?.turn(Math.min(kept.page, Math.ceil(units.rows.length / PAGE) - 1));
  if (kept.range) clock.zoom(...kept.range);
  if (kept.step !== null) clock.look(kept.step);
}

function restorePlace() {
  for (const [path, left] of kept.scrolled) find(path)?.scrollTo({ left, behavior: "instant" });
  const part = kept.anchor && find(kept.anchor.path);
  if (!part) return;
  const top = part.getBoundingClientRect().top - kept.anchor.top;
  scrollBy({ top, behavior: "instant" });
}

function restore() {
  for (const path of kept.opened) find(path)?.setAttribute("open", "");
  restorePictures();
  restoreChoices();
  repaint(); // at once, not when sizes are observed: the place depends on all heights
  if (kept.searched) {
    search(kept.searched.value);
    document.getElementById("site-search")?.setSelectionRange(...kept.searched.caret);
  }
  find(kept.focus)?.focus({ preventScroll: true });
  queueMicrotask(restorePlace); // after the plots, which take their size in one
}

if (kept) restore();

return {
  keep,
  leave() {
    left.abort();
    probe.remove();
  },
};
