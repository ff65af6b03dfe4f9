// The report's tables: a heading sorts, and sorts the other way when pressed again; words filter the rows.
"use strict";

function sortBy(heading) {
  const before = heading.getAttribute("aria-sort");
  const descending = heading.cellIndex === 0 ? before === "ascending" : before !== "descending";
  for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  sortAgain(heading.closest("table"));
}

function sortAgain(table) {
  const heading = table.querySelector("th[aria-sort=ascending], th[aria-sort=descending]");
  if (!heading) return;
  const descending = heading.getAttribute("aria-sort") === "descending";
  const value = (row) => row.cells[heading.cellIndex].dataset.value;
  const names = [...table.tBodies[0].rows].some((row) => Number.isNaN(Number(value(row))));
  const compare = (x, y) => (names ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y));
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what has no value stays last
    return descending ? compare(y, x) : compare(x, y);
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
}

const hasWords = (text, words) => words.every((word) => text.toLowerCase().includes(word));

// The plot of the same section goes along with the table of its policies.
function filterRows(field) {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const part = field.closest(".table");
  const rows = [...part.querySelector("tbody").rows];
  for (const row of rows) row.hidden = !hasWords(row.cells[0].dataset.value, words);
  const left = rows.filter((row) => !row.hidden).length;
  part.querySelector(".shown").textContent = words.length ? `${left} of ${rows.length} rows` : "";
  const plot = part.querySelector("[data-table=policies]") && plots.get(part.id.replace("policies", "chart"));
  if (!plot) return;
  plot.keeps = (point) => hasWords(`${point.family} ${point.policy ?? ""}`, words);
  plot.draw();
}

function startTable(table) {
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (heading) sortBy(heading);
  });
}

document.querySelectorAll("table.sortable").forEach(startTable);
for (const field of document.querySelectorAll("input[data-do=filter]")) {
  field.addEventListener("input", () => filterRows(field));
}
