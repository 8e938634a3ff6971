// Addresses: #blocks.2.attn.hook_pattern[3,4,3]; before the name "pass2/" for the second pass, after the place what the
// reader chose, as ?query=3&token=6342. Any text may come as an address: what it means is only what this page holds.

/** Choices that stay from step to step, as they are before anything is chosen; `go` brings `query` into the pass. */
const UNCHOSEN = { head: 0, query: Infinity, key: null, token: null, rival: null };

/** The address of a target. Links name a step; the address of the page has the reader's choices too. */
function addressOf(target) {
  const { pass = 0, name = null, view = null, at = null } = target;
  const before = pass && (name || view) ? `pass${pass + 1}/` : "";
  return `#${before}${view || name || "start"}${at ? `[${at.join(",")}]` : ""}${choicesOf(target)}`;
}

function choicesOf(target) {
  const { pass = 0, name = null, at = null } = target;
  const usual = { ...UNCHOSEN, query: PAGE.passes[pass].S - 1 };
  const told = at && hasHeads(name) ? ["head", "query"] : []; // the place has them
  const chosen = Object.keys(UNCHOSEN).filter(
    (choice) => target[choice] !== undefined && target[choice] !== usual[choice] && !told.includes(choice),
  );
  return chosen.length ? `?${chosen.map((choice) => `${choice}=${target[choice]}`).join("&")}` : "";
}

function hasHeads(name) {
  return name !== null && pointOf(name).axes === "H T S";
}

const START = { pass: 0, name: null, view: null, at: null };

/**
 * What an address means: {pass, name, view, at}, the choices in it, and as `missing` a sentence about what this page
 * does not have.
 */
function meant(address) {
  const text = decoded(address.replace(/^#/, "")).trim();
  const found = /^(?:pass(\d+)\/)?([^[\]/?]*)(?:\[([^\]]*)\])?(?:\?(.*))?$/.exec(text);
  const pass = found && found[1] ? Number(found[1]) - 1 : 0;
  if (!found || !PAGE.passes[pass]) return { ...START, missing: noSuch(text) };
  const [, , asked, place, choices] = found;
  const chosen = choicesIn(pass, choices);
  if (asked === "" || asked === "start") return { ...START, ...chosen };
  const at = place ? place.split(",").map((i) => (/^\s*\d+\s*$/.test(i) ? Number(i) : NaN)) : null;
  if (Object.hasOwn(PAGE.stand_ins, asked)) return { ...insteadOf(asked, pass, at), ...chosen };
  if (!NUMBER_OF.has(asked) && !isParameter(asked)) return { ...START, missing: noSuch(text) };
  const target = { ...START, pass, ...(NUMBER_OF.has(asked) ? { name: asked } : { view: asked }), ...chosen };
  if (!at || holds(target, at)) return { ...target, at };
  return { ...target, missing: `This page does not hold the number ${asked}[${place}].` };
}

/** True for h.0.ln_1.bias in full: h.{i}.ln_1.bias stands for many, and h.00.ln_1.bias is no name. */
function isParameter(name) {
  const block = blockOf(name);
  const full = block === null ? !name.includes("{i}") : block < PAGE.layers && name.startsWith(`h.${block}.`);
  return full && parameterOf(name) !== undefined;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function noSuch(text) {
  return `There is no ${[...text].slice(0, 60).join("")} in this page; this is its start.`;
}

/** A step that was not recorded, and the one that stands for it. */
function insteadOf(asked, pass, at) {
  const { to, why } = PAGE.stand_ins[asked];
  const target = { ...START, pass, name: to, missing: `${asked} is not in this page: ${why}.` };
  const last = at && at[0] === PAGE.passes[pass].T - 1 ? at.slice(1) : null;
  return last && holds(target, last) ? { ...target, at: last } : target;
}

/** True if the page can show the number at a place. */
function holds({ pass, name, view }, at) {
  if (view) return Boolean(PAGE.weights[view] && tensor(0, view).find(at));
  if (!inside(at, held(pass, name).shape)) return false;
  if (pointOf(name).axes === "V") return Boolean(answerOf(pass)?.explained.includes(at[0]));
  const { find } = tensor(pass, name);
  return !find || find(at) !== null;
}

/** The choices in an address, without those that are none in this page. */
function choicesIn(pass, text) {
  const asked = new URLSearchParams(text);
  const below = (most) => (i) => i < most;
  const explained = (id) => Boolean(answerOf(pass)?.explained.includes(id));
  const { S } = PAGE.passes[pass];
  const possible = { head: below(H), query: below(S), key: below(S), token: explained, rival: explained };
  const found = {};
  for (const [choice, fits] of Object.entries(possible)) {
    const value = asked.get(choice);
    if (value !== null && /^\d+$/.test(value) && fits(Number(value))) found[choice] = Number(value);
  }
  return found;
}
