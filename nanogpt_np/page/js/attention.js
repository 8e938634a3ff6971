// Attention: all heads of a block at a glance, one of them enlarged (matrix.js), arcs from a token to where it looks
// (arcs.js), and the number pointed at in words. A pointer that moves only shows; a click or a key chooses, and the
// address follows.

const MANY_TOKENS = 12; // in a longer text a token is named with its position

function attentionFigure(state) {
  const block = headsOf(state.pass, state.name);
  const told = { onpoint: point, onpick: pick };
  const glance = glanceFigure(block, told);
  const matrix = matrixFigure(block, told);
  const arcs = block.isPattern ? arcsFigure(block, told) : null;
  const words = placeWords(block);
  let place = placeOf(block, state);
  let seen = null; // the place with its key, as it is drawn

  function point(change) {
    place = { ...place, ...change };
    const shown = { ...place, key: place.key ?? strongestKey(block, place) };
    if (seen && ["head", "query", "key"].every((index) => shown[index] === seen[index])) return;
    seen = shown;
    for (const part of [glance, matrix, arcs, words]) if (part) part.show(seen);
  }

  function pick(change) {
    point(change);
    const { head, query, key } = seen;
    remember({ head, query });
    keepPlace([head, query - block.start, key], words.readout.textContent);
  }

  point({});
  const beside = el("div.beside", arcs && arcs.node, words.node);
  return el("div.figure.attention", attentionLegend(block), glance.node, el("div.enlarged", matrix.node, beside));
}

/** The scores or the pattern of all heads of a block. Positions count from the first token, also with a cache. */
function headsOf(pass, name) {
  const table = tensor(pass, name);
  const [heads, T, S] = table.shape;
  const start = startOf(pass);
  const isPattern = name.endsWith("hook_pattern");
  const hue = isPattern ? "attention" : "positive";
  const range = isPattern ? 1 : colourRange(table.values);
  const image = cellImage(table, range, hue);
  const at = (head, query, key) => table.at(head * T + query - start, key);
  return { pass, name, heads, T, S, start, isPattern, hue, range, image, at };
}

/** Where the figure begins: what the address says, else what was chosen last. Without a key, the strongest is meant. */
function placeOf({ heads, S, T, start }, { at, head, query }) {
  if (at && inside(at, [heads, T, S])) return { head: at[0], query: at[1] + start, key: at[2] };
  return { head: Math.min(head, heads - 1), query: Math.max(start, Math.min(query, S - 1)), key: null };
}

function strongestKey({ at }, { head, query }) {
  let best = 0;
  for (let key = 1; key <= query; key++) if (at(head, query, key) > at(head, query, best)) best = key;
  return best;
}

function attentionLegend({ isPattern, range }) {
  const scale = isPattern ? colourScale(0, 1, 1, "attention") : colourScale(-range, range, range, "positive");
  const words = isPattern
    ? "Rows look, columns are looked at. Hatched: later tokens, which nobody sees."
    : "Rows ask, columns answer. Hatched: later tokens, set to -inf.";
  return el("div.legend", ...scale, el("span.aside", words));
}

// ---- all heads ----

/** A button with a small picture for each head. */
function glanceFigure(block, { onpick }) {
  const side = block.heads > 16 ? 40 : 52;
  const minis = Array.from({ length: block.heads }, (_, head) => mini(block, head, side, () => onpick({ head })));
  const node = el("div.glance", { role: "group", "aria-label": `All ${block.heads} heads of the block` }, minis);
  onResize(node, () => {
    const most = Math.max(1, Math.floor(node.clientWidth / (side + 19)));
    node.style.setProperty("--across", Math.ceil(block.heads / Math.ceil(block.heads / most)));
  });

  function show({ head, query, key }) {
    const [from, to] = [query, key].map(
      (position) => quoted(keyToken(block.pass, position)) + atPosition(block, position),
    );
    minis.forEach((button, h) => {
      const x = digits(block.at(h, query, key), 3);
      button.setAttribute("aria-pressed", String(h === head));
      button.setAttribute("aria-label", `head ${h}: ${x} from ${from} to ${to}`);
    });
  }

  return { node, show };
}

function mini({ image, T, S }, head, side, onclick) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const tall = Math.max(8, Math.round((side * T) / S));
  sized(canvas, side, tall).drawImage(image, 0, head * T, S, T, 0, 0, side, tall);
  return el("button.mini", { type: "button", onclick }, canvas, el("span", `head ${head}`));
}

// ---- the number pointed at ----

/** The number as the command line writes it, the same in words, the sum of its row, and how it is made. */
function placeWords(block) {
  const { pass, name, start, isPattern, at } = block;
  const [readout, sum, made] = [el("p.readout"), el("p.aside"), el("div.derived")];
  const node = el("div", readout, sum, made);

  function show(place) {
    const { head, query, key } = place;
    const index = [head, query - start, key];
    const number = el("code", `${name}${shapeText(index)} = `, el("strong", digits(at(head, query, key))));
    readout.replaceChildren(number, " ", sentence(block, place));
    sum.textContent = isPattern ? `The row adds up to ${digits(rowSum(block, place))}.` : "";
    made.replaceChildren(...arithmetic(pass, name, index));
    neverShrinks(node);
  }

  return { node, readout, show };
}

function sentence(block, { head, query, key }) {
  const x = block.at(head, query, key);
  const token = (position) => [tokenText(keyToken(block.pass, position)), atPosition(block, position)];
  const gives = block.isPattern ? `gives ${percent(x)} of its attention to` : "scores";
  const does = key > query ? "may not see" : gives;
  return el("span.aside", `in head ${head}, `, token(query), ` ${does} `, token(key));
}

function rowSum({ S, at }, { head, query }) {
  let total = 0;
  for (let key = 0; key < S; key++) total += at(head, query, key);
  return total;
}

/** " at 17", where a token may stand in the text more than once. */
function atPosition({ S }, position) {
  return S > MANY_TOKENS ? ` at ${position}` : "";
}
