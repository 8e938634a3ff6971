// One step: its title, what to notice, its equation drawn with what it reads, its numbers, and all its names.

const QKV = ["query", "key", "value"];
const WORDS_OF_AXES = {
  position: ["position", "positions"], query: ["query", "queries"], key: ["key", "keys"], head: ["head", "heads"], column: ["column", "columns"],
  neuron: ["neuron", "neurons"], token: ["token that exists", "tokens that exist"], one: ["number", "numbers"],
};
const WORDS_OF_LETTERS = { C: "columns", "3C": "columns", F: "neurons", V: "tokens that exist", n_positions: "positions that exist" };

function stepView(state) {
  const { pass, name } = state;
  const step = PAGE.passes[pass].steps[NUMBER_OF.get(name)];
  const point = pointOf(name);
  return [
    el("header", { class: "step-head" },
      el("h2", {}, titleOf(name)),
      el("p", { class: "named" }, el("code", { class: "name" }, name), " ", shapeChip(step.shape, point.axis_names.map((axis, i) => WORDS_OF_AXES[axis][step.shape[i] === 1 ? 0 : 1]))),
      el("p", { class: "notice" }, point.notice),
      el("p", { class: "symbols" }, el("span", { class: "result" }, shortName(name)), " = ", point.equation),
      step.numbers === shapeText(step.shape) ? null : el("p", { class: "in-numbers" }, el("span", { class: "result" }, shapeText(step.shape)), " = ", step.numbers),
    ),
    journey(state),
    el("section", { class: "numbers-of", "aria-label": "Numbers" }, figureOf(state), statistics(step, point)),
    equation(state),
    facts(name, point),
  ];
}

/** [5, 4, 16] with a word under each size. */
function shapeChip(shape, words) {
  const sizes = shape.map((size, i) =>
    el("span", { class: "axis" }, el("span", { class: "size" }, String(size)), el("span", { class: "axis-word" }, words[i])),
  );
  const withCommas = sizes.flatMap((node, i) => (i ? [el("span", { class: "comma" }, ", "), node] : [node]));
  return el("span", { class: "shape", "data-shape": shapeText(shape), "aria-label": `shape ${shapeText(shape)}` },
    "[", withCommas, "]", shape.length ? null : el("span", { class: "axis-word" }, " a single number"));
}

// ---- the equation, drawn ----

function equation(state) {
  const { pass, name } = state;
  const { reads, weights } = STEPS[NUMBER_OF.get(name)];
  const { picture } = pointOf(name);
  const sources = [...reads, ...weights];
  if (!sources.length) return null;
  let renamed = false; // after an arrow: the same numbers in another shape
  const parts = picture.map((part) => {
    if (typeof part === "string") {
      renamed = renamed || part.includes("->");
      return part === "->" ? null : operator(part);
    }
    if (part.of !== null && sources[part.of]) return operand(pass, /attn_scores|hook_z/.test(name) ? "across" : "", sources[part.of]);
    return renamed ? null : el("span", { class: "operand unnamed" }, "mean");
  });
  return el("section", { class: "equation", "aria-label": "What it is made of" }, el("h3", {}, "What it is made of"),
    el("div", { class: "drawn" }, parts, operator(picture.length === 1 || renamed ? "→" : "="), operand(pass, "result", name)));
}

function operator(text) {
  const signs = { "@": "@", "*": "×" };
  const shown = text.replace("{scale}", "scale").replace("{eps}", "eps").replace(/->.*/, "").trim();
  return el("span", { class: shown.length > 2 ? "operator words" : "operator" }, signs[shown] || shown);
}

