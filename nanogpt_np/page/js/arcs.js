// The text as a line of tokens, with an arc from one of them to each that it looks at, as wide as it looks hard.

const BETWEEN = 62; // pixels from one token to the next
const BESIDE_TOKENS = 34; // pixels left of the first and right of the last
const LINE = 96; // the height at which the tokens hang and the arcs stand
const FAINTEST = 0.005; // a smaller weight has no arc

/** onpoint and onpick are told the token under the pointer, as {query, key: null}. */
function arcsFigure(block, { onpoint, onpick }) {
  const node = el("div.arcs");
  let room = 0;
  let row = null; // {tokens, of}: the positions that are drawn, and of which one they are those it looks at most
  let seen = null;
  let hovering = false;

  function draw() {
    // A token that moved away under the pointer would bring another there, and so on.
    if (!hovering) row = { tokens: tokensOf(block, seen, room), of: seen.query };
    node.replaceChildren(el("div.scroll-x", arcsPicture(block, seen, row.tokens)), leftOut(block, row));
  }

  function show(place) {
    const same = seen && place.head === seen.head && place.query === seen.query;
    seen = place;
    if (room && !same) draw();
  }

  function under(target) {
    const token = target.closest("[data-position]");
    const query = token ? Number(token.dataset.position) : null;
    return token && query >= block.start ? { query, key: null } : null; // what the cache held has no row here
  }

  node.addEventListener("pointermove", ({ target, pointerType }) => {
    const place = under(target);
    if (pointerType !== "mouse" || !place || place.query === seen.query) return;
    hovering = true;
    onpoint(place);
    hovering = false;
  });
  node.addEventListener("click", ({ target }) => {
    const place = under(target);
    if (!place) return;
    onpick(place);
    draw(); // with the tokens that this one looks at
  });
  onResize(node, () => {
    room = node.clientWidth;
    draw();
  });
  return { node, show };
}

/** The positions that have room: all, or of a long text those that one token looks at most, and itself. */
function tokensOf({ S, at }, { head, query }, room) {
  const most = Math.max(4, Math.floor((room - 2 * BESIDE_TOKENS) / BETWEEN) + 1);
  const all = Array.from({ length: S }, (_, key) => key);
  if (S <= most) return all;
  const strongest = all.slice(0, query).sort((a, b) => at(head, query, b) - at(head, query, a));
  return [...strongest.slice(0, most - 1), query].sort((a, b) => a - b);
}

function leftOut({ pass, S }, { tokens, of }) {
  if (tokens.length === S) return "";
  const token = [tokenText(keyToken(pass, of)), ` at ${of}`];
  const all = tokens.length === of + 1;
  const which = all ? ["those that ", token, " may see."] : ["the ", String(tokens.length - 1), " that ", token];
  return el("p.aside", `Of ${S} tokens `, which, all ? null : " looks at most, and itself.");
}

function arcsPicture(block, { head, query }, tokens) {
  const x = (position) => BESIDE_TOKENS + tokens.indexOf(position) * BETWEEN;
  const weight = (key) => block.at(head, query, key);
  const seenBy = tokens.filter((key) => key <= query);
  const token = (key) => quoted(keyToken(block.pass, key)) + atPosition(block, key);
  const looks = seenBy.map((key) => `${token(key)} ${percent(weight(key))}`).join(", ");
  const arcs = seenBy
    .filter((key) => weight(key) > FAINTEST)
    .map((key) => {
      const d = key === query ? loopPath(x(key)) : arcPath(x(query), x(key));
      return el("path.arc", { d, "stroke-width": 1 + 7 * weight(key), "stroke-opacity": 0.25 + 0.75 * weight(key) });
    });
  return el(
    "svg.arc-figure",
    {
      width: 2 * BESIDE_TOKENS + (tokens.length - 1) * BETWEEN,
      height: LINE + 54,
      role: "img",
      "aria-label": `Where ${token(query)} looks: ${looks}`,
    },
    arcs,
    tokens.map((key) => arcToken(block, key, query, x(key), key > query ? "" : percent(weight(key)))),
  );
}

function arcToken(block, position, query, x, weight) {
  const kind = position === query ? "lit" : position > query ? "later" : "";
  const text = (extra, y, words) => el(`text${extra}`, { x, y: LINE + y, "text-anchor": "middle" }, words);
  return el(
    "g",
    { class: `arc-token ${kind}`, "data-position": position },
    el("rect.touch", { x: x - BETWEEN / 2, y: LINE, width: BETWEEN, height: 52 }),
    text("", 17, clipped(keyToken(block.pass, position), 8)),
    text(".weight", 32, weight),
    block.S > MANY_TOKENS ? text(".weight", 46, `at ${position}`) : null,
  );
}

/** From one token up and down to another, the higher the farther. */
function arcPath(from, to) {
  const top = LINE - Math.min(84, 24 + (15 * (from - to)) / BETWEEN);
  return `M ${from} ${LINE} C ${from} ${top}, ${to} ${top}, ${to} ${LINE}`;
}

/** From a token to itself. */
function loopPath(x) {
  const top = LINE - 38;
  return `M ${x - 7} ${LINE} C ${x - 20} ${top}, ${x + 20} ${top}, ${x + 7} ${LINE}`;
}
