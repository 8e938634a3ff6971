// Heat maps: every kept number of a tensor as a coloured cell, and a window of real numbers around the one pointed at.

const [GAP, EDGE] = [3, 2]; // pixels between the lines of one token, and around all of them
/**
 * The heat map of a table, folded into lines where it is wide, with legend and window of numbers.
 *   rowLabels: an element for each row. segments: {width, of(n)} names every `width` columns and gives them a colour.
 *   cell: the [row, column] that is pointed at first. onplace(place): told of each other one, as true indices.
 *   range: the size of number from which on colours are full.
 */
function heatFigure(table, options) {
  const { rowLabels, segments = null, cell = [0, 0], onplace = () => {}, label = "" } = options;
  const range = options.range || colourRange(table.values);
  const image = cellImage(table, range);
  let layout = null;
  let at = cell;
  const canvas = el("canvas.heat", {
    tabindex: 0,
    role: "application",
    "aria-label": `Heat map of ${label}, ${table.rows} by ${table.columns}. Arrow keys move to single numbers.`,
  });
  const labels = el("div.row-labels", { "aria-hidden": "true" });
  const strip = el("div.strip", { "aria-hidden": "true" });
  const nearby = el("div.window");
  const box = el("div.heat-box", canvas);
  const host = el("div.heat-host", el("div"), strip, labels, box);

  function arrange() {
    labels.replaceChildren(...rowLabels.map((node) => el("div", node))); // first: they take their room from the box
    const style = getComputedStyle(box);
    const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
    const width = Math.max(8, box.clientWidth - padding - 2 * EDGE);
    const { lines, each } = folded(table.columns, segments ? segments.width : 1, width);
    const w = Math.max(1, Math.min(26, Math.floor(width / each)));
    const roomy = Math.floor((lines > 1 ? 280 : 340) / (table.rows * lines));
    const h = Math.max(table.rows > 100 ? 2 : 4, Math.min(26, roomy));
    layout = { lines, each, w, h, row: lines * h + (lines - 1) * GAP + (table.rows > 1 ? (lines > 1 ? 9 : 1) : 0) };
    const crowded = layout.row < 15 ? Math.ceil(15 / layout.row) : 1;
    [...labels.children].forEach((row, i) => {
      row.style.height = `${layout.row}px`;
      if (i % crowded) row.replaceChildren();
    });
    strip.replaceChildren(...(segments ? strips(segments, table.columns, layout) : []));
    draw();
  }

  function draw() {
    const { lines, each, w, h, row } = layout;
    const context = sized(canvas, each * w + 2 * EDGE, row * table.rows + 2 * EDGE);
    context.translate(EDGE, EDGE); // room for the frame around a cell at the edge
    for (let r = 0; r < table.rows; r++) {
      for (let line = 0; line < lines; line++) {
        const [from, down] = [line * each, r * row + line * (h + GAP)];
        const count = Math.min(each, table.columns - from);
        context.drawImage(image, from, r, count, 1, 0, down, count * w, h);
        if (segments && lines > 1) underline(context, from, count, down + h);
      }
    }
    if (segments && lines === 1) {
      context.fillStyle = colours.paper;
      for (let c = segments.width; c < table.columns; c += segments.width)
        context.fillRect(c * w - 0.5, 0, 1, row * table.rows);
    }
    const [x, y] = corner(at);
    context.lineWidth = 2;
    context.strokeStyle = colours.paper;
    context.strokeRect(x - 2.5, y - 2.5, w + 5, h + 5);
    context.strokeStyle = colours.ink;
    context.strokeRect(x - 1, y - 1, w + 2, h + 2);
  }

  function underline(context, from, count, y) {
    for (const { n, at: left, size } of segmentsIn(segments, from, count)) {
      context.fillStyle = segments.of(n).colour;
      context.fillRect(left * layout.w, y, size * layout.w - 1, 2);
    }
  }

  function corner([row, column]) {
    const line = Math.floor(column / layout.each);
    return [(column % layout.each) * layout.w, row * layout.row + line * (layout.h + GAP)];
  }

  function cellUnder(event) {
    const { left, top } = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left - EDGE, event.clientY - top - EDGE];
    const row = Math.max(0, Math.min(table.rows - 1, Math.floor(y / layout.row)));
    const line = Math.max(0, Math.min(layout.lines - 1, Math.floor((y - row * layout.row) / (layout.h + GAP))));
    const column = line * layout.each + Math.max(0, Math.min(layout.each - 1, Math.floor(x / layout.w)));
    return [row, Math.min(column, table.columns - 1)];
  }

  function moveTo([row, column], picked) {
    at = [Math.max(0, Math.min(table.rows - 1, row)), Math.max(0, Math.min(table.columns - 1, column))];
    draw();
    numbers();
    onplace(table.place(...at), picked);
  }

  function numbers() {
    const across = host.clientWidth < 480 ? 3 : 7;
    nearby.replaceChildren(numberWindow(table, at, across, rowLabels, range, (other) => moveTo(other, true)));
  }

  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") moveTo(cellUnder(event), false);
  });
  canvas.addEventListener("click", (event) => moveTo(cellUnder(event), true));
  canvas.addEventListener("keydown", (event) => {
    const far = segments ? segments.width : 10;
    const moves = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      PageUp: [0, -far],
      PageDown: [0, far],
      Home: [0, -table.columns],
      End: [0, table.columns],
    };
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    moveTo([at[0] + move[0], at[1] + move[1]], true);
  });
  onResize(host, () => {
    arrange();
    numbers();
  });
  return el("div.figure", host, legend(range, table), nearby);
}

