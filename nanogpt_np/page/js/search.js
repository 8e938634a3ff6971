// Search by any name in any dialect, as names/glossary.py does.

const BLOCK_IN_QUERY = /\b(?:blocks?|blk|layers?|h)[ ._/[-]?(\d+)\b|\[(\d+)\]/i;
const MOST_FOUND = 40;
const FIRST_BLOCK = STEPS.find((step) => step.block !== null)?.block ?? 0; // where a name without a block is looked for
const ENDINGS = ["weight", "bia", "w", "b", "g", "matrix"]; // left out of a parameter's name

/** The words of a name in lower case and in the singular, without the block and its number, as names/glossary.py has them. */
function wordsOf(name) {
  const bare = name.replaceAll("{i}", "0").replace(new RegExp(BLOCK_IN_QUERY.source, "gi"), " ").toLowerCase();
  return (bare.match(/[a-z0-9]+/g) || [])
    .map((word) => word.replace(/ies$/, "y").replace(/(\w\w[^s])s$/, "$1"))
    .filter((word) => word !== "of" && word !== "the");
}

function fit(target, entry, name) {
  const words = wordsOf(name);
  const whole = words.join("");
  if (!whole.includes(target)) return 4;
  if (whole === target) return 0;
  const ends = [];
  for (let from = 0; from < words.length; from++) {
    for (let to = from + 1; to <= words.length; to++) if (words.slice(from, to).join("") === target) ends.push(to);
  }
  if (
    ends.includes(words.length) ||
    (ends.includes(words.length - 1) && ENDINGS.includes(words[words.length - 1]) && entry.parameter)
  )
    return 1;
  return ends.length || !target ? 2 : target.length > 2 ? 3 : 4;
}

/** All that has a name: {key, parameter, names: [[name, dialect]]}, and `nth` for a third of c_attn. */
function searchable() {
  const named = (key, names) => [
    [key, "this package"],
    ...Object.entries(names).flatMap(([dialect, some]) => some.map((name) => [name, dialect])),
  ];
  const points = Object.entries(PAGE.points).map(([key, point]) => ({
    key,
    names: [...named(key, point.names), ...titlesOf(key, point)],
  }));
  const replaced = Object.entries(PAGE.stand_ins).map(([key, { names }]) => ({ key, names: named(key, names) }));
  const stored = Object.entries(PAGE.parameters).flatMap(([key, parameter]) => [
    { key, parameter: true, names: named(key, parameter.names) },
    ...parameter.parts.map((part, nth) => ({
      key,
      nth,
      part: part.index,
      parameter: true,
      names: named(key + part.index, part.names),
    })),
  ]);
  return [...points, ...replaced, ...stored];
}

const PICTURES = { hook_next_token: ["logit lens", "direct logit attribution"] }; // what else a step shows

function titlesOf(key, { title }) {
  return [title, ...(PICTURES[key] || [])].map((name) => [name, "title"]);
}

/** What a query finds, best first: [{to, shown, aside}] with `to` as `go` takes it. */
function search(query) {
  const text = query.trim().replace(/^(model|self)\./, "");
  const head = /^(.*?)\b(?:heads? ?)?(\d+)$/.exec(text);
  const found = byName(text);
  const ofHead = !found.length && head && Number(head[2]) < H ? byName(head[1], Number(head[2])) : [];
  return [...byToken(text), ...found, ...ofHead].slice(0, MOST_FOUND);
}

function byName(query, head = null) {
  const numbered = BLOCK_IN_QUERY.exec(query);
  const here = STATE.name ? blockOf(STATE.name) : STATE.view ? blockOf(STATE.view) : null;
  const block = numbered ? Number(numbered[1] || numbered[2]) : (here ?? FIRST_BLOCK);
  const target = wordsOf(query).join("");
  if ((!target && !numbered && head === null) || block >= PAGE.layers) return [];
  const rows = searchable()
    .filter((entry) => target || entry.key.includes("{i}")) // a block by its number: all that is in it
    .filter((entry) => head === null || hasHead(entry))
    .filter(({ key }) => isWeight(key) || PAGE.stand_ins[key] || NUMBER_OF.has(key.replace("{i}", block)))
    .map((entry) => ({ ...entry, best: bestName(entry, target) }));
  const least = Math.min(...rows.map((row) => row.best.fit));
  if (least === 4) return [];
  return rows
    .filter((row) => row.best.fit <= Math.max(least, 1))
    .filter((row) =>
      row.key === "blocks.0.hook_resid_pre"
        ? block === 0
        : !(row.key === "blocks.{i}.hook_resid_pre" && block === 0 && PAGE.points["blocks.0.hook_resid_pre"]),
    )
    .sort((a, b) => a.best.fit - b.best.fit || a.best.other - b.best.other || (target ? 0 : inOrder(a, b, head)))
    .map((row) => asFound(row, block, head));
}

const FIT_OF_TITLE = [1.5, 2, 2, 4, 4]; // titles come after names, and have to be asked for in whole words

/** The name of an entry that fits best. */
function bestName(entry, target) {
  const fits = entry.names.map(([name, dialect]) => {
    const found = fit(target, entry, name);
    return {
      fit: dialect === "title" ? FIT_OF_TITLE[found] : found,
      other: name === entry.key ? 0 : dialect === "title" ? 2 : 1,
      name,
      dialect,
    };
  });
  return fits.reduce((a, b) => (b.fit < a.fit || (b.fit === a.fit && b.other < a.other) ? b : a));
}

function asFound({ key, part, nth, parameter, best }, block, head) {
  const name = key.replace("{i}", block);
  const other = best.name === key ? "" : `${best.dialect}: ${best.name.replaceAll("{i}", block)}`;
  const place = nth === undefined && head === null ? {} : firstOf(name, nth ?? 0, head ?? 0);
  return {
    to: { pass: STATE.pass, ...(parameter ? { view: name } : { name }), ...place },
    shown: name + (part ? filled(part, name) : ""),
    aside: [other, head === null ? "" : `head ${head}`].filter(Boolean).join(", "),
  };
}

function hasHead({ key, nth }) {
  return nth !== undefined || (PAGE.points[key] && pointOf(key).axes.split(" ").includes("H"));
}

/** Where a head begins, in a third of c_attn or in a tensor with an axis of heads. */
function firstOf(name, nth, head) {
  if (!isWeight(name)) return hasHeads(name) ? { head } : { at: [PAGE.passes[STATE.pass].T - 1, head, 0] };
  const column = nth * PAGE.sizes.C + head * D;
  return { at: storedShape(name).length > 1 ? [0, column] : [column] };
}

/** Of a block its steps as they come, then what is stored; of a head first where it looks. */
function inOrder(a, b, head) {
  const order = ({ key }) =>
    head !== null && key.endsWith("hook_pattern") ? -1 : (NUMBER_OF.get(key.replace("{i}", "0")) ?? COUNT);
  return order(a) - order(b);
}

/** Tokens of the prompt and of the answer that are, or begin, as the query. */
function byToken(query) {
  const target = query.toLowerCase();
  const fits = (id) => {
    const text = plain(id).trim().toLowerCase();
    return text !== "" && (text === target || (target.length > 2 && text.startsWith(target)));
  };
  const read = NUMBER_OF.has("hook_tokens") ? PAGE.passes[0].ids : [];
  const prompt = read.map((id, position) => ({
    id,
    to: { pass: 0, name: "hook_tokens", query: position },
    shown: "hook_tokens",
    aside: `token ${position} of the prompt: ${plain(id)}`,
  }));
  return [...PAGE.passes.flatMap((_, pass) => answersToFind(pass)), ...prompt].filter(({ id }) => fits(id));
}

/** Of the pass that is shown all tokens that are explained, of others the one that was chosen. */
function answersToFind(pass) {
  const answer = answerOf(pass);
  if (!answer) return [];
  const known = pass === STATE.pass ? answer.explained : [answer.chosen];
  const name = NUMBER_OF.has("hook_next_token") ? "hook_next_token" : null; // the start explains a token as well
  return answer.rows
    .filter(({ id }) => known.includes(id))
    .map(({ id, rank }) => ({
      id,
      to: { pass, name, token: id },
      shown: name ?? "start",
      aside: `answer of rank ${rank}${PAGE.passes.length > 1 ? ` in pass ${pass + 1}` : ""}: ${plain(id)}`,
    }));
}
