// One step: its title, what to notice, its equation drawn with what it reads, its numbers, and all its names.

const QKV = ["query", "key", "value"];
const WORDS_OF_AXES = {
  position: ["position", "positions"],
  query: ["query", "queries"],
  key: ["key", "keys"],
  head: ["head", "heads"],
  column: ["column", "columns"],
  neuron: ["neuron", "neurons"],
  token: ["token that exists", "tokens that exist"],
  one: ["number", "numbers"],
};
const WORDS_OF_LETTERS = {
  C: "columns",
  "3C": "columns",
  F: "neurons",
  V: "tokens that exist",
  n_positions: "positions that exist",
};

function stepView(state) {
  const { pass, name } = state;
  const step = held(pass, name);
  const point = pointOf(name);
  return [
    el(
      "header.step-head",
      el("h2", titleOf(name)),
      el(
        "p.named",
        el("code.name", name),
        " ",
        shapeChip(
          step.shape,
          point.axis_names.map((axis, i) => WORDS_OF_AXES[axis][step.shape[i] === 1 ? 0 : 1]),
        ),
      ),
      el("p.notice", point.notice),
      el("p.symbols", el("span.result", shortName(name)), " = ", point.equation),
      step.numbers === shapeText(step.shape)
        ? null
        : el("p.in-numbers", el("span.result", shapeText(step.shape)), " = ", step.numbers),
    ),
    journey(state),
    el("section.numbers-of", { "aria-label": "Numbers" }, figureOf(state), statistics(step, point)),
    equation(state),
    facts(name, point),
  ];
}

/** [5, 4, 16] with a word under each size. */
function shapeChip(shape, words) {
  const sizes = shape.map((size, i) => el("span.axis", el("span.size", String(size)), el("span.axis-word", words[i])));
  const withCommas = sizes.flatMap((node, i) => (i ? [el("span.comma", ", "), node] : [node]));
  return el(
    "span.shape",
    { "data-shape": shapeText(shape), "aria-label": `shape ${shapeText(shape)}` },
    "[",
    withCommas,
    "]",
    shape.length ? null : el("span.axis-word", "\u00a0a single number"),
  );
}

// ---- the equation, drawn ----

function equation(state) {
  const { pass, name } = state;
  const { sources } = STEPS[NUMBER_OF.get(name)];
  const { picture } = pointOf(name);
  if (!sources.length) return null;
  let renamed = false; // after an arrow: the same numbers in another shape
  const parts = picture.map((part) => {
    if (typeof part === "string") {
      renamed ||= part.includes("->");
      return part === "->" ? null : operator(part);
    }
    const source = part.of === null ? null : sources[part.of];
    if (source && (isWeight(source) || NUMBER_OF.has(source)))
      return operand(pass, /attn_scores|hook_z/.test(name) ? "across" : "", source);
    return renamed ? null : el("span.operand.unnamed", source ? innerName(source) : "mean");
  });
  return el(
    "section.equation",
    { "aria-label": "What it is made of" },
    el("h3", "What it is made of"),
    el("div.drawn", parts, operator(picture.length === 1 || renamed ? "→" : "="), operand(pass, "result", name)),
  );
}

function operator(text) {
  const signs = { "@": "@", "*": "×" };
  const shown = text.replace("{scale}", "scale").replace("{eps}", "eps").replace(/->.*/, "").trim();
  return el("span", { class: shown.length > 2 ? "operator words" : "operator" }, signs[shown] || shown);
}

/** What a step reads: a picture of it, its name and shape; stored parameters look otherwise than computed tensors. */
function operand(pass, kind, name) {
  const stored = isWeight(name);
  const shape = stored ? storedShape(name) : held(pass, name).shape;
  const target = stored ? { view: name, pass } : { pass, name };
  return link(
    target,
    { class: `operand ${stored ? "stored" : "computed"} ${kind}` },
    el("span.picture", smallPicture(pass, name)),
    el("span.operand-name", stored ? shortName(name) : innerName(name)),
    el("span.operand-shape", shapeText(shape)),
    partText(pass, name),
    kind === "across" && startOf(pass) && /hook_[kv]$/.test(name)
      ? el("span.operand-shape", `and ${startOf(pass)} from the cache`)
      : null,
    stored ? el("span.tag", "stored") : null,
  );
}

