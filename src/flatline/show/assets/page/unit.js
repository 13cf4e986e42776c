// The card of one unit: what it is, its life, what moved it, where its pre-activation lay, and
// the sites before and after it.

// Taken from a drawing of the page, which names no address of its own.
const SVG = document.querySelector("svg")?.namespaceURI;
const PLOT = { width: 360, left: 96, right: 12, row: 24, axis: 20 };

/** All that is known about one unit. */
function unitCard(site, unit) {
  const kind = data.kinds[kindsOf(data.sites[site])[unit]];
  const life = data.lives.of[`${site}:${unit}`];
  const row = rowOf.get(`${site}:${unit}`);
  return make(
    "div",
    { class: "unit-card" },
    make("p", {}, make("b", {}, unitName(site, unit)), ` is ${kind.name}: ${kind.meaning}.`),
    ...(life?.why ? [make("p", {}, life.why.map(word).join(" "))] : []),
    ...(row === undefined ? [] : [unitFacts(row)]),
    make(
      "div",
      { class: "parts" },
      ...(life ? [part("Life", lifeTable(life))] : []),
      make(
        "div",
        {},
        ...(life?.z.length ? [part("Pre-activation z at the exams", spreadPlot(life.z))] : []),
        ...(life?.ways ? [part("What moved its mean z", wayTable(life.ways))] : []),
        ...neighbourParts(site),
      ),
    ),
    ...explainCommand(site, unit),
  );
}

const word = (index) => data.lives.words[index];
const part = (title, ...body) => make("div", {}, make("h4", {}, title), ...body);

function unitFacts(row) {
  const list = make("dl", { class: "facts" });
  const facts = [
    ["since", "since"],
    ["cause", "cause"],
    ["examples", "examples"],
    ["fires on", "fires"],
    ["margin", "margin"],
  ];
  for (const [name, column] of facts) {
    const value = said(column, row);
    if (value) list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  }
  return list;
}

function lifeTable(life) {
  const body = make("tbody");
  for (const [step, event, words] of life.story) {
    body.append(
      make(
        "tr",
        {},
        make("td", { class: "number" }, `step ${grouped(step)}`),
        make("td", {}, make("b", {}, word(event)), ` ${word(words)}`),
      ),
    );
  }
  return make("table", { class: "life" }, body);
}

/** How each term moved the mean of z, since the first exam and since the one before. */
function wayTable(ways) {
  const rows = ["bias", "weight", "input", "together", "mean z"].map((name, index) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, name),
      ...ways.map((way) => make("td", { class: "number" }, word(way[index + 2]))),
    ),
  );
  const heads = ways.map(([start, end]) =>
    make("th", { scope: "col", class: "number" }, `step ${grouped(start)}–${grouped(end)}`),
  );
  const head = make("tr", {}, make("td", {}), ...heads);
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function neighbourParts(site) {
  const [above, below] = data.lives.sites[site] ?? [[], []];
  const list = (found) =>
    make(
      "ul",
      { class: "plain" },
      ...found.map(([index, words]) =>
        make("li", {}, make("a", { href: `#site-${index}`, onclick: () => reveal(index) }, words)),
      ),
    );
  return [
    ["Reads", above],
    ["Read by", below],
  ]
    .filter(([, found]) => found.length)
    .map(([title, found]) => part(title, list(found)));
}

/** Shows the row of a site that was left out as less affected. */
function reveal(site) {
  pictures[site].element.hidden = false;
}

function explainCommand(site, unit) {
  const target = unitName(site, unit);
  if (!data.lives.explain || !/^[\w.#/:-]+$/.test(target)) return [];
  const [command, store] = data.lives.explain;
  const words = [command, target, store].filter(Boolean).join(" ");
  return [make("p", { class: "command" }, ...copyable(words))];
}

/** A command or a line of code with its button. */
function copyable(words) {
  const button = make(
    "button",
    { type: "button", "aria-label": `Copy ${words}`, onclick: () => copy(words, button) },
    "Copy",
  );
  return [make("code", {}, words), " ", button];
}

// -- where z lay --------------------------------------------------------------------------------

/**
 * Mean and one standard deviation either side of it, at each exam that is known; of all examples
 * that are kept also the smallest and the largest. Runs keep no histogram of z.
 */
function spreadPlot(spreads) {
  const { width, left, right, row, axis } = PLOT;
  const ends = spreads.flatMap(([, mean, wide, low, high]) => [
    low ?? mean - wide,
    high ?? mean + wide,
  ]);
  const [least, most] = [Math.min(...ends, 0), Math.max(...ends, 0)];
  const x = (value) => left + ((value - least) / (most - least || 1)) * (width - left - right);
  const height = spreads.length * row + axis;
  const words = spreads.map(spreadWords).join("; ");
  const plot = drawn("svg", {
    class: "spreads",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `Pre-activation: ${words}`,
  });
  plot.append(drawn("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: height - axis + 4 }));
  spreads.forEach((spread, index) => plot.append(...spreadRow(spread, index, x)));
  plot.append(...spreadAxis(least, most, x, height));
  const note = "dot: mean; bar: one standard deviation either side; thin line: smallest to largest";
  return make("figure", {}, plot, make("figcaption", {}, `${note}. Runs keep no histogram of z.`));
}

const spreadName = (step) => (step === null ? "last examples" : `step ${grouped(step)}`);

function spreadWords([step, mean, wide, low, high]) {
  const range = low === null ? "" : `, from ${figure(low)} to ${figure(high)}`;
  return `${spreadName(step)}: mean ${figure(mean)}, standard deviation ${figure(wide)}${range}`;
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

function spreadAxis(least, most, x, height) {
  const ticks = [least, 0, most].filter((value, index) => {
    if (index === 1) return true;
    return Math.abs(x(value) - x(0)) > 40;
  });
  return ticks.map((value) =>
    drawn("text", { x: x(value), y: height - 4, "text-anchor": "middle" }, figure(value).replace("-", "−")),
  );
}

/** An element of a drawing. */
function drawn(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
