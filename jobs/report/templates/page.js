"use strict";
// Sorts, filters and copies the page's tables; the page reads the same without it.
function number(text) {
  const found = /^[≥\s]*(-?[\d.,]+)\s?([kMGT%]?)/.exec(text);
  const unit = { "": 1, "%": 0.01, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  return found ? parseFloat(found[1].replace(/,/g, "")) * unit[found[2]] : NaN;
}
function cells(row) {
  return [...row.cells].map((cell) => cell.textContent.trim());
}
function csv(table) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  return [...table.rows].filter((row) => !row.hidden).map((row) => cells(row).map(quoted).join(",")).join("\n");
}
function sort(table, column, heading) {
  const down = heading.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.ariaSort = down ? "descending" : "ascending";
  const key = (row) => cells(row)[column];
  const order = (a, b) => {
    const [x, y] = [number(key(a)), number(key(b))];
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // rows without a number come last
    return (isNaN(x) ? key(a).localeCompare(key(b)) : x - y) * (down ? -1 : 1);
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(order));
}
for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = document.createElement("button");
    button.textContent = heading.textContent;
    button.onclick = () => sort(table, column, heading);
    heading.replaceChildren(button);
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  const copy = document.createElement("button");
  copy.textContent = "Copy as CSV";
  copy.onclick = async () => {
    await navigator.clipboard.writeText(csv(table));
    copy.textContent = "Copied";
  };
  tools.append(copy);
  if (table.tBodies[0].rows.length > 6) {
    const filter = document.createElement("input");
    filter.placeholder = filter.ariaLabel = "Filter rows";
    filter.oninput = () => {
      for (const row of table.tBodies[0].rows)
        row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
    };
    tools.append(filter);
  }
  table.closest(".scroll").after(tools);
}
document.addEventListener("mousedown", (event) => {
  // A picture is enlarged while it has the focus; the next click on it takes the focus away.
  if (event.target.tagName !== "IMG" || event.target !== document.activeElement) return;
  event.preventDefault();
  event.target.blur();
});
// A link into a folded part opens it, also where the browser does not.
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
