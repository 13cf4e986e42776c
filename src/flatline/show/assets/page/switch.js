// Light and dark.

const root = document.documentElement;
const isDark = () =>
  (root.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

/** Makes the button in the head switch the theme; what is drawn is then drawn anew. */
function addThemeSwitch(redraw, leaving) {
  const button = document.getElementById("theme");
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
  };
  button.hidden = false;
  const switched = () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("flatline-theme", root.dataset.theme);
    } catch {
      // Storage may be closed to files; the choice holds until the page is left.
    }
    label();
    redraw();
  };
  const followed = () => {
    label();
    redraw();
  };
  button.addEventListener("click", switched, leaving);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", followed, leaving);
  label();
}
