// The answer: the likeliest tokens, the rank of one through the blocks, and its logit split over the parts of the model.

const answers = new Map();

/** The likeliest tokens of a pass, unpacked: [{id, logit, p, rank}]. */
function answerOf(pass) {
  if (!answers.has(pass)) {
    const held = PAGE.passes[pass].answer;
    if (!held) return null;
    const [logits, p] = [unpack(held.logits, held.format), unpack(held.p, held.format)];
    const rows = held.ids.map((id, i) => ({ id, logit: logits[i], p: p[i], rank: held.ranks[i] }));
    answers.set(pass, { ...held, rows: rows.sort((a, b) => a.rank - b.rank) });
  }
  return answers.get(pass);
}

function explainedToken(state) {
  const answer = answerOf(state.pass);
  const asked = /logits|probabilities/.test(state.name || "") && state.at ? state.at[0] : state.token;
  return answer.explained.includes(asked) ? asked : answer.watch !== null && answer.explained.includes(answer.watch) && asked === null ? answer.watch : answer.chosen;
}

function rivalOf(state, token) {
  const answer = answerOf(state.pass);
  if (state.rival !== null && state.rival !== token && answer.explained.includes(state.rival)) return state.rival;
  return answer.rows.find((row) => row.id !== token && answer.explained.includes(row.id))?.id ?? null;
}

/** The likeliest tokens as bars; a click chooses the one that is explained. */
function likeliest(state, { most = 10, by = "p", current = null } = {}) {
  const answer = answerOf(state.pass);
  const rows = answer.rows.filter((row, i) => i < most || row.id === answer.watch || row.id === current);
  const lowest = Math.min(0, ...rows.map((row) => row.logit));
  const span = Math.max(...rows.map((row) => row.logit)) - lowest || 1;
  return el("div", { class: "likeliest", role: "group", "aria-label": "The likeliest tokens" },
    el("div", { class: "like-row like-head", "aria-hidden": "true" }, ["", "token", "", "logit", "probability"].map((text) => el("span", {}, text))),
    rows.map((row) => {
      const explained = answer.explained.includes(row.id);
      const bar = el("span", { class: "bar computed" });
      bar.style.width = `${Math.max(0.4, 100 * (by === "p" ? row.p : (row.logit - lowest) / span))}%`;
      const cells = [
        el("span", { class: "rank" }, String(row.rank)),
        el("span", { class: "like-token" }, tokenText(row.id)),
        el("span", { class: "track", "aria-hidden": "true" }, bar),
        el("span", { class: "like-number" }, row.logit.toFixed(4)),
        el("span", { class: "like-number" }, percent(row.p)),
      ];
      const label = `rank ${row.rank}, ${plain(row.id)}, logit ${row.logit.toFixed(4)}, ${percent(row.p)}`;
      if (!explained) return el("div", { class: "like-row", "data-id": row.id }, cells);
      return el("button", {
        type: "button", class: "like-row", "data-id": row.id, "aria-pressed": String(row.id === current), "aria-label": label,
        onclick: () => remember({ token: row.id }, true),
      }, cells);
    }));
}

function logitsFigure(state) {
  const answer = answerOf(state.pass);
  const token = explainedToken(state);
  return el("div", { class: "figure" }, histogram(answer), likeliest(state, { by: "logit", current: token }),
    el("p", { class: "aside" }, `The likeliest ${answer.rows.length} of ${counted(answer.size)} are kept in this page. Only differences between logits mean anything.`),
    splitFigure(state, token));
}

function probabilitiesFigure(state) {
  const answer = answerOf(state.pass);
  const ten = answer.rows.slice(0, 10).reduce((sum, row) => sum + row.p, 0);
  return el("div", { class: "figure" }, likeliest(state, { by: "p", current: explainedToken(state) }),
    el("p", { class: "aside" }, `These ten have ${percent(ten)} together; the other ${counted(answer.size - 10)} share the rest.`));
}