/** What a step reads: a picture of it, its name and shape; stored parameters look otherwise than computed tensors. */
function operand(pass, kind, name) {
  const stored = isWeight(name);
  const shape = stored ? storedShape(name) : PAGE.passes[pass].steps[NUMBER_OF.get(name)].shape;
  const target = stored ? { view: name, pass } : { pass, name };
  return link(target, { class: `operand ${stored ? "stored" : "computed"} ${kind}` },
    el("span", { class: "picture" }, smallPicture(pass, name)),
    el("span", { class: "operand-name" }, stored ? shortName(name) : innerName(name)),
    el("span", { class: "operand-shape" }, shapeText(shape)),
    kind === "across" && startOf(pass) && /hook_[kv]$/.test(name) ? el("span", { class: "operand-shape" }, `and ${startOf(pass)} from the cache`) : null,
    stored ? el("span", { class: "tag" }, "stored") : null,
  );
}

function smallPicture(pass, name) {
  if (isWeight(name)) return PAGE.weights[name] ? thumbnail(tensor(pass, name), 130, 60) : null;
  const { axes } = pointOf(name);
  const table = tensor(pass, name);
  if (name === "hook_next_token") return el("span", { class: "small-token" }, tokenText(table.values[0]));
  if (axes === "T") return el("span", { class: "small-numbers" }, [...table.values].slice(0, 6).join("  ") + (table.values.length > 6 ? " …" : ""));
  if (!axes.includes("V")) return thumbnail(table, 130, 60);
  const answer = answerOf(pass);
  return answer ? smallBars(answer.rows.slice(0, 14).map((row) => (name === "hook_probabilities" ? row.p : row.logit))) : null;
}

function smallBars(numbers) {
  const [most, least] = [Math.max(...numbers), Math.min(0, ...numbers)];
  return el("svg", { width: numbers.length * 6, height: 36, "aria-hidden": "true" }, numbers.map((x, i) => {
    const height = Math.max(1, (34 * (x - least)) / (most - least || 1));
    return el("rect", { class: "bin", x: 6 * i, y: 36 - height, width: 5, height });
  }));
}

function storedShape(name) {
  if (PAGE.weights[name]) return PAGE.weights[name].shape;
  return parameterOf(name).axes.split(" ").map((letter) => {
    const multiple = /^(\d+)([A-Z])$/.exec(letter);
    return multiple && Number.isInteger(PAGE.sizes[multiple[2]]) ? multiple[1] * PAGE.sizes[multiple[2]] : PAGE.sizes[letter];
  });
}

// ---- the journey of shapes through a half-block ----

/** Which steps belong together: an attention or an MLP with its norm, or what stands around the blocks. */
function partOf(name) {
  const block = blockOf(name);
  if (block === null) return ["hook_tokens", "hook_positions", "hook_embed", "hook_pos_embed"].includes(name) ? "start" : "end";
  return /ln2|mlp|resid_post/.test(name) ? `mlp ${block}` : `attention ${block}`;
}

function journey(state) {
  const { pass, name } = state;
  const part = partOf(name);
  const steps = STEPS.filter((step) => partOf(step.name) === part || (part === "start" && step.name === "blocks.0.hook_resid_pre"));
  const widest = Math.max(...steps.map((step) => columnsOf(pass, step.name)));
  const items = [];
  steps.forEach((step, i) => {
    if (BESIDE.test(step.name)) return; // drawn with the one before it
    if (items.length) items.push(el("li", { class: "arrow", "aria-hidden": "true" }, "›"));
    const rest = steps.slice(i + 1).findIndex((other) => !BESIDE.test(other.name));
    const together = steps.slice(i, rest < 0 ? steps.length : i + 1 + rest);
    items.push(el("li", { class: together.length > 1 ? "together" : null }, together.map((one) => stage(pass, one.name, name, widest))));
  });
  const list = el("ol", { class: "journey" }, items);
  requestAnimationFrame(() => {
    const here = list.querySelector("[aria-current]");
    if (here) list.scrollLeft = here.offsetLeft - list.offsetLeft - list.clientWidth / 2 + here.offsetWidth / 2;
  });
  return el("section", { class: "journey-of", "aria-label": "The shapes on the way" }, list);
}

