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

// What is wider than a phone scrolls in its box there, and by keyboard too.
addEventListener("load", async () => {
  for (const image of document.querySelectorAll("article :is(figure, .cell_output) img")) {
    if (image.naturalWidth > 1.6 * image.naturalHeight) image.parentElement.classList.add("wide");
  }
  await window.MathJax?.startup?.promise;
  for (const box of document.querySelectorAll("div.math mjx-container, .wide")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
  // A phone shows no scroll bar, so a line below says that there is more.
  const boxes = "div.math mjx-container, .wide, .pst-scrollable-table-container";
  for (const box of document.querySelectorAll(boxes)) {
    if (box.scrollWidth <= box.clientWidth) continue;
    const hint = document.createElement("p");
    hint.className = "scroll-hint";
    hint.ariaHidden = "true";
    hint.textContent = "↔ scroll sideways for more";
    (box.closest("div.math") ?? box).after(hint);
  }
});

// The list of references has roles that do not belong together (axe: aria-required-children).
for (const list of document.querySelectorAll(".citation-list")) list.removeAttribute("role");

// The theme's folds of the table of contents have a picture and no name (axe: summary-name).
for (const fold of document.querySelectorAll("nav.bd-links details > summary")) {
  const chapter = fold.closest("li").querySelector("a");
  fold.setAttribute("aria-label", `The exercise of ${chapter.textContent.trim()}`);
}