function answerFigure(state) {
  if (!answerOf(state.pass)) return null;
  const token = explainedToken(state);
  return el("div", { class: "figure answer" }, likeliest(state, { by: "p", most: 8, current: token }), lensFigure(state, token), splitFigure(state, token));
}

/** How many of all tokens have which logit. */
function histogram(answer) {
  const { counts, low, high } = answer.histogram;
  const most = Math.log1p(Math.max(...counts));
  const [width, height] = [600, 74];
  const bars = counts.map((count, i) => {
    const h = (height - 4) * (Math.log1p(count) / most);
    return el("rect", { class: "bin", x: (i * width) / counts.length, y: height - h, width: width / counts.length - 1, height: h });
  });
  const x = (logit) => (width * (logit - low)) / (high - low || 1);
  const marks = answer.rows.slice(0, 1).map((row) => [
    el("line", { class: "mark", x1: x(row.logit) - 1, x2: x(row.logit) - 1, y1: 18, y2: height }),
    el("text", { class: "axis-label lit", x: x(row.logit) - 2, y: 13, "text-anchor": "end" }, clipped(row.id, 14)),
  ]);
  return el("div", {},
    el("svg", { viewBox: `0 0 ${width} ${height + 16}`, class: "histogram", role: "img", "aria-label": `How many of ${counted(answer.size)} tokens have which logit, from ${digits(low, 3)} to ${digits(high, 3)}` },
      bars, marks, el("text", { class: "axis-label", x: 0, y: height + 13 }, digits(low, 3)),
      el("text", { class: "axis-label", x: width, y: height + 13, "text-anchor": "end" }, digits(high, 3))),
    el("p", { class: "aside" }, `All ${counted(answer.size)} logits by size; the height counts tokens on a logarithmic scale.`));
}

/** For each row of hook_logits its likeliest tokens, and how the one that really came next did. */
function rowsFigure(state) {
  const { pass } = state;
  const answer = answerOf(pass);
  const start = startOf(pass);
  const rows = answer.rows.length && PAGE.passes[pass].answer.rows;
  return el("div", { class: "figure" }, el("table", { class: "per-row" },
    el("tr", {}, el("th", { scope: "col" }, "after"), el("th", { scope: "col" }, "likeliest next"), el("th", { scope: "col" }, "what came next")),
    rows.map((some, t) => {
      const came = some.find((one) => one.next);
      return el("tr", {}, el("th", { scope: "row" }, tokenText(keyToken(pass, start + t))),
        el("td", {}, some.slice(0, 5).map((one) => el("span", { class: "chance" }, tokenText(one.id), " ", el("span", { class: "aside" }, percent(one.p))))),
        el("td", {}, came ? [tokenText(came.id), " ", el("span", { class: "aside" }, `rank ${counted(came.rank)}, ${percent(came.p)}`)] : el("span", { class: "aside" }, "the end of the text")));
    })));
}

// ---- the logit lens ----

