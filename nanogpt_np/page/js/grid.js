// A cell for every head of every block, coloured by its number; a line beside it says which cell is pointed at.

const ROOMY = H <= 6; // few heads: cells are wide enough for their numbers

/**
 * The grid with its legend and its line of words.
 *   columns: their names. rows: for each block its cells, {name, x, text, target}: text says x, target where it leads.
 *   colour(x): as [r, g, b]. scale: the elements of the legend.
 */
function headGrid({ columns, rows, colour, scale }) {
  const said = el("p.cell-said");
  let told = null;
  const tell = (cell) => {
    told = cell;
    said.replaceChildren(link(cell.target, {}, cell.name), " ", el("strong", cell.text));
  };
  const node = (cell) => {
    const rgb = colour(cell.x);
    let waits = false; // a finger points and clicks at once: where cells have no numbers, the first tap only points
    const made = link(
      cell.target,
      {
        class: `part-cell ${inkOn(rgb)}`,
        "aria-label": `${cell.name} ${cell.text}`,
        onpointerenter: ({ pointerType }) => pointerType === "mouse" && tell(cell),
        onpointerdown: ({ pointerType }) => (waits = !ROOMY && pointerType === "touch" && told !== cell),
        onfocus: () => tell(cell),
        onclick: (event) => {
          if (!waits) return;
          waits = false;
          event.preventDefault();
          event.stopPropagation();
          tell(cell);
        },
      },
      ROOMY ? short(cell.x) : "",
    );
    made.style.backgroundColor = css(rgb);
    return el("td", made);
  };
  const heads = columns.map((name) => el("th", { scope: "col" }, ROOMY ? name : name.replace("head ", "")));
  const table = el(
    "table",
    { class: ROOMY ? "part-grid roomy" : "part-grid" },
    ROOMY ? null : el("tr", el("td"), el("td.corner", { colspan: H }, "head")),
    el("tr", el("td.corner", "block"), heads),
    rows.map((row, block) => el("tr", el("th", { scope: "row" }, String(block)), row.map(node))),
  );
  tell(rows.flat().reduce((best, cell) => (Math.abs(cell.x) > Math.abs(best.x) ? cell : best)));
  return el("div.head-grid", el("div.scroll-x", table), said, el("div.legend", scale));
}

/** A number in a few characters, rounded, without a sign where it is zero then. */
function short(x) {
  return inCell(x).replace(/^-(0\.00)$/, "$1");
}
