"use strict";
for (const section of document.querySelectorAll("section.board")) {
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const find = section.querySelector("input[type=search]");
  const pick = section.querySelector("select");
  const beside = section.querySelector("input[type=checkbox]");
  const status = section.querySelector("output");
  section.querySelector(".controls").hidden = false;

  const value = (row, column) => {
    const text = row.cells[column].dataset.sort;
    return heads[column].dataset.kind === "text" ? text : text === "" ? null : Number(text);
  };

  const sort = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    const order = rows.map((row, index) => [value(row, column), index, row]);
    order.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;  // what is absent stays last
      const difference = typeof a === "string" ? a.localeCompare(b) : a - b;
      return sign * difference || i - j;
    });
    body.append(...order.map(([, , row]) => row));
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
  };

  const tell = () => {
    const shown = rows.filter((row) => !row.hidden).length;
    const sorted = heads.find((head) => head.hasAttribute("aria-sort"));
    status.textContent = `${shown} of ${rows.length} models, sorted by ${sorted.dataset.name}, ${sorted.getAttribute("aria-sort")}`;
  };

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      sort(column, now === first ? other : first);
      tell();
    });
  });

  const filter = () => {
    const wanted = find.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].dataset.sort.toLowerCase().includes(wanted);
    tell();
  };

  const choose = () => {
    heads.forEach((head, column) => {
      const hide = column > 0 && pick.value !== "" && String(column) !== pick.value;
      head.hidden = hide;
      for (const row of rows) row.cells[column].hidden = hide;
    });
    if (pick.value !== "") {
      const head = heads[Number(pick.value)];
      sort(Number(pick.value), head.dataset.first);
    }
    tell();
  };

  find.addEventListener("input", filter);
  pick.addEventListener("change", choose);
  if (beside) beside.addEventListener("change", () => table.classList.toggle("no-published", !beside.checked));
  if (window.matchMedia("(max-width: 40rem)").matches && heads.length > 4) {
    pick.value = pick.dataset.narrow;  // one column at a time fits a phone; all of them can be chosen and scrolled
    choose();
  }
  filter();
}