function lensFigure(state, token) {
  const { lens } = answerOf(state.pass);
  if (!lens) return noWeights("the rank of a token through the blocks");
  const rows = lens.map((stop) => ({ ...stop, ...stop.of[token] }));
  const narrow = document.getElementById("step").clientWidth < 560;
  const [left, right, top, line] = narrow ? [84, 178, 40, 22] : [92, 320, 40, 22]; // the line of ranks is drawn between left and right
  const [rankX, chanceX, bestX, width] = narrow ? [right + 54, 0, right + 66, right + 150] : [right + 72, right + 168, right + 182, right + 290];
  const height = top + rows.length * line + 4;
  const worst = Math.log10(Math.max(10, ...rows.map((row) => row.rank)));
  const x = (rank) => right - (right - left - 12) * (Math.log10(rank) / worst);
  const y = (i) => top + i * line + line / 2;
  const text = (content, at, i, more = {}) => el("text", { class: "axis-label", x: at, y: i < 0 ? top - 26 : y(i) + 4, ...more }, content);
  const parts = [text("after", left - 16, -1, { "text-anchor": "end" }), text("rank", rankX, -1, { "text-anchor": "end" }),
    narrow ? null : text("probability", chanceX, -1, { "text-anchor": "end" }), text("likeliest there", bestX, -1)];
  for (let power = 0; power <= worst; power++) {
    const at = x(10 ** power);
    parts.push(el("line", { class: "guide", x1: at, x2: at, y1: top - 4, y2: height - 4 }),
      el("text", { class: "axis-label small", x: at, y: top - 9, "text-anchor": "middle" }, counted(10 ** power)));
  }
  parts.push(el("polyline", { class: "lens-line", points: rows.map((row, i) => `${x(row.rank)},${y(i)}`).join(" ") }));
  rows.forEach((row, i) => {
    const lit = row.best === token ? { class: "axis-label lit" } : {};
    parts.push(text(row.after, left - 16, i, { "text-anchor": "end" }),
      el("circle", { class: row.rank === 1 ? "dot first" : "dot", cx: x(row.rank), cy: y(i), r: 4.5 }),
      text(counted(row.rank), rankX, i, { "text-anchor": "end", ...lit }),
      narrow ? null : text(row.p < 1e-5 ? "< 0.001 %" : percent(row.p), chanceX, i, { "text-anchor": "end", ...lit }),
      text(clipped(row.best, narrow ? 9 : 12), bestX, i, lit));
  });
  const label = `Rank of ${quoted(token)}: ${rows.map((row) => `after ${row.after} ${row.rank}`).join(", ")}`;
  return el("section", { class: "lens" },
    el("h3", {}, "If the model stopped early: the rank of ", tokenText(token)),
    el("p", { class: "aside" }, "The final LayerNorm and the LM head, applied after every half-block (the logit lens)."),
    el("div", { class: "scroll-x" }, el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "lens-figure", role: "img", "aria-label": label }, parts)));
}

function noWeights(what) {
  return el("p", { class: "aside" }, `No weights came with this recording, and without them nobody can tell ${what}.`);
}

// ---- the split of a logit ----

/** [{name, block, head, amount}] for a token, or for the difference to a rival. */
function partsOf(state, token, rival) {
  const { split } = answerOf(state.pass);
  const amounts = split[token].amounts;
  const less = rival === null ? null : split[rival].amounts;
  return PAGE.parts.map(([name, block, head], i) => ({ name, block, head, amount: amounts[i] - (less ? less[i] : 0) }));
}

function splitFigure(state, token) {
  const answer = answerOf(state.pass);
  if (!answer.split) return noWeights("which part of the model made a logit");
  const rival = state.rival === "none" ? null : rivalOf(state, token);
  const parts = partsOf(state, token, rival);
  const total = answer.split[token].logit - (rival === null ? 0 : answer.split[rival].logit);
  const choose = el("select", { id: "rival", onchange: ({ target }) => remember({ rival: target.value === "none" ? "none" : Number(target.value) }, true) },
    el("option", { value: "none", selected: rival === null }, "nothing: the logit itself"),
    answer.rows.filter((row) => row.id !== token && answer.explained.includes(row.id)).map((row) =>
      el("option", { value: row.id, selected: row.id === rival }, `“${plain(row.id)}”, rank ${row.rank}`)));
  return el("section", { class: "split" },
    el("h3", {}, "Which part made it: ", tokenText(token), rival === null ? " by itself" : [" ahead of ", tokenText(rival)]),
    el("p", {}, el("label", { for: "rival" }, "Compared with "), choose),
    el("p", { class: "aside" }, "The logit is a sum with one term for each embedding, head, MLP and bias. These are direct effects: what a part does through later parts counts there. A click goes to the part."),
    el("div", { class: "split-body" }, partGrid(state, parts), partBars(state, parts, 8)),
    el("p", { class: "summed" }, "In all ", el("strong", {}, signed(total)), ": ",
      rival === null ? "the logit." : [tokenText(token), " is ", `${(Math.exp(Math.abs(total))).toPrecision(3)} times as ${total < 0 ? "un" : ""}likely as `, tokenText(rival), "."]));
}

