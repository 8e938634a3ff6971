// The numbers of the page, and small helpers that all other files use.
// A "place" is where one number stands: true indices, also where columns were cut away.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const NUMBER_OF = new Map(PAGE.steps.map((step, number) => [step.name, number]));
// A Recorder may have kept a part of a pass: reads are those that are here, sources all of which a step is made.
const STEPS = PAGE.steps.map(({ name, reads, weights }, number) => ({
  name,
  number,
  weights,
  block: blockOf(name),
  reads: reads.filter((read) => NUMBER_OF.has(read)),
  sources: [...reads, ...weights],
}));
const { D, H } = PAGE.layout;

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

/** What the page holds of one step of one pass: shape, equation in numbers, stats, values. */
function held(pass, name) {
  return PAGE.passes[pass].steps[NUMBER_OF.get(name)];
}

// ---- tokens ----

/** The text of a token in one string; what cannot be seen is its code. */
function plain(id) {
  return id === null || id === undefined ? "?" : PAGE.tokens[id].map(([, text]) => text).join("");
}

function quoted(id) {
  return id === null || id === undefined ? "a token" : `“${plain(id)}”`;
}

/** The text of a token for a drawing: spaces as dots, and cut where it is long. */
function clipped(id, most) {
  const characters = [...plain(id).replaceAll(" ", "·")];
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : characters.join("");
}

/** The text of a token as elements: spaces and codes are marked, directions stay inside. */
function tokenText(id) {
  return id === null || id === undefined ? el("bdi.token", "?") : piecesText("bdi.token", PAGE.tokens[id]);
}

/** Text in pieces, as `words.py` cuts it: plain, spaces, codes. */
function piecesText(kind, pieces) {
  const kinds = [null, "space", "code"];
  const parts = pieces.map(([mark, text]) => (mark ? el("span", { class: kinds[mark] }, text) : text));
  return el(kind, parts);
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

const [NEARLY_ZERO, TOO_LARGE] = [1e-30, 1e30]; // stand for numbers of which three digits say no more than that

/** A decimal of three digits: sign, power of ten and digits in 16 bits. */
function threeDigits(code) {
  const sign = code >> 15 ? -1 : 1;
  const mantissa = code & 1023;
  const power = ((code >> 10) & 31) - 22;
  if (mantissa < 1000) return sign * (power < 0 ? mantissa / POWERS[-power] : mantissa * POWERS[power]);
  return { 1001: sign * Infinity, 1002: NaN, 1003: sign * NEARLY_ZERO, 1004: sign * TOO_LARGE }[mantissa];
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
  if (PAGE.format === "d3" && Math.abs(x) === NEARLY_ZERO) return "~0";
  if (PAGE.format === "d3" && Math.abs(x) === TOO_LARGE) return x < 0 ? "< -9.99e11" : "> 9.99e11";
  const [exact, power] = x.toExponential(60).split("e");
  const even = tieToEven(exact, exact.length - 61 + n);
  return even === null ? x.toPrecision(n) : Number(`${even}e${power}`).toPrecision(n);
}

/** A number with so many decimals. */
function fixed(x, decimals) {
  if (!Number.isFinite(x) || Math.abs(x) >= 1e21) return digits(x);
  const exact = x.toFixed(60);
  return tieToEven(exact, exact.length - 60 + decimals) ?? x.toFixed(decimals);
}

/** As Python rounds: all digits of a number cut to a length, if it lies midway and the even one is below; else null. */
function tieToEven(exact, length) {
  const midway = /^50*$/.test(exact.slice(length)) && /[02468]\.?$/.test(exact.slice(0, length));
  return midway ? exact.slice(0, length) : null;
}

/** A number as JSON holds it: what is not finite is text there. */
function numberOf(x) {
  return Number(String(x).replace("inf", "Infinity"));
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

// ---- elements ----

/**
 * Make an element: el("p.aside", { title: "..." }, "text", node ...). Attributes may be left out; those that begin
 * with "on" are listeners. What is put in is a node or text; text is never read as HTML.
 */
function el(kind, ...children) {
  const [tag, ...classes] = kind.split(".");
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  const [first] = children;
  const attributes = first && Object.getPrototypeOf(first) === Object.prototype ? children.shift() : {};
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    // One by one: a call takes only so many arguments, and a long text has more.
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set("svg g path rect line circle text defs pattern polyline".split(" "));

/** A link to a step, a parameter or a view of this page; to a step that was not recorded it leads nowhere. */
function link(target, attributes, ...children) {
  const there = !target.name || NUMBER_OF.has(target.name);
  return el("a", { href: there ? addressOf(target) : null, ...attributes }, ...children);
}
