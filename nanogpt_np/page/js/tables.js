// The recorded tensors and the stored parameters as tables of numbers, unpacked when they are first looked at.

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
  const step = held(pass, name);
  const letters = point.axes.split(" ").filter(Boolean);
  if (step.whole) return { name, letters, shape: step.shape, values: step.whole, stats: null };
  if (letters.includes("V")) return { name, letters, shape: step.shape, values: null, stats: step.stats };
  const cut = keptSizes(letters, step.shape);
  const heads = letters.join(" ") === "H T S";
  const rows = heads ? cut[0] * cut[1] : letters.length > 1 ? cut[0] : 1;
  const columns = cut.reduce((a, b) => a * b, 1) / rows;
  const table = {
    name,
    letters,
    shape: step.shape,
    rows,
    columns,
    stats: step.stats,
    whole: sameSizes(cut, step.shape),
  };
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
  const { letters, columns, shape } = table;
  const kind = letters.join(" ");
  const at = (row, column) => table.values[row * columns + column];
  const columnOf = (j, letter) =>
    letter === "F" || letter === "1" ? j : Math.floor(j / PAGE.kept.D) * D + (j % PAGE.kept.D);
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
  const stored = PAGE.weights[name];
  const letters = parameterOf(name).axes.split(" ");
  const rowNumbers = stored.rows;
  const values = unpack(stored.values, stored.format);
  const columns = stored.columns;
  const rows = values.length / columns;
  const rowOf = (row) => (rowNumbers ? rowNumbers[row] : row);
  const flat = stored.shape.length === 1;
  return {
    name,
    letters,
    shape: stored.shape,
    rows,
    columns,
    values,
    stats: stored.stats,
    rowOf,
    whole: columns === stored.shape[stored.shape.length - 1] && (flat || rows === stored.shape[0]),
    at: (row, column) => values[row * columns + column],
    place: (row, column) => (flat ? [column] : [rowOf(row), column]),
    find: (place) => {
      const row = flat ? 0 : rowNumbers ? rowNumbers.indexOf(place[0]) : place[0];
      const column = place[place.length - 1];
      return inside(place, stored.shape) && row >= 0 && row < rows && column < columns ? [row, column] : null;
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
