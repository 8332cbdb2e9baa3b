// Headings sort their table; the page is complete without this
(function () {
  "use strict";
  function keyOf(row, column) {
    var cell = row.cells[column];
    if (!cell.hasAttribute("data-v")) return cell.textContent.trim();
    var value = cell.getAttribute("data-v");
    return value === "" ? null : Number(value);
  }
  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  function sortBy(table, heading, column) {
    var up = heading.getAttribute("aria-sort") !== "ascending";
    var body = table.tBodies[0];
    var rows = Array.from(body.rows).map(function (row, i) {
      return { row: row, i: i, key: keyOf(row, column) };
    });
    rows.sort(function (a, b) {
      if (a.key === null || b.key === null) // gaps stay last
        return (a.key === null) - (b.key === null) || a.i - b.i;
      return (up ? 1 : -1) * compare(a.key, b.key) || a.i - b.i;
    });
    rows.forEach(function (one) { body.appendChild(one.row); });
    Array.from(table.tHead.rows[0].cells).forEach(function (cell) {
      cell.setAttribute("aria-sort", "none");
    });
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  }
  document.querySelectorAll("table.sort").forEach(function (table) {
    if (!table.tHead || table.tBodies[0].rows.length < 3) return;
    Array.from(table.tHead.rows[0].cells).forEach(function (heading, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (heading.firstChild) button.appendChild(heading.firstChild);
      heading.appendChild(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () { sortBy(table, heading, column); });
    });
  });
  function hints() {
    document.querySelectorAll(".wrap.wide").forEach(function (wrap) {
      var said = wrap.previousElementSibling;
      var hint = said && said.querySelector(".hint");
      if (!hint || !wrap.clientWidth) return;
      hint.hidden = wrap.scrollWidth <= wrap.clientWidth;
      hint.classList.toggle("over", !hint.hidden);
    });
  }
  hints();
  window.addEventListener("resize", hints);
  // On a narrow screen the findings come before a long list of contents
  var contents = document.querySelector("nav details");
  if (contents && window.matchMedia("(max-width: 700px)").matches) contents.open = false;
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details.print").forEach(function (one) { one.open = true; });
  });
})();
