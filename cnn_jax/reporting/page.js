"use strict";
const tip = document.getElementById("tip");
const show = (event) => {
  const mark = event.target.closest("[data-tip]");
  tip.style.display = mark ? "block" : "none";
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 4);
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${event.clientY + 14}px`;
};
// A tap of a finger causes no pointermove.
for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, show);

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        const number = parseFloat(cell.dataset.value ?? "");
        return Number.isNaN(number) ? cell.textContent : number;
      };
      const rows = [...table.tBodies[0].rows];
      rows.sort((x, y) => {
        const [a, b] = [key(x), key(y)];
        if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
        return typeof a === "number" ? -1 : 1;
      });
      if (down) rows.reverse();
      table.tBodies[0].append(...rows);
    });
  });
}

// Nobody can click on paper: a print shows all details.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
window.addEventListener("afterprint", () => {
  opened.forEach((details) => { details.open = false; });
});

for (const select of document.querySelectorAll("select[data-panels]")) {
  const show = () => {
    for (const panel of document.querySelectorAll(`[data-panel-of="${select.id}"]`)) {
      panel.hidden = panel.dataset.panel !== select.value;
    }
  };
  select.addEventListener("change", show);
  show();
}
