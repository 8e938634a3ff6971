// One head as a grid: cells on a canvas, and over it the tokens of both axes, the numbers, and a frame around the cell
// pointed at. A pointer moves often and a long text has many cells, so that only what differs is drawn again.

const ABOVE = 58; // pixels for the tokens above the columns
const [WIDEST_CELL, CELL_WITH_NUMBER, CELL_WITH_EDGE] = [54, 38, 4]; // pixels
const [SCROLLED_CELL, SCROLLED_SIDE] = [5, 1200]; // without room a cell is so wide, but no grid wider than that
const LABEL_PITCH = { query: 14, key: 20 }; // pixels from one label to the next; those above lean

/** onpoint and onpick are told {query, key}: of the cell under the pointer, and of the one that is chosen. */
function matrixFigure(block, { onpoint, onpick }) {
  const { T, S, start } = block;
  const label = `${block.isPattern ? "Attention" : "Scores"} of one head, ${T} by ${S}. Arrow keys move in it.`;
  const canvas = el("canvas", { tabindex: 0, role: "application", "aria-label": label }); // a role that takes keys
  const over = el("svg", { "aria-hidden": "true" });
  const [numbers, frame] = [el("g"), el("rect.at")];
  const node = el("div.large", el("div.matrix", canvas, over));
  let layout = null;
  let labels = [];
  let seen = null;
  let drawnHead = null;

  function arrange() {
    layout = matrixLayout(block, node.clientWidth);
    labels = axisLabels(block, layout);
    over.setAttribute("width", layout.width);
    over.setAttribute("height", layout.height);
    over.replaceChildren(...labels.map((one) => one.node), numbers, frame);
    canvas.style.left = `${layout.left}px`;
    canvas.style.top = `${ABOVE}px`;
    drawnHead = null;
    show(seen);
    node.scrollLeft = layout.left + seen.key * layout.cell - node.clientWidth / 2; // where not all has room
  }

  function show(place) {
    seen = place;
    if (!layout) return;
    if (seen.head !== drawnHead) {
      drawCells(canvas, block, layout, seen.head);
      numbers.replaceChildren(...cellNumbers(block, layout, seen.head));
      drawnHead = seen.head;
    }
    showLabels(labels, layout, seen);
    const { left, cell } = layout;
    const corner = { x: left + seen.key * cell - 1, y: ABOVE + (seen.query - start) * cell - 1 };
    const box = { ...corner, width: cell + 1, height: cell + 1 };
    for (const [name, x] of Object.entries(box)) frame.setAttribute(name, x);
  }

  const within = (query, key) => ({
    query: Math.max(start, Math.min(S - 1, query)),
    key: Math.max(0, Math.min(S - 1, key)),
  });
  const under = ({ offsetX, offsetY }) =>
    within(start + Math.floor(offsetY / layout.cell), Math.floor(offsetX / layout.cell));
  listen(canvas, {
    onmove: (event) => onpoint(under(event)),
    onclick: (event) => onpick(under(event)),
    onarrow: ([down, right]) => {
      onpick(within(seen.query + down, seen.key + right));
      frame.scrollIntoView({ block: "nearest", inline: "nearest" });
    },
  });
  onResize(node, arrange);
  return { node, show };
}

/** onarrow is told how many rows down and columns to the right. */
function listen(canvas, { onmove, onclick, onarrow }) {
  const arrows = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") onmove(event);
  });
  canvas.addEventListener("click", onclick);
  canvas.addEventListener("keydown", (event) => {
    const arrow = arrows[event.key];
    if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // elsewhere on the page they lead to other steps
    onarrow(arrow);
  });
}

function matrixLayout({ T, S }, room) {
  const left = Math.round(Math.min(92, Math.max(48, room * 0.24)));
  const fitting = Math.floor((room - left - 8) / S);
  const scrolled = Math.min(SCROLLED_CELL, Math.floor(SCROLLED_SIDE / S));
  const cell = Math.max(1, scrolled, Math.min(WIDEST_CELL, fitting));
  const width = left + S * cell + 44; // the last label above leans to the right
  return { left, cell, width, height: ABOVE + T * cell + 6 };
}

function drawCells(canvas, { image, T, S }, { cell }, head) {
  const [width, height] = [S * cell, T * cell];
  const context = sized(canvas, width, height);
  context.drawImage(image, 0, head * T, S, T, 0, 0, width, height);
  if (cell < CELL_WITH_EDGE) return;
  context.fillStyle = colours.paper;
  for (let x = cell; x <= width; x += cell) context.fillRect(x - 1, 0, 1, height);
  for (let y = cell; y <= height; y += cell) context.fillRect(0, y - 1, width, 1);
}

function cellNumbers({ T, start, at, hue, range }, { left, cell }, head) {
  const found = [];
  if (cell < CELL_WITH_NUMBER) return found;
  for (let t = 0; t < T; t++) {
    for (let key = 0; key <= start + t; key++) {
      const x = at(head, start + t, key);
      const where = { x: left + key * cell + (cell - 1) / 2, y: ABOVE + t * cell + cell / 2 + 4 };
      const ink = inkOn(heatColour(x, range, hue));
      found.push(el("text", { class: `in-cell ${ink}`, ...where, "text-anchor": "middle" }, inCell(x)));
    }
  }
  return found;
}

function inCell(x) {
  if (Math.abs(x) >= 100) return x.toFixed(0);
  if (Math.abs(x) >= 10) return x.toFixed(1);
  return x.toFixed(2);
}

// ---- the tokens of both axes ----

/** A label for every column and every row: {node, axis, position}, of which `showLabels` shows those that have room. */
function axisLabels({ pass, T, S, start }, { left, cell }) {
  const most = Math.min(11, Math.floor((left - 8) / 7.5)); // characters
  const position = (p) => (S > MANY_TOKENS ? `${p}` : "");
  const word = (p) => {
    const text = clipped(keyToken(pass, p), most - position(p).length);
    return position(p) ? `\u2068${text}\u2069` : text; // isolated, so that the number stays beside its cell
  };
  const label = (p, axis, attributes, ...text) => {
    const node = el("text.axis-label.word", attributes, text.filter(Boolean).join(" "));
    return { node, axis, position: p };
  };
  const columns = Array.from({ length: S }, (_, key) => {
    const transform = `translate(${left + key * cell + cell / 2 + 3} ${ABOVE - 7}) rotate(-45)`;
    return label(key, "key", { transform }, position(key), word(key));
  });
  const rows = Array.from({ length: T }, (_, t) => {
    const where = { x: left - 8, y: ABOVE + t * cell + cell / 2 + 4, "text-anchor": "end" };
    return label(start + t, "query", where, word(start + t), position(start + t));
  });
  return [...columns, ...rows];
}

/** Where rows are narrow not all are named: always the two pointed at, and every few others. */
function showLabels(labels, { cell }, seen) {
  for (const { node, axis, position } of labels) {
    const step = Math.ceil(LABEL_PITCH[axis] / cell);
    const away = Math.abs(position - seen[axis]);
    node.classList.toggle("lit", away === 0);
    node.classList.toggle("left-out", away > 0 && (away < step || position % step > 0));
  }
}