/** Says so where the picture is of a part of the numbers. */
function partText(pass, name) {
  if (isWeight(name) ? !PAGE.weights[name] : pointOf(name).axes.includes("V")) return null;
  const { whole, rows, columns, shape } = tensor(pass, name);
  if (whole !== false) return null;
  const part = shape.length === 1 ? [columns] : [rows, columns];
  return el("span.operand-shape", `cut to ${shapeText(part)}`);
}

function smallPicture(pass, name) {
  if (isWeight(name)) return PAGE.weights[name] ? thumbnail(tensor(pass, name), 130, 60) : null;
  const { axes } = pointOf(name);
  const table = tensor(pass, name);
  if (name === "hook_next_token") return el("span.small-token", tokenText(table.values[0]));
  if (axes === "T")
    return el("span.small-numbers", [...table.values].slice(0, 6).join("  ") + (table.values.length > 6 ? " …" : ""));
  if (!axes.includes("V")) return thumbnail(table, 130, 60);
  const answer = answerOf(pass);
  return answer
    ? smallBars(answer.rows.slice(0, 14).map((row) => (name === "hook_probabilities" ? row.p : row.logit)))
    : null;
}

function smallBars(numbers) {
  const finite = numbers.filter(Number.isFinite);
  const [most, least] = [Math.max(...finite), Math.min(0, ...finite)];
  return el(
    "svg",
    { width: numbers.length * 6, height: 36, "aria-hidden": "true" },
    finite.map((x, i) => {
      const height = Math.max(1, (34 * (x - least)) / (most - least || 1));
      return el("rect.bin", { x: 6 * i, y: 36 - height, width: 5, height });
    }),
  );
}

function storedShape(name) {
  if (PAGE.weights[name]) return PAGE.weights[name].shape;
  return parameterOf(name)
    .axes.split(" ")
    .map((letter) => {
      const multiple = /^(\d+)([A-Z])$/.exec(letter);
      return multiple && Number.isInteger(PAGE.sizes[multiple[2]])
        ? multiple[1] * PAGE.sizes[multiple[2]]
        : PAGE.sizes[letter];
    });
}

// ---- the numbers ----

/** The tokens of a pass; the one that is chosen stands out. */
function tokenLabels(pass) {
  const start = startOf(pass);
  return PAGE.passes[pass].positions.map((_, t) => {
    const label = tokenText(keyToken(pass, start + t));
    if (STATE.query === start + t) label.classList.add("lit");
    return label;
  });
}

function figureOf(state) {
  const { pass, name } = state;
  const axes = pointOf(name).axes;
  const step = held(pass, name);
  if (name === "hook_next_token") return answerFigure(state);
  if (step.whole) return wholeFigure(state, step);
  if (axes === "H T S") return attentionFigure(state);
  if (axes.includes("V") && !answerOf(pass)) return null; // probabilities alone: no logits were recorded
  if (axes === "T V") return rowsFigure(state);
  if (axes === "V") return name === "hook_probabilities" ? probabilitiesFigure(state) : logitsFigure(state);
  if (axes === "T 1") return [scaleFigure(state), madeElsewhere(state, [rowOfState(state), 0])];
  const all = withCache(state);
  const range = all && colourRange(all.values); // one scale for a row that is drawn twice
  return [tableFigure(state, range), all && cachedFigure(state, all)];
}

function tableFigure(state, range) {
  const { pass, name } = state;
  const table = tensor(pass, name);
  const labels = table.letters[0] === "T" ? tokenLabels(pass) : [tokenLabels(pass).pop()];
  const asked = state.at && table.find(state.at);
  const cell = asked || [table.rows > 1 ? rowOfState(state) : 0, 0];
  const readout = el("p.readout");
  const made = el("div.derived");
  const told = el("div", readout, made);
  const tell = (place, picked) => {
    readout.replaceChildren(...readoutOf(pass, name, place, table));
    made.replaceChildren(...arithmetic(pass, name, place));
    neverShrinks(told);
    if (picked) keepPlace(place, readout.textContent);
  };
  tell(table.place(...cell), false);
  const figure = heatFigure(table, {
    rowLabels: labels,
    segments: segmentsOf(table),
    cell,
    onplace: tell,
    label: name,
    range,
  });
  figure.append(told);
  return figure;
}

