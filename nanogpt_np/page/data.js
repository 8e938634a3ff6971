// The numbers of the page, and small helpers that all other files use.
// A "place" is where one number stands: true indices, also where columns were cut away.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const STEPS = PAGE.steps.map((step, number) => ({ ...step, number, block: blockOf(step.name) }));
const NUMBER_OF = new Map(STEPS.map((step) => [step.name, step.number]));
const { D, H } = PAGE.sizes;

// ---- names ----

function blockOf(name) {
  const found = /^(?:blocks|h)\.(\d+)\./.exec(name);
  return found ? Number(found[1]) : null;
}

function generic(name) {
  return name.replace(/^(blocks|h)\.\d+\./, "$1.{i}.");
}

/** What the table says of a trace point: title, axes, equation, notice, names. */
function pointOf(name) {
  return PAGE.points[name] || PAGE.points[generic(name)];
}

/** What the table says of a stored parameter; undefined for any other name, of which an address may hold any. */
function parameterOf(name) {
  return Object.hasOwn(PAGE.parameters, generic(name)) ? PAGE.parameters[generic(name)] : undefined;
}

/** Put the number of the block into a text of the table. */
function filled(text, name) {
  const block = blockOf(name);
  return text.replaceAll("{i}", block).replaceAll("{before}", block - 1);
}

function titleOf(name) {
  return isWeight(name) ? `Stored: ${parameterOf(name).purpose}` : filled(pointOf(name).title, name);
}

/** The last part of a name, as it stands in equations: attn.hook_pattern -> pattern. */
function shortName(name) {
  if (isWeight(name)) return name.replace(/^h\.\d+\.(attn\.|mlp\.)?/, "");
  return name.replace(/^.*hook_/, "");
}

/** With the norm it belongs to, where several have the same last part: ln1.output. */
function innerName(name) {
  return name.replace(/^blocks\.\d+\.(attn\.|mlp\.)?/, "").replace("hook_", "");
}

function isWeight(name) {
  return !name.includes("hook_");
}

// ---- tokens ----

/** The text of a token in one string; what cannot be seen is its code. */
function plain(id) {
  return id === null || id === undefined ? "?" : PAGE.tokens[id].map(([, text]) => text).join("");
}

function quoted(id) {
  return id === null || id === undefined ? "a token" : `“${plain(id)}”`;
}

/** The text of a token as elements: spaces and codes are marked, directions stay inside. */
function tokenText(id) {
  if (id === null || id === undefined) return el("bdi", { class: "token" }, "?");
  const kinds = [null, "space", "code"];
  const parts = PAGE.tokens[id].map(([kind, text]) => (kind ? el("span", { class: kinds[kind] }, text) : text));
  return el("bdi", { class: "token" }, parts);
}

/** The id of the token at a position, in any pass. */
function keyToken(pass, position) {
  return PAGE.passes[pass].keys[position] ?? null;
}

/** The position of the first new token of a pass: 0, or what the cache held. */
function startOf(pass) {
  return PAGE.passes[pass].S - PAGE.passes[pass].T;
}

// ---- numbers ----

const DECODERS = {
  f4: (bytes) => new Float32Array(bytes.buffer),
  f8: (bytes) => new Float64Array(bytes.buffer),
  d3: (bytes) => {
    const codes = new Uint16Array(bytes.buffer);
    const numbers = new Float64Array(codes.length);
    for (let i = 0; i < codes.length; i++) numbers[i] = threeDigits(codes[i]);
    return numbers;
  },
};

const POWERS = Array.from({ length: 23 }, (_, power) => Number(`1e${power}`)); // exact in float64

/** A decimal of three digits: sign, power of ten and digits in 16 bits. */
function threeDigits(code) {
  const sign = code >> 15 ? -1 : 1;
  const digits = code & 1023;
  const power = ((code >> 10) & 31) - 22;
  if (digits < 1000) return sign * (power < 0 ? digits / POWERS[-power] : digits * POWERS[power]);
  return digits === 1001 ? sign * Infinity : digits === 1002 ? NaN : sign * 1e-30; // the last: nearly zero
}

function unpack(text, format) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return DECODERS[format](bytes);
}

/** A number as the page prints it: as many digits as it keeps. */
function digits(x, n = PAGE.digits) {
  if (x === 0) return "0";
  if (!Number.isFinite(x)) return String(x).replace("Infinity", "inf");
  if (Math.abs(x) < 1e-20) return "~0";
  return x.toPrecision(n);
}

function percent(p) {
  if (p >= 0.9995) return p === 1 ? "100 %" : `${(100 * p).toFixed(2)} %`;
  if (p >= 0.001) return `${(100 * p).toFixed(p >= 0.1 ? 1 : 2)} %`;
  return p === 0 ? "0 %" : `${(100 * p).toPrecision(2)} %`;
}

const COUNT_FORMAT = new Intl.NumberFormat("en-US");

function counted(n) {
  return COUNT_FORMAT.format(n);
}

function shapeText(shape) {
  return `[${shape.join(", ")}]`;
}

const tables = new Map(); // what has been unpacked

/**
 * A recorded tensor as a table of numbers: rows x columns, the last axes side by side.
 *   at(row, column) the number, place(row, column) its true indices, find(place) the other way or null.
 */
function tensor(pass, name) {
  const key = `${pass} ${name}`;
  if (!tables.has(key)) tables.set(key, isWeight(name) ? weightTable(name) : stepTable(pass, name));
  return tables.get(key);
}

