"use strict";
// Sorts tables, filters images, and recomputes everything that depends on the least score.
const all = (query, root = document) => [...root.querySelectorAll(query)];
const byId = (id) => document.getElementById(id);

function sortTable(head) {
  const table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentNode.children].indexOf(head);
  const falls = head.getAttribute("aria-sort") !== "descending";
  const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)], [m, n] = [Number(x), Number(y)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what has no value stays last
    const order = Number.isNaN(m) || Number.isNaN(n) ? y.localeCompare(x) : n - m;
    return falls ? order : -order;
  });
  all("th", head.parentNode).forEach((th) => th.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", falls ? "descending" : "ascending");
  body.append(...rows);
}

function filterShots() {
  const kind = byId("kind").value, name = byId("class").value;
  let shown = 0;
  for (const shot of all(".shot")) {
    const fits = (!kind || shot.dataset.kinds.split(" ").includes(kind)) &&
      (!name || shot.dataset.classes.split("\u001f").includes(name));
    shot.hidden = !fits;
    shown += fits;
  }
  byId("shown").textContent = `${shown} images`;
}

const share = (part, whole) => whole ? part / whole : NaN;
const text = (value) => Number.isFinite(value) ? value.toFixed(3) : "-";
const sum = (values) => values.reduce((a, b) => a + b, 0);

function counts(live, at) {
  const right = live.right[at], wrong = live.wrong[at], total = live.total;
  return [...live.names.map((name, k) => [name, right[k], wrong[k], total[k]]),
    ["all", sum(right), sum(wrong), sum(total)]];
}

function cell(row, value, tag = "td") {
  const made = document.createElement(tag);
  made.textContent = typeof value === "number" && !Number.isInteger(value) ? text(value) : value;
  if (typeof value === "number") made.dataset.value = Number.isNaN(value) ? "" : value;
  row.append(made);
  return made;
}

function showCounts(live, at) {
  const rows = counts(live, at), body = byId("live").tBodies[0];
  body.replaceChildren();
  for (const [name, right, wrong, total] of rows) {
    const row = body.insertRow();
    [name, share(right, right + wrong), share(right, total),
      share(2 * right, right + wrong + total), right, wrong, total - right]
      .forEach((value) => cell(row, value));
  }
  const [, right, wrong, total] = rows.at(-1);
  byId("precision").textContent = text(share(right, right + wrong));
  byId("recall").textContent = text(share(right, total));
  byId("f1").textContent = text(share(2 * right, right + wrong + total));
  byId("right").textContent = right;
  byId("wrong").textContent = wrong;
  byId("missed").textContent = total - right;
}

const LARGEST = 40; // classes of a confusion matrix that can be read

function showConfusion(live, at) {
  const table = byId("confusion");
  if (!table) return;
  const cells = new Map(live.confusion[at].map(([i, j, n]) => [`${i},${j}`, n]));
  table.replaceChildren();
  if (live.names.length > LARGEST) {
    const worst = live.confusion[at].filter(([i, j]) => i !== j).sort((a, b) => b[2] - a[2]);
    const head = table.createTHead().insertRow();
    ["is", "was called", live.unit].forEach((word) => cell(head, word, "th"));
    const body = table.createTBody();
    for (const [i, j, n] of worst.slice(0, LARGEST)) {
      const row = body.insertRow();
      [live.rows[i], live.columns[j], n].forEach((value) => cell(row, value));
    }
    return;
  }
  const head = table.createTHead().insertRow(), body = table.createTBody();
  cell(head, "is \u2193 \u00a0 was called \u2192", "th");
  live.columns.forEach((name) => cell(head, name, "th"));
  live.rows.forEach((name, i) => {
    const row = body.insertRow();
    cell(row, name);
    const total = sum(live.columns.map((_, j) => cells.get(`${i},${j}`) ?? 0));
    live.columns.forEach((column, j) => {
      const none = i === live.names.length && j === live.names.length;
      const n = cells.get(`${i},${j}`) ?? 0, made = cell(row, none ? "" : n);
      const depth = total ? n / total : 0;
      made.style.background = i === j ? `rgba(47,179,107,${depth})` : `rgba(229,72,77,${depth})`;
      made.title = none ? "" : `${name} called ${column}: ${n}`;
      if (i === j) made.className = "hit";
    });
  });
}

function start() {
  all("th[data-sort]").forEach((head) => head.addEventListener("click", () => sortTable(head)));
  if (byId("kind")) {
    ["kind", "class"].forEach((id) => byId(id).addEventListener("change", filterShots));
    filterShots();
  }
  const data = byId("data");
  if (!data) return;
  const live = JSON.parse(data.textContent), slider = byId("score");
  const show = () => {
    const at = Number(slider.value);
    byId("least").textContent = live.scores[at].toFixed(2);
    showCounts(live, at);
    showConfusion(live, at);
  };
  slider.addEventListener("input", show);
  show();
}

start();