/** What the columns of a table are made of, where that is several heads or kinds. */
function segmentsOf(table) {
  if (!colours) readColours();
  const kind = table.letters.join(" ");
  if (kind === "T 3C")
    return {
      width: table.columns / 3,
      of: (n) => ({ label: ["queries", "keys", "values"][n], colour: colours.groups[n] }),
    };
  const group = { q: 0, k: 1, v: 2, z: 2, merged: 2 }[shortName(table.name)];
  if (kind === "T H D" || shortName(table.name) === "merged")
    return { width: PAGE.kept.D, of: (n) => ({ label: `head ${n}`, colour: colours.groups[group] }) };
  if (/c_attn/.test(table.name) && table.whole)
    return { width: table.columns / 3, of: (n) => ({ label: ["W_Q", "W_K", "W_V"][n], colour: colours.groups[n] }) };
  return null;
}

/** How many lines a row is folded into, and columns of each: whole segments in a line, or whole lines in a segment. */
function folded(columns, unit, width) {
  const segments = Math.floor(width / unit);
  const each = segments ? segments * unit : Math.ceil(unit / Math.ceil(unit / width));
  const lines = Math.ceil(columns / each);
  return { lines, each: segments ? Math.ceil(columns / lines / unit) * unit : each };
}

/** The segments that columns belong to, as [{n, at, size}]: which, from where in these columns, how many of them. */
function segmentsIn({ width }, from, count) {
  const found = [];
  let c = from;
  while (c < from + count) {
    const n = Math.floor(c / width);
    const size = Math.min((n + 1) * width, from + count) - c;
    found.push({ n, at: c - from, size });
    c += size;
  }
  return found;
}

/** The names of the segments above their columns; where rows are folded, a line of names for each that differs. */
function strips(segments, columns, { lines, each, w }) {
  const found = [];
  let last = "";
  for (let from = 0; from < columns; from += each) {
    const here = segmentsIn(segments, from, Math.min(each, columns - from));
    const names = here.map(({ n }) => segments.of(n).label).join();
    if (names === last) continue; // the same segment goes on
    last = names;
    found.push(el("div.strip-line", ...here.map((part) => segmentName(segments.of(part.n), part.size * w))));
  }
  if (lines > 1) found.unshift(el("div", `Each row is folded into ${lines} lines, from top to bottom:`));
  return found;
}

function segmentName({ label, colour }, width) {
  const node = el("span", label);
  node.style.width = `${width}px`;
  node.style.borderTopColor = colour;
  return node;
}

/** The numbers around a cell, in a table that can be read aloud and copied. */
function numberWindow(table, [row, column], across, rowLabels, range, onpick) {
  const from = Math.max(0, Math.min(column - (across - 1) / 2, table.columns - across));
  const columns = Array.from({ length: Math.min(across, table.columns) }, (_, i) => from + i);
  const down = table.rows <= 8 ? table.rows : 7;
  const top = Math.max(0, Math.min(row - 3, table.rows - down));
  const rows = Array.from({ length: down }, (_, i) => top + i);
  const last = (c) => table.place(0, c);
  const heads = columns.map((c) =>
    el(
      "th",
      { scope: "col" },
      last(c)
        .slice(last(c).length > 2 ? 1 : -1)
        .join(", "),
    ),
  );
  const letters = table.letters;
  const corner = letters.length > 2 ? "head, column" : letters[letters.length - 1] === "F" ? "neuron" : "column";
  const body = rows.map((r) =>
    el(
      "tr",
      el("th", { scope: "row" }, rowLabels[r].cloneNode(true)),
      columns.map((c) => {
        const x = table.at(r, c);
        const rgb = heatColour(x, range);
        const here = r === row && c === column;
        const cell = el(
          "td",
          { class: `${inkOn(rgb)}${here ? " here" : ""}`, onclick: () => onpick([r, c]) },
          digits(x),
        );
        cell.style.backgroundColor = css(rgb);
        return cell;
      }),
    ),
  );
  const headRow = el("tr", el("td.corner", corner), heads);
  return el("table.numbers", el("caption.unseen", "The numbers around the one pointed at"), headRow, body);
}

function legend(range, table) {
  const largest = Math.max(Math.abs(table.stats.min), Math.abs(table.stats.max));
  const beyond = largest > 1.05 * range ? ` Larger ones have full colour; the largest is ${digits(largest, 3)}.` : "";
  return el("div.legend", ...colourScale(-range, range, range, "positive"), el("span.aside", cutText(table) + beyond));
}

/** Which rows stay of a table in which rows are looked up. */
function rowsKept({ letters }) {
  return letters[0] === "V" ? "of the tokens read and of the likeliest next ones" : "of the positions in this text";
}

/** What is shown of a tensor, in words: all of it, or how it was cut. */
function cutText(table) {
  if (table.whole) return `All ${counted(table.rows * table.columns)} numbers.`;
  if (isWeight(table.name)) {
    const rows = table.shape.length > 1 && table.rows < table.shape[0];
    const columns = table.columns < table.shape[table.shape.length - 1];
    const tabled = rows && table.letters[0] !== "C" && table.letters[0] !== "F"; // a table in which rows are looked up
    const [first, last] = [counted(table.shape[0]), counted(table.shape[table.shape.length - 1])];
    const parts = [
      rows &&
        (tabled ? `of ${first} rows the ${table.rows} ${rowsKept(table)}` : `the first ${table.rows} of ${first} rows`),
      columns && `the first ${table.columns} of ${last} columns`,
    ];
    return `Cut to fit: ${parts.filter(Boolean).join(", ")}.`;
  }
  if (table.letters.includes("F")) return `Cut to fit: the first ${PAGE.kept.F} of ${counted(PAGE.sizes.F)} neurons.`;
  return `Cut to fit: the first ${PAGE.kept.D} of every ${D} columns.`;
}
