// The list of runs: its filter, its verdicts, and what is new in it.

addThemeSwitch(() => {}, {});

const LIST_MS = 1500;
const state = document.getElementById("following");
const filter = document.getElementById("filter");
const count = document.getElementById("count");
let shown = state.dataset.stamp;

const body = () => document.querySelector("#runs tbody");
const rows = () => [...(body()?.rows ?? [])];

// -- filter -------------------------------------------------------------------------------------

function pick() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of rows()) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    found += !row.hidden;
  }
  const all = rows().length;
  const noun = all === 1 ? "run" : "runs";
  const said = `${words.length ? `${found.toLocaleString("en")} of ` : ""}${all.toLocaleString("en")} ${noun}`;
  if (count.textContent !== said) count.textContent = said;
}

function filtered() {
  const address = new URL(location.href);
  if (filter.value) address.searchParams.set("q", filter.value);
  else address.searchParams.delete("q");
  history.replaceState(null, "", address);
  pick();
}

filter.value = new URL(location.href).searchParams.get("q") ?? "";
filter.addEventListener("input", filtered);
document.getElementById("filter-form").addEventListener("submit", (event) => event.preventDefault());

// -- verdicts: judging takes time, so only those in sight, one after the other -------------------

const waiting = new Set();
let judging = false;

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries)
    isIntersecting ? waiting.add(target) : waiting.delete(target);
  judge();
});

async function judge() {
  if (judging) return;
  judging = true;
  for (let cell; ([cell] = waiting) && cell; ) {
    waiting.delete(cell);
    sight.unobserve(cell);
    try {
      const answer = await fetch(cell.dataset.judge);
      const { verdict } = await answer.json();
      cell.textContent = verdict ?? "";
      if (verdict) cell.className = `verdict-${verdict}`;
    } catch {
      cell.textContent = ""; // the server is gone, or has nothing to say
    }
  }
  judging = false;
  if (filter.value) pick();
}

function watch() {
  for (const cell of document.querySelectorAll("[data-judge]")) sight.observe(cell);
}

// -- what is new --------------------------------------------------------------------------------

let served = new Map(rows().map((row) => [row.id, row.outerHTML]));

/** Puts new rows in place, and leaves those alone that are as they were. */
function renew(next) {
  const fresh = [...(next.querySelector("#runs tbody")?.rows ?? [])];
  if (!body() || !fresh.length) {
    const list = document.getElementById("list");
    list.replaceWith(document.adoptNode(next.getElementById("list")));
    served = new Map(rows().map((row) => [row.id, row.outerHTML]));
  } else {
    const was = new Map(rows().map((row) => [row.id, row]));
    const now = new Map(fresh.map((row) => [row.id, row.outerHTML]));
    const kept = fresh.map((row) => {
      const old = was.get(row.id);
      if (old && served.get(row.id) === row.outerHTML) return old;
      const focused = old?.contains(document.activeElement);
      old?.replaceWith(row);
      if (focused) row.querySelector("a").focus({ preventScroll: true });
      return row;
    });
    for (const [id, row] of was) if (!now.has(id)) row.remove();
    kept.forEach((row, place) => {
      if (body().rows[place] !== row) body().insertBefore(row, body().rows[place] ?? null);
    });
    served = now;
  }
  watch();
  pick();
}

let wanted = shown;
let asking = false;

async function update() {
  if (asking || wanted === shown) return;
  asking = true;
  const answered = wanted;
  try {
    const next = await ask("/");
    if (next) renew(next);
    shown = next?.getElementById("following").dataset.stamp ?? answered;
    if (wanted === answered) wanted = shown;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the server is gone, which the stream tells
    wanted = shown;
  }
  setTimeout(() => {
    asking = false;
    update();
  }, LIST_MS);
}

watch();
pick();
follow(
  "/events",
  (stamp) => {
    wanted = stamp;
    update();
  },
  (what, words) =>
    tellState(state, what, what === "trouble" && !body() ? "Waiting for the store" : words),
);
root.dataset.ready = "";
