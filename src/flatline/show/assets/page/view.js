// What the reader looks at, shared by all pictures, and the small tools to show it.

/** Elements with attributes and children; text is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The reader's choices; those who listen are told whenever one changes. */
const view = {
  /** Kinds that are picked out; none means all. */
  kinds: new Set(),
  /** Index of the only site in the list of units, or null. */
  site: null,
  listeners: [],
  change(changes) {
    Object.assign(this, changes);
    for (const listener of this.listeners) listener();
  },
  toggleKind(kind) {
    const kinds = new Set(this.kinds);
    if (!kinds.delete(kind)) kinds.add(kind);
    this.change({ kinds });
  },
  picks(kind) {
    return this.kinds.size === 0 || this.kinds.has(kind);
  },
};

/** Ends what listens outside of the page's contents, when these are replaced and built anew. */
const left = new AbortController();
const leaving = { signal: left.signal };

// -- colours ------------------------------------------------------------------------------------

const probe = make("span", { hidden: true });
let colours = new Map();
const painters = [];

/** A colour of the theme as canvas understands it. */
function colour(name) {
  if (!colours.has(name)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(--${name})`;
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

/** Draws everything anew, in the colours that hold now. */
function repaint() {
  colours = new Map();
  for (const paint of painters) paint();
}

const shapes = data.kinds.map((kind) => new Path2D(kind.path));

/** Draws the mark of a kind into a square. */
function drawMark(context, kind, x, y, size) {
  context.save();
  context.translate(x, y);
  context.scale(size / 10, size / 10);
  context.fillStyle = colour(`kind-${slug(kind)}`);
  context.fill(shapes[kind], "evenodd");
  context.restore();
}

/** Fits a canvas to so many CSS pixels, sharp on any screen, and clears it. */
function prepare(canvas, width, height) {
  const ratio = Math.max(window.devicePixelRatio || 1, 1);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// -- what is said about the thing under the pointer or in focus -------------------------------

const tip = document.getElementById("tip");
const live = document.getElementById("live");

/** Shows words beside a point of the window. */
function showTip(words, x, y) {
  tip.textContent = words;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(x + 12, 4), document.documentElement.clientWidth - box.width - 4);
  const above = y + 20 + box.height > window.innerHeight;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${above ? y - box.height - 12 : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}

/** Tells those who cannot see the picture. */
function announce(words) {
  if (live.textContent !== words) live.textContent = words;
}

/** Copies words, and says on the button whether it worked. */
async function copy(words, button) {
  button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy by hand";
  }
  announce(button.textContent);
  setTimeout(() => (button.textContent = button.dataset.label), 2000);
}