function columnsOf(pass, name) {
  const { shape } = PAGE.passes[pass].steps[NUMBER_OF.get(name)];
  const axes = pointOf(name).axes;
  if (axes === "H T S" || axes.includes("V") || !axes) return 1;
  return axes.startsWith("T") ? shape.slice(1).reduce((a, b) => a * b, 1) : shape[0];
}

/** One tensor as blocks of its true proportions: thirds and heads are cut where the step cuts them. */
function stage(pass, name, current, widest) {
  const { shape } = PAGE.passes[pass].steps[NUMBER_OF.get(name)];
  const axes = pointOf(name).axes;
  const group = { hook_q: "query", hook_k: "key", hook_v: "value", hook_z: "value", hook_merged: "value" }[name.replace(/^.*\.hook/, "hook")];
  const inner = innerName(name).replace("attn_scores", "scores").replace(/^(ln\d|ln_final)\./, "");
  return link({ pass, name }, {
      class: `stage${group ? ` ${group}` : ""}`,
      "aria-current": name === current ? "step" : null,
      title: titleOf(name),
    },
    el("span", { class: "blocks", "aria-hidden": "true" }, stageBlocks(axes, shape, name, widest)),
    el("span", { class: "stage-name" }, inner),
    el("span", { class: "stage-shape" }, shapeText(shape)),
  );
}

function stageBlocks(axes, shape, name, widest) {
  const full = 104; // pixels of the widest tensor of the part
  const block = (width, kind = "") => {
    const node = el("span", { class: `block ${kind}` });
    node.style.width = `${Math.max(3, width)}px`;
    return node;
  };
  if (axes === "H T S") {
    const squares = Array.from({ length: shape[0] }, () => el("span", { class: "block square" }));
    const node = el("span", { class: "squares" }, squares);
    node.style.setProperty("--across", Math.ceil(shape[0] / (shape[0] > 4 ? Math.ceil(shape[0] / 6) : 2)));
    return node;
  }
  if (axes.includes("V")) return block(full, "fading");
  if (!axes) return block(10);
  const columns = axes.startsWith("T") ? shape.slice(1).reduce((a, b) => a * b, 1) : shape[0];
  const width = Math.max(22, (full * columns) / widest);
  if (axes === "T 3C") return QKV.map((kind) => block(width / 3, `third ${kind}`));
  if (axes === "T H D") return Array.from({ length: shape[1] }, () => block(Math.max(3, (width - 2 * shape[1]) / shape[1]), "head"));
  if (axes === "T 1" || axes === "T") return block(6);
  if (axes === "C") return block(width, "single");
  return block(width);
}

// ---- the numbers ----

function tokenLabels(pass) {
  const start = startOf(pass);
  return PAGE.passes[pass].positions.map((_, t) => tokenText(keyToken(pass, start + t)));
}

function figureOf(state) {
  const { pass, name } = state;
  const axes = pointOf(name).axes;
  const step = PAGE.passes[pass].steps[NUMBER_OF.get(name)];
  if (name === "hook_next_token") return answerFigure(state);
  if (step.whole) return wholeFigure(state, step);
  if (axes === "H T S") return attentionFigure(state);
  if (axes === "T V") return rowsFigure(state);
  if (axes === "V") return name === "hook_probabilities" ? probabilitiesFigure(state) : logitsFigure(state);
  if (axes === "T 1") return scaleFigure(state);
  const kept = /hook_[kv]$/.test(name) && pass > 0 ? cachedFigure(state) : null;
  return [tableFigure(state), kept];
}

function tableFigure(state) {
  const { pass, name } = state;
  const table = tensor(pass, name);
  const labels = table.letters[0] === "T" ? tokenLabels(pass) : [tokenLabels(pass).pop()];
  const asked = state.at && table.find(state.at);
  const cell = asked || [table.rows > 1 ? rowOfState(state) : 0, 0];
  const readout = el("p", { class: "readout", "aria-live": "polite" });
  const made = el("div", { class: "derived" });
  const tell = (place, picked) => {
    readout.replaceChildren(...readoutOf(pass, name, place, table));
    made.replaceChildren(...arithmetic(pass, name, place));
    if (picked) keepPlace(place);
  };
  tell(table.place(...cell), false);
  const figure = heatFigure(table, { rowLabels: labels, segments: segmentsOf(table), cell, onplace: tell, label: name });
  figure.append(readout, made);
  return figure;
}

