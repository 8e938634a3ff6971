// Why this token: its rank if the model stopped early, and its logit split over the parts of the model.

// ---- the logit lens ----

function lensFigure(state, token) {
  const { lens } = answerOf(state.pass);
  if (!lens) return untold(state, "lens", "the rank of a token through the blocks");
  const rows = lens.map((stop) => ({ ...stop, ...stop.of[token] }));
  const narrow = document.getElementById("step").clientWidth < 560;
  const [left, right] = narrow ? [94, 182] : [102, 320]; // the line of ranks is drawn between them
  const [top, line] = [40, 22];
  const [rankX, chanceX, bestX, width] = narrow
    ? [right + 54, 0, right + 66, right + 148]
    : [right + 72, right + 168, right + 182, right + 290];
  const height = top + rows.length * line + 4;
  const worst = Math.log10(Math.max(10, ...rows.map((row) => row.rank)));
  const x = (rank) => right - (right - left - 12) * (Math.log10(rank) / worst);
  const y = (i) => top + i * line + line / 2;
  const text = (content, at, i, more = {}) =>
    el("text.axis-label", { x: at, y: i < 0 ? top - 26 : y(i) + 4, ...more }, content);
  const parts = [
    text("after", left - 16, -1, { "text-anchor": "end" }),
    text(narrow ? "log scale" : "rank, on a logarithmic scale", (left + right) / 2, -1, { "text-anchor": "middle" }),
    text("rank", rankX, -1, { "text-anchor": "end" }),
    narrow ? null : text("probability", chanceX, -1, { "text-anchor": "end" }),
    text("likeliest there", bestX, -1),
  ];
  for (let power = 0; power <= worst; power++) {
    const at = x(10 ** power);
    parts.push(
      el("line.guide", { x1: at, x2: at, y1: top - 4, y2: height - 4 }),
      el("text.axis-label.small", { x: at, y: top - 9, "text-anchor": "middle" }, counted(10 ** power)),
    );
  }
  parts.push(el("polyline.lens-line", { points: rows.map((row, i) => `${x(row.rank)},${y(i)}`).join(" ") }));
  rows.forEach((row, i) => {
    const lit = row.best === token ? " lit" : "";
    const end = { "text-anchor": "end", class: `axis-label${lit}` };
    const r = row.rank === 1 ? 5.5 : 4;
    parts.push(
      text(row.after, left - 16, i, { "text-anchor": "end" }),
      el("circle", { class: row.rank === 1 ? "dot first" : "dot", cx: x(row.rank), cy: y(i), r }),
      text(counted(row.rank), rankX, i, end),
      narrow ? null : text(row.p < 1e-5 ? "< 0.001 %" : percent(row.p), chanceX, i, end),
      text(clipped(row.best, narrow ? 9 : 12), bestX, i, { class: `axis-label word${lit}` }),
    );
  });
  const label = `Rank of ${quoted(token)}: ${rows.map((row) => `after ${row.after} ${row.rank}`).join(", ")}`;
  return el(
    "section.lens",
    el("h3", "If the model stopped early: the rank of ", tokenText(token)),
    el("p.aside", "The final LayerNorm and the LM head, applied after every sublayer (the logit lens)."),
    el(
      "div.scroll-x",
      el(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, width, height, class: "lens-figure", role: "img", "aria-label": label },
        parts,
      ),
    ),
  );
}

/** Says why something cannot be told. */
function untold(state, key, what) {
  const why = answerOf(state.pass).untold[key];
  return el("p.aside", `${why[0].toUpperCase()}${why.slice(1)}. So nobody can tell ${what}.`);
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
  if (!answer.split) return untold(state, "split", "which part of the model made a logit");
  const rival = rivalOf(state, token);
  const parts = partsOf(state, token, rival);
  const total = totalOf(state, token, rival);
  const choose = el(
    "select",
    {
      id: "rival",
      onchange: ({ target }) => remember({ rival: target.value === "none" ? null : Number(target.value) }, true),
    },
    el("option", { value: "none", selected: rival === null }, "nothing: the logit itself"),
    answer.rows
      .filter((row) => row.id !== token && answer.explained.includes(row.id))
      .map((row) =>
        el("option", { value: row.id, selected: row.id === rival }, `“${plain(row.id)}”, rank ${row.rank}`),
      ),
  );
  return el(
    "section.split",
    el(
      "h3",
      "Which part made it: ",
      tokenText(token),
      rival === null ? " by itself" : [` ${aheadOrBehind(total)} `, tokenText(rival)],
    ),
    el("p", el("label", { for: "rival" }, "Compared with "), choose),
    el(
      "p.aside",
      "The logit is a sum with one term for each embedding, head, MLP and bias. These are direct effects: ",
      "what a part does through later parts counts there. A click goes to the part.",
    ),
    el("div.split-body", partGrid(state, parts), partBars(state, parts, 8)),
    el(
      "p.summed",
      "In all ",
      el("strong", signed(total)),
      ": ",
      rival === null
        ? "the logit."
        : [
            tokenText(total < 0 ? rival : token),
            ` is ${times(Math.exp(Math.abs(total)))} times as likely as `,
            tokenText(total < 0 ? token : rival),
            ".",
          ],
    ),
  );
}

