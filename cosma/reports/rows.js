"use strict";
// Show only the rows that hold every word of the search field; click a column's head to sort by it.
const table = document.querySelector("#rows table");
const rows = [...table.tBodies[0].rows];
const words = rows.map((row) => row.textContent.toLowerCase());
const find = document.getElementById("find");

function filter() {
  const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  rows.forEach((row, i) => {
    row.hidden = !wanted.every((word) => words[i].includes(word));
    count += !row.hidden;
  });
  document.getElementById("found").textContent = count + " of " + rows.length;
}

function value(row, column) {
  const text = row.cells[column].textContent;
  const number = parseFloat(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text : number;
}

[...table.tHead.rows[0].cells].forEach((head, column) => {
  let up = -1;
  const button = document.createElement("button");
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    up = -up;
    [...rows]
      .sort((a, b) => {
        const x = value(a, column), y = value(b, column);
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        return up * (x < y ? -1 : x > y ? 1 : 0);
      })
      .forEach((row) => table.tBodies[0].append(row));
  });
});
// One matrix at a time, the chosen one.
const kind = document.getElementById("kind");

function choose() {
  document.querySelectorAll("figure.matrix").forEach((figure, i) => { figure.hidden = i !== kind.selectedIndex; });
}

if (kind) {
  kind.addEventListener("change", choose);
  choose();
}
find.addEventListener("input", filter);
filter();