/** Keep the height that an element has had, so that what stands below does not jump while the pointer moves. */
function neverShrinks(node) {
  node.style.minHeight = `${Math.ceil(node.getBoundingClientRect().height)}px`;
}

function rowOfState(state) {
  return Math.max(0, Math.min(PAGE.passes[state.pass].T - 1, state.query - startOf(state.pass)));
}

/** blocks.2.attn.hook_q[4, 3, 12] = 0.53211, and the same in words. */
function readoutOf(pass, name, place, table) {
  const cell = table.find(place);
  const x = table.at(...cell);
  const axes = isWeight(name) ? null : pointOf(name).axis_names;
  const words = place.map((i, axis) => {
    const word = axes ? axes[axis] : place.length === 1 ? "number" : ["row", "column"][axis];
    const position = word === "position" || word === "query" ? i + startOf(pass) : word === "key" ? i : null;
    return [
      axis ? ", " : "",
      `${word} ${position ?? i}`,
      position === null ? "" : [" ", tokenText(keyToken(pass, position))],
    ];
  });
  const segments = /C$/.test(table.letters.join(" ")) ? segmentsOf(table) : null; // of heads the index says it
  const part = segments ? `, in ${segments.of(Math.floor(cell[1] / segments.width)).label}` : "";
  return [el("code", `${name}${shapeText(place)} = `, el("strong", digits(x))), el("span.aside", words, part)];
}

/** LayerNorm's one number for each token, as bars. */
function scaleFigure(state) {
  const { pass, name } = state;
  const table = tensor(pass, name);
  const largest = Math.max(...table.values);
  const rows = tokenLabels(pass).map((label, t) => barRow(label, table.at(t, 0) / largest, digits(table.at(t, 0))));
  return el("div.figure.bars", rows);
}

/** A label, a bar as long as `share` of the widest, and the number. */
function barRow(label, share, number) {
  const bar = el("span.bar");
  bar.style.width = `${100 * share}%`;
  return el("div.bar-row", el("span.bar-label", label), el("span.track", bar), el("span.bar-number", number));
}

function wholeFigure({ pass, name }, step) {
  const words = name === "hook_tokens" ? "id" : "position";
  const start = startOf(pass);
  return el(
    "ol.figure.cards",
    step.whole.map((x, t) =>
      el("li.card", tokenText(keyToken(pass, start + t)), el("span.card-word", words), el("code", String(x))),
    ),
  );
}

function statistics(step, point) {
  if (!step.stats) return null;
  const { mean, rms, min, max, masked } = step.stats;
  const four = [
    ["mean", mean],
    ["RMS", rms],
    ["min", min],
    ["max", max],
  ];
  // A row of a pattern adds up to 1, so that its mean is 1 / S whatever it is, with the zeros of later tokens.
  const isPattern = point.axes === "H T S" && !masked;
  const shown = (isPattern ? four.slice(3) : four).map(([word, x]) =>
    el("span.stat", el("span.stat-word", word), " ", el("span.stat-number", digits(numberOf(x), 5))),
  );
  return el(
    "p.statistics",
    shown,
    isPattern ? el("span.stat.aside", "Each row adds up to 1, so that its mean says nothing.") : null,
    masked ? el("span.stat", `${counted(masked)} masked (-inf), left out`) : null,
    point.view ? el("span.stat.aside", "A view: the same memory as what it reads, no new number.") : null,
  );
}

// ---- names ----

function facts(name, point) {
  const rows = [["in this package", el("code", point.place)]];
  const huggingFace = point.names["Hugging Face"];
  if (!huggingFace) rows.push(["Hugging Face", el("span.aside", "has no name for it")]);
  if (point.extra) rows.push(["TransformerLens", el("span.aside", "has no name for it; this package calls it so")]);
  return namesTable("All its names", rows, point.names, name);
}

function namesTable(title, rows, names, name) {
  for (const dialect of PAGE.dialects) {
    if (!names[dialect]) continue;
    const shown = names[dialect].map((one) => el(dialect === "words" ? "span" : "code", {}, filled(one, name)));
    rows.push([dialect, shown.flatMap((node, i) => (i ? [", ", node] : [node]))]);
  }
  return el(
    "section.facts",
    el("h3", title),
    el(
      "dl",
      rows.map(([word, value]) => [el("dt", word), el("dd", value)]),
    ),
  );
}
