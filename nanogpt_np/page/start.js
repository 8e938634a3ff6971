// The first view: the whole pass as one picture, then what was said, what made it, and who looked where.

function startView(state) {
  const answer = answerOf(state.pass);
  const { T, S } = PAGE.passes[state.pass];
  return [
    el("header", { class: "step-head" },
      el("h2", {}, `How ${counted(S)} token${S > 1 ? "s" : ""} became `, answer ? tokenText(answer.chosen) : "a next one"),
      el("p", { class: "notice" }, T > 1 ? "Each token is a row of numbers, and keeps its row from left to right. Every block adds to the rows: attention lets a row take from those above it (the lines), the MLP works on each by itself. " : "",
        answer ? "The last row becomes the answer. " : "", link({ pass: 0, name: STEPS[0].name }, { class: "begin" }, `Begin with step 1 of ${STEPS.length}`), "."),
      streamFigure(state)),
    el("div", { class: "ways" },
      answer ? el("section", { class: "way" }, el("h3", {}, "What does it say?"), likeliest(state, { most: 5, current: explainedToken(state) }),
        NUMBER_OF.has("hook_next_token") ? el("p", { class: "onward" }, link({ pass: state.pass, name: "hook_next_token" }, {}, "The answer, and how it came about")) : null) : null,
      answer && answer.split ? el("section", { class: "way" }, whyHeading(state), whyBars(state)) : null,
      hasPatterns() ? el("section", { class: "way wide" }, el("h3", {}, "Who looks where?"), looksFigure(state)) : null),
    PAGE.passes.length > 1 ? cacheFigure(state) : null,
  ];
}

// ---- the whole pass as one picture ----

const MOST_ROWS = 14; // tokens of a long text that the picture shows, the last ones

/** The picture, drawn to the room there is. */
function streamFigure(state) {
  const host = el("div", { class: "figure stream" });
  onResize(host, () => host.replaceChildren(...streamPictures(state, host.clientWidth)));
  return host;
}

