// The list of runs: its filter, its verdicts, and what is new in it.

addThemeSwitch(() => {}, {});

const LIST_MS = 1500;
const state = document.getElementById("following");
const form = document.getElementById("filter-form");
const filter = document.getElementById("filter");
const count = document.getElementById("count");
let shown = state.dataset.stamp;

const rows = (page = document) => [...page.querySelectorAll("#runs tbody tr")];

// -- filter -------------------------------------------------------------------------------------

function pick() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of rows()) {
    const text = words.length ? row.textContent.toLowerCase() : "";
    row.hidden = !words.every((word) => text.includes(word));
    found += !row.hidden;
  }
  const all = rows().length;
  form.hidden = all === 0;
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
form.addEventListener("submit", (event) => event.preventDefault());

// -- comparison: boxes only where they are asked for, of so many rows --------------------------------

const choose = document.getElementById("choose");
const compare = document.getElementById("compare");
const chosen = new Set();
const SIDE_BY_SIDE = 12;

function link() {
  const ids = [...chosen].map((id) => ["id", id]);
  compare.href = `/compare?${new URLSearchParams(ids)}`;
  compare.textContent = `Compare ${chosen.size} runs`;
  compare.hidden = chosen.size < 2;
  const full = chosen.size >= SIDE_BY_SIDE;
  for (const box of document.querySelectorAll("#runs input")) box.disabled = full && !box.checked;
}

function addBox(row) {
  const name = row.querySelector("a");
  const id = new URL(name.href).searchParams.get("id");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = chosen.has(id);
  box.setAttribute("aria-label", `Compare ${name.textContent} ${id}`);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(id);
    else chosen.delete(id);
    link();
  });
  name.before(box, " ");
}

const chooses = () => choose.getAttribute("aria-pressed") === "true";

function offer() {
  const choosing = chooses();
  if (!choosing) chosen.clear();
  for (const row of rows()) {
    const box = row.querySelector("input");
    if (choosing && !box) addBox(row);
    else if (!choosing) box?.remove();
  }
  link();
}

choose.addEventListener("click", () => {
  choose.setAttribute("aria-pressed", !chooses());
  offer();
});

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
      delete cell.dataset.judge;
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

/** Puts new rows in place, and leaves those alone that are as they were. */
function renewRows(fresh) {
  const was = new Map(rows().map((row) => [row.id, row]));
  let following = null;
  for (const row of fresh.toReversed()) {
    const old = was.get(row.id);
    was.delete(row.id);
    if (old?.dataset.as === row.dataset.as) {
      following = old;
      continue;
    }
    const focused = old?.contains(document.activeElement) && document.activeElement.tagName;
    if (old) old.replaceWith(row);
    else if (following) following.before(row);
    else document.querySelector("#runs tbody:last-of-type").append(row);
    if (chooses()) addBox(row);
    if (focused) row.querySelector(focused).focus({ preventScroll: true });
    following = row;
  }
  for (const row of was.values()) row.remove();
}

function renew(next) {
  const fresh = rows(next);
  if (fresh.length && rows().length) renewRows(fresh);
  else document.getElementById("list").replaceWith(document.adoptNode(next.getElementById("list")));
  watch();
  pick();
  offer();
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
    tellState(state, what, what === "trouble" && !rows().length ? "Waiting for the store" : words),
);
root.dataset.ready = "";