/** The logit of a token, or how far it is above that of a rival. */
function totalOf(state, token, rival) {
  const { split } = answerOf(state.pass);
  return split[token].logit - (rival === null ? 0 : split[rival].logit);
}

function aheadOrBehind(total) {
  return total < 0 ? "behind" : "ahead of";
}

/** How many times, in three digits. */
function times(ratio) {
  if (ratio < 1000) return ratio.toPrecision(3);
  return ratio < 1e15 ? counted(Number(ratio.toPrecision(3))) : `more than ${counted(1e15)}`;
}

function signed(x) {
  const text = fixed(Math.abs(x), 3);
  return Number(text) === 0 ? text : `${x < 0 ? "-" : "+"}${text}`;
}

/** Where a part of a split is computed: the step to go to. */
function stepOfPart(state, { name, block, head }) {
  const where =
    head !== null
      ? `blocks.${block}.attn.hook_pattern`
      : name === "token embedding"
        ? "hook_embed"
        : name === "position embedding"
          ? "hook_pos_embed"
          : name.startsWith("mlp")
            ? `blocks.${block}.hook_mlp_out`
            : name.startsWith("bias of attn")
              ? `blocks.${block}.hook_attn_out`
              : name.startsWith("bias of mlp")
                ? `blocks.${block}.hook_mlp_out`
                : "ln_final.hook_output";
  const at = head === null ? null : [head, PAGE.passes[state.pass].T - 1, looksAt(state.pass, block, head)];
  return { pass: state.pass, name: where, at };
}

/** The key that the last token looks at most, in one head; null where that was not recorded. */
function looksAt(pass, block, head) {
  if (head === null || !NUMBER_OF.has(`blocks.${block}.attn.hook_pattern`)) return null;
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
    const cells = [
      el("span.part-name", label, aside ? [" ", el("span.aside", aside)] : null),
      el("span.balance", { "aria-hidden": "true" }, bar),
      el("span.like-number", signed(amount)),
    ];
    return target ? link(target, { class: "part-row" }, cells) : el("div.part-row", cells);
  };
  return el(
    "div.part-bars",
    shown.map((part) =>
      row(
        partTitle(part),
        part.amount,
        stepOfPart(state, part),
        looksAt(state.pass, part.block, part.head) === null
          ? null
          : ["looks at ", tokenText(keyToken(state.pass, looksAt(state.pass, part.block, part.head)))],
      ),
    ),
    parts.length > most ? row(`the other ${parts.length - most}`, rest) : null,
  );
}

/** Every head and MLP of every block as a cell. */
function partGrid(state, parts) {
  const range = Math.max(...parts.map((part) => Math.abs(part.amount))) || 1;
  const found = new Map(parts.map((part) => [part.name, part]));
  const cell = (name) => {
    const part = found.get(name);
    return { name: partTitle(part), x: part.amount, text: signed(part.amount), target: stepOfPart(state, part) };
  };
  const heads = Array.from({ length: H }, (_, head) => head);
  return headGrid({
    columns: [...heads.map((head) => `head ${head}`), "MLP"],
    rows: Array.from({ length: PAGE.layers }, (_, block) => [
      ...heads.map((head) => cell(`head ${block}.${head}`)),
      cell(`mlp ${block}`),
    ]),
    colour: (x) => heatColour(x, range),
    scale: colourScale(-range, range, range, "positive"),
  });
}

/** The name of a part in the words of this page. */
function partTitle({ name, block, head }) {
  if (head !== null) return `head ${head} of block ${block}`;
  return name.replace(/attn \d+$/, `attention of block ${block}`).replace(/mlp \d+$/, `MLP of block ${block}`);
}
