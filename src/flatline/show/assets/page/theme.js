// Runs before the first paint, so that no wrong theme flashes up.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const kept = localStorage.getItem("flatline-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch {
    // Storage may be closed to files; the system's theme holds then.
  }
})();
