// On paper the page is light, and answers and code that are folded on the screen are open.
const root = document.documentElement;
let theme;
addEventListener("beforeprint", () => {
  theme = root.dataset.theme;
  root.dataset.theme = "light";
  for (const fold of document.querySelectorAll("article details")) fold.open = true;
});
addEventListener("afterprint", () => {
  root.dataset.theme = theme;
});

// A formula wider than its box scrolls there, by keyboard too.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("div.math mjx-container")) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
  }
});

// The list of references has roles that do not belong together (axe: aria-required-children).
for (const list of document.querySelectorAll(".citation-list")) list.removeAttribute("role");