function rowOfState(state) {
  return Math.max(0, Math.min(PAGE.passes[state.pass].T - 1, state.query - startOf(state.pass)));
}

function segmentsOf(table) {
  if (!colours) readColours();
  const kind = table.letters.join(" ");
  if (kind === "T 3C") return { width: table.columns / 3, of: (n) => ({ label: ["queries", "keys", "values"][n], colour: colours.groups[n] }) };
  const group = { q: 0, k: 1, v: 2, z: 2 }[shortName(table.name)];
  if (kind === "T H D") return { width: PAGE.kept.D, of: (n) => ({ label: `head ${n}`, colour: colours.groups[group] }) };
  if (/c_attn/.test(table.name) && table.whole) return { width: table.columns / 3, of: (n) => ({ label: ["W_Q", "W_K", "W_V"][n], colour: colours.groups[n] }) };
  return null;
}

/** blocks.2.attn.hook_q[4, 3, 12] = 0.53211, and the same in words. */
function readoutOf(pass, name, place, table) {
  const cell = table.find(place);
  const x = table.at(...cell);
  const axes = isWeight(name) ? null : pointOf(name).axis_names;
  const words = place.map((i, axis) => {
    const word = axes ? axes[axis] : place.length === 1 ? "number" : ["row", "column"][axis];
    const position = word === "position" || word === "query" ? i + startOf(pass) : word === "key" ? i : null;
    return [axis ? ", " : "", `${word} ${position ?? i}`, position === null ? "" : [" ", tokenText(keyToken(pass, position))]];
  });
  return [el("code", {}, `${name}${shapeText(place)} = `, el("strong", {}, digits(x))), el("span", { class: "aside" }, words)];
}

/** LayerNorm's one number for each token, as bars. */
function scaleFigure(state) {
  const { pass, name } = state;
  const table = tensor(pass, name);
  const largest = Math.max(...table.values);
  const rows = tokenLabels(pass).map((label, t) => barRow(label, table.at(t, 0) / largest, digits(table.at(t, 0)), { query: startOf(pass) + t }));
  return el("div", { class: "figure bars" }, rows);
}

/** A label, a bar as long as `share` of the widest, and the number. */
function barRow(label, share, number, { kind = "computed", extra = null } = {}) {
  const bar = el("span", { class: `bar ${kind}` });
  bar.style.width = `${Math.max(0.4, 100 * Math.min(1, Math.abs(share)))}%`;
  return el("div", { class: "bar-row" }, el("span", { class: "bar-label" }, label), el("span", { class: "track" }, bar), el("span", { class: "bar-number" }, number), extra);
}

function wholeFigure({ pass, name }, step) {
  const words = name === "hook_tokens" ? "id" : "position";
  const start = startOf(pass);
  return el("ol", { class: "figure cards" }, step.whole.map((x, t) =>
    el("li", { class: "card" }, tokenText(keyToken(pass, start + t)), el("span", { class: "card-word" }, words), el("code", {}, String(x)))));
}

function statistics(step, point) {
  if (!step.stats) return null;
  const { mean, rms, min, max, masked } = step.stats;
  const four = [["mean", mean], ["RMS", rms], ["min", min], ["max", max]];
  const shown = four.map(([word, x]) => el("span", { class: "stat" }, el("span", { class: "stat-word" }, word), " ", el("span", { class: "stat-number" }, digits(Number(x), 5))));
  return el("p", { class: "statistics" }, shown,
    masked ? el("span", { class: "stat" }, `${counted(masked)} masked (-inf), left out`) : null,
    point.view ? el("span", { class: "stat aside" }, "A view: the same memory as what it reads, no new number.") : null);
}

// ---- names ----

