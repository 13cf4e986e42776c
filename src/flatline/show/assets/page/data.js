// The report's data, and how its columns are read.

const data = JSON.parse(document.getElementById("data").textContent);

/** Index of the kind of each unit of a site, decoded on first use. */
function kindsOf(site) {
  if (!site.decoded) {
    const bytes = atob(site.kinds);
    site.decoded = new Uint8Array(site.units);
    for (let unit = 0; unit < site.units; unit++) {
      site.decoded[unit] = (bytes.charCodeAt(unit >> 1) >> (4 * (unit & 1))) & 15;
    }
  }
  return site.decoded;
}

/** How many of the units from `first` to `end` are of each kind. */
function countKinds(site, first, end) {
  const kinds = kindsOf(site);
  const counts = new Array(data.kinds.length).fill(0);
  for (let unit = first; unit < end; unit++) counts[kinds[unit]]++;
  return counts;
}

const slug = (kind) => data.kinds[kind].name.replaceAll(" ", "-");
const grouped = (number) => number.toLocaleString("en");
const plural = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
const listed = data.units;
const said = (column, row) => listed[column].words[listed[column].index[row]];

/** Rows of the listed units by `site:unit`. */
const rowOf = new Map(listed.site.map((site, row) => [`${site}:${listed.unit[row]}`, row]));

/** Name of a unit, as the terminal writes it. */
const unitName = (site, unit) => `${data.sites[site].name}:${unit}`;

/** First and last step of a part of the run. */
function binSteps(bin) {
  const first = bin * data.bins.size;
  return [first, Math.max(first, Math.min(first + data.bins.size, data.bins.steps) - 1)];
}

/** The words for a part of the run. */
function binName(bin) {
  const [first, last] = binSteps(bin);
  return first === last ? `step ${grouped(first)}` : `steps ${grouped(first)}–${grouped(last)}`;
}

// Rounds halves as Python does, so that page and terminal agree.
const wholes = new Intl.NumberFormat("en", { maximumFractionDigits: 0, roundingMode: "halfEven" });
const digits = new Intl.NumberFormat("en", {
  maximumSignificantDigits: 2,
  roundingMode: "halfEven",
});

/** A share with two digits, written as in the terminal. */
function percent(share) {
  if (share >= 0.995 && share < 1) return ">99%";
  return `${(share >= 0.1 ? wholes : digits).format(share * 100)}%`;
}
