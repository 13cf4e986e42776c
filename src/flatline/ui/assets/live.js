// Follows a run: when more of it is stored the page's contents are replaced and built anew.

/** A scroll that moves by itself, as to a part of the page, has ended after so long a rest. */
const SCROLL_MS = 150;

const bar = document.getElementById("following");
let page = build();
let shown = bar.dataset.stamp;
let wanted = shown;
let asking = false;
// What the reader is in the midst of.
let pressed = false;
let scrolling = null;

/** Whether new contents would break off what the reader selects. */
function busy() {
  const main = document.querySelector("main");
  const selection = getSelection();
  const selects = !selection.isCollapsed && main.contains(selection.anchorNode);
  const chooses = CSS.supports("selector(:open)") && main.querySelector("select:open") !== null;
  return pressed || selects || chooses;
}

function replace(next) {
  const kept = page.keep();
  page.leave();
  for (const part of ["header.top nav", "main", "#data"])
    document.querySelector(part).replaceWith(document.adoptNode(next.querySelector(part)));
  document.title = next.title;
  page = build(kept);
  const now = next.getElementById("following");
  shown = now.dataset.stamp;
  bar.dataset.stamp = shown;
  if ("events" in now.dataset) return;
  following.end();
  tellState(bar, "ended", now.textContent);
}

async function update() {
  if (asking || scrolling || wanted === shown) return;
  if (busy()) {
    tellState(bar, "held");
    return;
  }
  asking = true;
  const answered = wanted;
  try {
    const next = await ask(location.pathname + location.search);
    if (next && scrolling) return;
    if (next && busy()) {
      tellState(bar, "held");
      return;
    }
    if (next) {
      tellState(bar, "live");
      replace(next);
    }
    if (wanted === answered) wanted = shown;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // the server is gone, which the stream tells
    wanted = shown;
  } finally {
    asking = false;
  }
  update();
}

const following =
  "events" in bar.dataset &&
  follow(
    bar.dataset.events,
    (stamp) => {
      wanted = stamp;
      update();
    },
    (state, words) => tellState(bar, state, words),
  );

if (following) {
  document.addEventListener("pointerdown", ({ target }) => {
    pressed = target.closest("select") === null; // whose list may swallow the release
  });
  for (const released of ["pointerup", "pointercancel", "contextmenu"])
    document.addEventListener(released, () => {
      pressed = false;
      setTimeout(update); // what the release does comes first
    });
  document.addEventListener("scroll", () => {
    clearTimeout(scrolling);
    scrolling = setTimeout(() => {
      scrolling = null;
      update();
    }, SCROLL_MS);
  });
  for (const ended of ["selectionchange", "change", "focusout"])
    document.addEventListener(ended, () => setTimeout(update));
}