function facts(name, point) {
  const [module, definition] = point.where.split(".");
  const rows = [["in this package", el("code", {}, `nanogpt_np/${module}.py, ${definition}`)]];
  const huggingFace = point.names["Hugging Face"];
  if (!huggingFace) rows.push(["Hugging Face", el("span", { class: "aside" }, "has no name for it")]);
  if (point.extra) rows.push(["TransformerLens", el("span", { class: "aside" }, "has no name for it; this package calls it so")]);
  return namesTable("All its names", rows, point.names, name);
}

function namesTable(title, rows, names, name) {
  for (const vocabulary of PAGE.vocabularies) {
    if (!names[vocabulary]) continue;
    const shown = names[vocabulary].map((one) => el(vocabulary === "words" ? "span" : "code", {}, filled(one, name)));
    rows.push([vocabulary, shown.flatMap((node, i) => (i ? [", ", node] : [node]))]);
  }
  return el("section", { class: "facts" }, el("h3", {}, title),
    el("dl", {}, rows.map(([word, value]) => [el("dt", {}, word), el("dd", {}, value)])));
}

// ---- stored parameters ----

function weightView(state) {
  const name = state.view;
  const parameter = parameterOf(name);
  const shape = storedShape(name);
  const readers = STEPS.filter((step) => step.weights.includes(name));
  const axes = parameter.axes;
  const held = PAGE.weights[name];
  const head = el("header", { class: "step-head" },
    el("p", { class: "kind stored-kind" }, "stored: read from the checkpoint, the same for every prompt"),
    el("h2", {}, shortName(name)),
    el("p", { class: "named" }, el("code", { class: "name" }, name), " ", shapeChip(shape, axes.split(" ").map((letter, i) => `${WORDS_OF_LETTERS[letter]}${/^[CF] \w*[CF]$/.test(axes) ? [" in", " out"][i] : ""}`))),
    el("p", { class: "notice" }, `${parameter.purpose[0].toUpperCase()}${parameter.purpose.slice(1)}. `,
      readers.length ? ["Read by ", readers.map((step, i) => [i ? ", " : "", link({ pass: state.pass, name: step.name }, {}, innerName(step.name))]), "."] : null));
  const siblings = Object.keys(PAGE.weights).filter((other) => other !== name && other.replace(/\.\w+$/, "") === name.replace(/\.\w+$/, ""));
  const parts = parameter.parts.map((part) => el("li", {}, el("code", {}, filled(part.names.TransformerLens ? part.names.TransformerLens[0] : part.names.papers[0], name)),
    " ", el("span", { class: "aside" }, part.purpose)));
  return [head,
    held ? el("section", { class: "numbers-of", "aria-label": "Numbers" }, weightFigure(state, name), statistics({ stats: held.stats }, {}))
      : el("p", { class: "aside" }, "The page was made without the weights: it holds what was recorded."),
    siblings.length ? el("p", {}, "Beside it: ", siblings.map((other, i) => [i ? ", " : "", link({ view: other, pass: state.pass }, {}, shortName(other))])) : null,
    parts.length ? el("section", { class: "facts" }, el("h3", {}, "Its parts"), el("ul", {}, parts)) : null,
    namesTable("All its names", [], parameter.names, name)];
}

function weightFigure(state, name) {
  const table = tensor(0, name);
  const label = (row) => {
    if (table.shape.length === 1) return el("span", {}, "");
    const number = table.rowOf(row);
    return table.letters[0] === "V" ? tokenText(number) : el("span", {}, String(number));
  };
  const labels = Array.from({ length: table.rows }, (_, row) => label(row));
  const readout = el("p", { class: "readout", "aria-live": "polite" });
  const tell = (place) => readout.replaceChildren(...readoutOf(0, name, place, table));
  const cell = (state.at && table.find(state.at)) || [0, 0];
  tell(table.place(...cell));
  const figure = heatFigure(table, { rowLabels: labels, segments: segmentsOf(table), cell, onplace: tell, label: name });
  figure.append(readout);
  return figure;
}
