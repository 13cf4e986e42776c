// The card of one unit: what it is, its life, what moved it, where its pre-activation lay, and
// the sites before and after it.

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
        ...(life ? [part("Pre-activation z at the exams", ...whereItLay(site, life))] : []),
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