/** A column for the embeddings and for every block; lines are the attention that led from row to row. */
function streamPictures(state, wide) {
  const { pass } = state;
  const { T } = PAGE.passes[pass];
  const columns = STEPS.filter((step) => /hook_resid_post$/.test(step.name) || step.name === "blocks.0.hook_resid_pre");
  if (T < 2 || !columns.length) return [];
  const first = Math.max(0, T - MOST_ROWS);
  const rows = T - first;
  const narrow = wide < 560;
  const [row, left, top, head] = [rows > 8 ? 21 : 27, narrow ? 62 : 94, 26, 12];
  const gaps = columns.length - 1;
  const room = Math.min(860, wide) - left - (narrow ? 66 : 120);
  const picture = Math.max(18, Math.min(66, Math.floor(room / (columns.length + 1.25 * gaps))));
  const gap = Math.max(26, Math.min(92, Math.floor((room - picture * columns.length) / Math.max(1, gaps))));
  const x = (i) => left + i * (picture + gap);
  const y = (t) => top + (t - first) * row + row / 2;
  const answer = answerOf(pass);
  const lens = answer && answer.lens;
  const end = x(columns.length - 1) + picture;
  const width = end + (answer ? (narrow ? 66 : 128) : 10);
  const height = top + rows * row + (lens ? 46 : 10);
  const lines = [];
  for (let t = first; t < T; t++) {
    lines.push(el("text", { class: t === T - 1 ? "axis-label lit" : "axis-label", x: left - 12, y: y(t) + 4, "text-anchor": "end" }, clipped(keyToken(pass, startOf(pass) + t), narrow ? 7 : 11)),
      el("line", { class: "row-line", x1: left - 6, x2: end, y1: y(t), y2: y(t) }));
  }
  for (let i = 0; i < gaps; i++) lines.push(...attentionLines(pass, columns[i + 1].block, first, T, x(i) + picture, x(i + 1), y));
  columns.forEach((step, i) => {
    lines.push(el("text", { class: "axis-label", x: x(i) + picture / 2, y: head, "text-anchor": "middle" }, i === 0 ? (picture < 50 ? "" : "embedded") : picture + gap < 70 ? String(step.block) : `block ${step.block}`));
    if (lens) lines.push(...saidEarly(lens, step, x(i) + picture / 2, top + rows * row + 17, answer.chosen, gap + picture));
  });
  if (lens) {
    const label = (y, ...words) => el("text", { class: "axis-label small", x: left - 12, y, "text-anchor": "end" }, words);
    lines.push(label(top + rows * row + 17, "would say"), label(top + rows * row + 34, `${clipped(answer.chosen, narrow ? 6 : 10)} is no.`));
  }
  if (answer) lines.push(el("path", { class: "to-answer", d: `M ${end} ${y(T - 1)} H ${end + (narrow ? 8 : 22)}` }));
  const svg = el("svg", { class: "stream-lines", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, lines);
  const pictures = columns.map((step, i) => {
    const node = link({ pass, name: step.name }, { class: "stream-picture", "aria-label": i === 0 ? "the embedded tokens" : `the stream after block ${step.block}`, title: titleOf(step.name) });
    const draw = () => node.replaceChildren(streamPicture(tensor(pass, step.name), first, picture, row));
    draw();
    onColours(node, draw);
    node.style.left = `${x(i)}px`;
    node.style.top = `${top}px`;
    return node;
  });
  const blocks = columns.slice(1).map((step, i) => {
    const node = link({ pass, name: `blocks.${step.block}.attn.hook_pattern` }, { class: "stream-gap", "aria-label": `attention of block ${step.block}`, title: `Attention of block ${step.block}` });
    node.style.left = `${x(i) + picture + 2}px`;
    node.style.top = `${top}px`;
    node.style.width = `${gap - 4}px`;
    node.style.height = `${rows * row}px`;
    return node;
  });
  const chip = answer ? link({ pass, name: NUMBER_OF.has("hook_next_token") ? "hook_next_token" : STEPS[COUNT - 1].name }, { class: "chip made" }, tokenText(answer.chosen)) : null;
  if (chip) {
    chip.style.left = `${end + (narrow ? 8 : 26)}px`;
    chip.style.top = `${y(T - 1) - 16}px`;
  }
  const canvas = el("div", { class: "stream-canvas" }, svg, blocks, pictures, chip);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const cut = first ? el("p", { class: "aside" }, `The last ${rows} of ${T} tokens.`) : "";
  return [el("div", { class: "scroll-x" }, canvas), cut];
}

/** The rows of a table as an image whose rows are those of the tokens. */
function streamPicture(table, first, width, row) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const context = sized(canvas, width, (table.rows - first) * row);
  const image = cellImage(table, colourRange(table.values));
  for (let t = first; t < table.rows; t++) {
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, t, table.columns, 1, 0, (t - first) * row + 3, width, row - 6);
  }
  return canvas;
}

/** A line for each pair of tokens of which one looks at the other: the most that any head does. */
function attentionLines(pass, block, first, T, x1, x2, y) {
  const name = `blocks.${block}.attn.hook_pattern`;
  if (!NUMBER_OF.has(name)) return [];
  const lines = [];
  for (let t = first; t < T; t++) {
    for (let k = first; k < t; k++) {
      let most = 0;
      for (let head = 0; head < H; head++) most = Math.max(most, weightOf(pass, block, head, startOf(pass) + t, startOf(pass) + k));
      if (most < 0.25) continue;
      const middle = (x1 + x2) / 2;
      lines.push(el("path", { class: "arc", d: `M ${x1 + 2} ${y(k)} C ${middle} ${y(k)}, ${middle} ${y(t)}, ${x2 - 2} ${y(t)}`, "stroke-width": 2.6 * most, "stroke-opacity": 0.85 * most ** 2 }));
    }
  }
  return lines;
}

/** What the model would say if it stopped here (the logit lens), and the rank of its real answer. */
function saidEarly(lens, step, x, y, chosen, room) {
  const stop = lens.find(({ point }) => point === step.name);
  if (!stop || room < 42) return [];
  const { rank } = stop.of[chosen];
  return [
    el("text", { class: `axis-label${room < 90 ? " small" : ""}${stop.best === chosen ? " lit" : ""}`, x, y, "text-anchor": "middle" }, clipped(stop.best, Math.floor(room / 7.5))),
    el("text", { class: `axis-label small${rank === 1 ? " lit" : ""}`, x, y: y + 17, "text-anchor": "middle" }, counted(rank)),
  ];
}