function stepTable(pass, name) {
  const point = pointOf(name);
  const step = PAGE.passes[pass].steps[NUMBER_OF.get(name)];
  const letters = point.axes.split(" ").filter(Boolean);
  if (step.whole) return { name, letters, shape: step.shape, values: step.whole, stats: null };
  if (letters.includes("V")) return { name, letters, shape: step.shape, values: null, stats: step.stats };
  const cut = keptSizes(letters, step.shape);
  const heads = letters.join(" ") === "H T S";
  const rows = heads ? cut[0] * cut[1] : letters.length > 1 ? cut[0] : 1;
  const columns = cut.reduce((a, b) => a * b, 1) / rows;
  const table = { name, letters, shape: step.shape, rows, columns, stats: step.stats, whole: sameSizes(cut, step.shape) };
  table.values = step.view ? viewed(pass, step.view, rows, columns) : unpack(step.values, PAGE.format);
  return Object.assign(table, places(table, cut));
}

function viewed(pass, [source, row, column], rows, columns) {
  const from = tensor(pass, source);
  const values = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) values[i * columns + j] = from.at(row + i, column + j);
  }
  return values;
}

/** Sizes of what the page keeps of an array. */
function keptSizes(letters, shape) {
  return shape.map((size, axis) => {
    if (axis < letters.length - 1) return size;
    if (letters[axis] === "F") return Math.min(size, PAGE.kept.F);
    if (["C", "3C", "D"].includes(letters[axis])) return (size / D) * PAGE.kept.D;
    return size;
  });
}

function sameSizes(a, b) {
  return a.every((size, i) => size === b[i]);
}

function places(table, cut) {
  const { letters, rows, columns, shape } = table;
  const kind = letters.join(" ");
  const at = (row, column) => table.values[row * columns + column];
  const columnOf = (j, letter) => (letter === "F" || letter === "1" ? j : Math.floor(j / PAGE.kept.D) * D + (j % PAGE.kept.D));
  const keptOf = (j, letter) => {
    if (letter === "F" || letter === "1") return j < columns ? j : null;
    return j % D < PAGE.kept.D ? Math.floor(j / D) * PAGE.kept.D + (j % D) : null;
  };
  if (kind === "H T S") {
    const T = cut[1];
    return {
      at,
      place: (row, column) => [Math.floor(row / T), row % T, column],
      find: ([h, t, s]) => (inside([h, t, s], shape) ? [h * T + t, s] : null),
    };
  }
  if (kind === "T H D") {
    const width = cut[2];
    return {
      at,
      place: (row, column) => [row, Math.floor(column / width), column % width],
      find: ([t, h, d]) => (inside([t, h, d], shape) && d < width ? [t, h * width + d] : null),
    };
  }
  const last = letters[letters.length - 1];
  return {
    at,
    place: (row, column) => (letters.length > 1 ? [row, columnOf(column, last)] : [columnOf(column, last)]),
    find: (place) => {
      if (!inside(place, shape)) return null;
      const column = keptOf(place[place.length - 1], last);
      return column === null ? null : [place.length > 1 ? place[0] : 0, column];
    },
  };
}

function inside(place, shape) {
  return place.length === shape.length && place.every((i, axis) => Number.isInteger(i) && i >= 0 && i < shape[axis]);
}

/** What the page keeps of a stored parameter: its first columns, and all rows, the first, or those that are used. */
function weightTable(name) {
  const held = PAGE.weights[name];
  const letters = parameterOf(name).axes.split(" ");
  const rowNumbers = held.rows;
  const values = unpack(held.values, held.format);
  const columns = held.columns;
  const rows = values.length / columns;
  const rowOf = (row) => (rowNumbers ? rowNumbers[row] : row);
  const flat = held.shape.length === 1;
  return {
    name,
    letters,
    shape: held.shape,
    rows,
    columns,
    values,
    stats: held.stats,
    rowOf,
    whole: columns === held.shape[held.shape.length - 1] && (flat || rows === held.shape[0]),
    at: (row, column) => values[row * columns + column],
    place: (row, column) => (flat ? [column] : [rowOf(row), column]),
    find: (place) => {
      const row = flat ? 0 : rowNumbers ? rowNumbers.indexOf(place[0]) : place[0];
      const column = place[place.length - 1];
      return inside(place, held.shape) && row >= 0 && row < rows && column < columns ? [row, column] : null;
    },
  };
}

/** The size up to which colours differ: all but the largest two in a hundred are below it. */
function colourRange(values) {
  const sizes = new Float64Array(values.length);
  let count = 0;
  for (const x of values) if (Number.isFinite(x)) sizes[count++] = Math.abs(x);
  if (!count) return 1;
  const sorted = sizes.subarray(0, count).sort();
  return sorted[Math.floor(0.98 * (count - 1))] || sorted[count - 1] || 1;
}

// ---- elements ----

/** Make an element: attributes, then children; "on..." are listeners, and text is never read as HTML. */
function el(tag, attributes = {}, ...children) {
  const svg = SVG_TAGS.has(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG_TAGS = new Set(["svg", "g", "path", "rect", "line", "circle", "text", "defs", "pattern", "polyline", "title"]);

/** A link to a step, a parameter or a view of this page. */
function link(target, attributes, ...children) {
  return el("a", { href: addressOf(target), ...attributes }, ...children);
}