function signed(x) {
  return `${x < 0 ? "-" : "+"}${Math.abs(x).toFixed(3)}`;
}

/** Where a part of a split is computed: the step to go to. */
function stepOfPart(state, { name, block, head }) {
  const where = head !== null ? `blocks.${block}.attn.hook_pattern`
    : name === "token embedding" ? "hook_embed" : name === "position embedding" ? "hook_pos_embed"
    : name.startsWith("mlp") ? `blocks.${block}.hook_mlp_out` : name.startsWith("bias of attn") ? `blocks.${block}.hook_attn_out`
    : name.startsWith("bias of mlp") ? `blocks.${block}.hook_mlp_out` : "ln_final.hook_output";
  const at = head === null ? null : [head, PAGE.passes[state.pass].T - 1, looksAt(state.pass, block, head)];
  return { pass: state.pass, name: where, at };
}

/** The key that the last token looks at most, in one head. */
function looksAt(pass, block, head) {
  const table = tensor(pass, `blocks.${block}.attn.hook_pattern`);
  const row = head * table.shape[1] + table.shape[1] - 1;
  let best = 0;
  for (let k = 1; k < table.columns; k++) if (table.at(row, k) > table.at(row, best)) best = k;
  return best;
}

function partBars(state, parts, most) {
  const ranked = [...parts].sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount));
  const shown = ranked.slice(0, most).sort((a, b) => b.amount - a.amount);
  const rest = ranked.slice(most).reduce((sum, part) => sum + part.amount, 0);
  const widest = Math.max(...shown.map((part) => Math.abs(part.amount)), Math.abs(rest)) || 1;
  const row = (label, amount, target, aside) => {
    const bar = el("span", { class: `signed ${amount < 0 ? "less" : "more"}` });
    bar.style.width = `${(50 * Math.abs(amount)) / widest}%`;
    const cells = [el("span", { class: "part-name" }, label, aside ? [" ", el("span", { class: "aside" }, aside)] : null),
      el("span", { class: "balance", "aria-hidden": "true" }, bar), el("span", { class: "like-number" }, signed(amount))];
    return target ? link(target, { class: "part-row" }, cells) : el("div", { class: "part-row" }, cells);
  };
  return el("div", { class: "part-bars" },
    shown.map((part) => row(part.name, part.amount, stepOfPart(state, part), part.head === null ? null
      : ["looks at ", tokenText(keyToken(state.pass, looksAt(state.pass, part.block, part.head)))])),
    parts.length > most ? row(`the other ${parts.length - most}`, rest) : null);
}

/** Every head and MLP of every block as a cell. */
function partGrid(state, parts) {
  const range = Math.max(...parts.map((part) => Math.abs(part.amount))) || 1;
  const cell = (part, label) => {
    const rgb = heatColour(part.amount, range);
    const node = link(stepOfPart(state, part), { class: `part-cell ${inkOn(rgb)}`, "aria-label": `${part.name} ${signed(part.amount)}`, title: `${part.name}: ${signed(part.amount)}` }, label);
    node.style.backgroundColor = css(rgb);
    return el("td", {}, node);
  };
  const roomy = H <= 6;
  const found = new Map(parts.map((part) => [part.name, part]));
  const rows = Array.from({ length: PAGE.layers }, (_, block) => el("tr", {}, el("th", { scope: "row" }, String(block)),
    Array.from({ length: H }, (_, head) => cell(found.get(`head ${block}.${head}`), roomy ? signed(found.get(`head ${block}.${head}`).amount).slice(0, 5) : "")),
    cell(found.get(`mlp ${block}`), roomy ? signed(found.get(`mlp ${block}`).amount).slice(0, 5) : "")));
  return el("table", { class: roomy ? "part-grid roomy" : "part-grid" },
    el("tr", {}, el("td", { class: "corner" }, "block"), Array.from({ length: H }, (_, head) => el("th", { scope: "col" }, roomy ? `head ${head}` : String(head))), el("th", { scope: "col" }, "MLP")), rows);
}