// ---- ways in ----

function whyHeading(state) {
  const token = explainedToken(state);
  const rival = rivalOf(state, token);
  return el("h3", {}, "What puts ", tokenText(token), " ahead", rival === null ? "?" : [" of ", tokenText(rival), "?"]);
}

function whyBars(state) {
  const token = explainedToken(state);
  return partBars(state, partsOf(state, token, rivalOf(state, token)), 5);
}

function hasPatterns() {
  return NUMBER_OF.has("blocks.0.attn.hook_pattern");
}

/** Choose two tokens: every head of every block as a cell, as dark as the first looks at the second. */
function looksFigure(state) {
  const { pass } = state;
  const { S } = PAGE.passes[pass];
  const query = Math.max(startOf(pass), Math.min(state.query, S - 1));
  const weights = (key) => Array.from({ length: PAGE.layers }, (_, block) => Array.from({ length: H }, (_, head) => weightOf(pass, block, head, query, key)));
  const strongest = (key) => Math.max(...weights(key).flat());
  let key = state.key;
  if (key === null || key > query) { // neither itself nor the first token, where heads with nothing to do look
    const others = Array.from({ length: query }, (_, k) => k).slice(1);
    key = others.length ? others.reduce((best, k) => (strongest(k) > strongest(best) ? k : best), others[0]) : 0;
  }
  const found = weights(key);
  const flat = found.flatMap((row, block) => row.map((w, head) => ({ w, block, head }))).sort((a, b) => b.w - a.w);
  const chips = (positions, chosen, choose, label) => el("div", { class: "choice", role: "group", "aria-label": label }, el("span", { class: "choice-word" }, label),
    positions.map((position) => el("button", { type: "button", class: "chip small", "aria-pressed": String(position === chosen), onclick: () => choose(position) }, tokenText(keyToken(pass, position)))));
  const first = Math.max(0, S - 40);
  const positions = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const goes = ({ block, head }) => ({ pass, name: `blocks.${block}.attn.hook_pattern`, at: [head, query - startOf(pass), key] });
  const cell = (w, block, head) => {
    const rgb = heatColour(w, 1, "attention");
    const node = link(goes({ block, head }), { class: `part-cell ${inkOn(rgb)}`, "aria-label": `head ${head} of block ${block}: ${percent(w)}`, title: `head ${head} of block ${block}: ${percent(w)}` }, H <= 6 ? w.toFixed(2) : "");
    node.style.backgroundColor = css(rgb);
    return el("td", {}, node);
  };
  return el("div", { class: "looks" },
    el("div", {},
      chips(positions(Math.max(startOf(pass), first), S - 1), query, (position) => remember({ query: position, key: null }, true), "from"),
      chips(positions(Math.min(first, query), query), key, (position) => remember({ key: position }, true), "to"),
      el("p", { class: "finding" }, link(goes(flat[0]), {}, `Head ${flat[0].head} of block ${flat[0].block}`), " gives ", el("strong", {}, percent(flat[0].w)), " of the attention of ",
        tokenText(keyToken(pass, query)), " to ", tokenText(keyToken(pass, key)), flat[1] ? [", ", link(goes(flat[1]), {}, `head ${flat[1].head} of block ${flat[1].block}`), ` ${percent(flat[1].w)}`] : null, ".")),
    el("div", { class: "scroll-x" }, el("table", { class: H <= 6 ? "part-grid roomy" : "part-grid" },
      el("tr", {}, el("td", { class: "corner" }, "block"), found[0].map((_, head) => el("th", { scope: "col" }, H <= 6 ? `head ${head}` : String(head)))),
      found.map((row, block) => el("tr", {}, el("th", { scope: "row" }, String(block)), row.map((w, head) => cell(w, block, head)))))));
}

function weightOf(pass, block, head, query, key) {
  const table = tensor(pass, `blocks.${block}.attn.hook_pattern`);
  return table.at(head * table.shape[1] + query - startOf(pass), key);
}
