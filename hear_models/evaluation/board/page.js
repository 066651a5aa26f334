"use strict";
// Sorting, filtering and the chosen column of every table stand in the address behind "#", so that a view can be shared.
const state = new URLSearchParams(location.hash.slice(1));
const remember = (key, value) => {
  if (value) state.set(key, value);
  else state.delete(key);
  try { history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search); } catch { /* a sandbox */ }
};
[...document.querySelectorAll("section.board")].forEach((section, number) => {
  const table = section.querySelector("table");
  const heads = [...table.tHead.rows[0].cells];
  const groups = [...table.tBodies].map((body) => ({ body, rows: [...body.rows].filter((row) => !row.className.includes("group")) }));
  const ours = groups[0].rows;
  const rows = groups.flatMap((group) => group.rows);
  const find = section.querySelector("input[type=search]");
  const pick = section.querySelector("select");
  const beside = section.querySelector("input[type=checkbox]");
  const status = section.querySelector("output");
  const key = (what) => `${what}${number}`;
  section.querySelector(".controls").hidden = false;

  const value = (row, column) => {
    const text = row.cells[column].dataset.sort;
    return heads[column].dataset.kind === "text" ? text : text === "" ? null : Number(text);
  };

  const sort = (column, direction) => {
    const sign = direction === "ascending" ? 1 : -1;
    for (const group of groups) {
      const order = group.rows.map((row, index) => [value(row, column), index, row]);
      order.sort(([a, i], [b, j]) => {
        if (a === null || b === null) return (a === null) - (b === null) || i - j;  // what is absent stays last
        const difference = typeof a === "string" ? a.localeCompare(b) : a - b;
        return sign * difference || i - j;
      });
      group.body.append(...order.map(([, , row]) => row));
    }
    heads.forEach((head, index) => {
      if (index === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
  };

  const tell = () => {
    const shown = ours.filter((row) => !row.hidden).length;
    const others = rows.length - ours.length;
    const sorted = heads.find((head) => head.hasAttribute("aria-sort"));
    const also = others ? `, ${rows.filter((row) => !row.hidden).length - shown} of ${others} published rows` : "";
    const none = shown || !find.value ? "" : " No model has all these words in its name.";
    status.textContent = `${shown} of ${ours.length} models${also}, sorted by ${sorted.dataset.name}, ${sorted.getAttribute("aria-sort")}.${none}`;
  };

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = head.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = now === first ? other : first;
      sort(column, direction);
      remember(key("sort"), `${head.dataset.name} ${direction}`);
      tell();
    });
  });

  const filter = () => {
    const words = find.value.trim().toLowerCase().split(/\s+/);
    for (const row of rows) {
      const name = row.cells[0].dataset.sort.toLowerCase();
      row.hidden = !words.every((word) => name.includes(word));
    }
    tell();
  };

  const choose = () => {
    heads.forEach((head, column) => {
      const hide = column > 0 && pick.value !== "" && String(column) !== pick.value;
      head.hidden = hide;
      for (const row of rows) row.cells[column].hidden = hide;
    });
    if (pick.value !== "") sort(Number(pick.value), heads[Number(pick.value)].dataset.first);
    tell();
  };

  find.addEventListener("input", () => { filter(); remember(key("find"), find.value.trim()); });
  pick.addEventListener("change", choose);
  if (beside) beside.addEventListener("change", () => table.classList.toggle("no-published", !beside.checked));
  if (window.matchMedia("(max-width: 40rem)").matches && heads.length > 4) {
    pick.value = pick.dataset.narrow;  // one column at a time fits a phone; all of them can be chosen and scrolled
    choose();
  }
  const [, name, direction] = /^(.*) (ascending|descending)$/.exec(state.get(key("sort")) ?? "") ?? [];
  const column = heads.findIndex((head) => head.dataset.name === name);
  if (column >= 0) sort(column, direction);
  find.value = state.get(key("find")) ?? "";
  filter();
});

// What is copied from a table are its names and figures, a line for each row, with tabs between.
const bare = (cell) => {
  const copy = cell.cloneNode(true);
  for (const element of copy.querySelectorAll("small, .mark, .published, .unheard, svg")) element.remove();
  return copy.textContent.replace(/\s+/g, " ").trim();
};
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  const there = (node) => !node.hidden && node.offsetWidth > 0 && selection.containsNode(node, true);
  const rows = [...document.querySelectorAll("section.board table tr")].filter(there);
  const cells = rows.map((row) => [...row.cells].filter(there));
  const outside = selection.anchorNode?.parentElement?.closest("table") !== selection.focusNode?.parentElement?.closest("table");
  if (outside || cells.flat().length < 2) return;
  event.clipboardData.setData("text/plain", cells.map((row) => row.map(bare).join("\t")).join("\n"));
  event.preventDefault();
});
