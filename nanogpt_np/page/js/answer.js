// The answer: the likeliest tokens, with their logits and probabilities.

const answers = new Map();

/** The likeliest tokens of a pass, unpacked: [{id, logit, p, rank}]. */
function answerOf(pass) {
  if (!answers.has(pass)) {
    const packed = PAGE.passes[pass].answer;
    if (!packed) return null;
    const [logits, p] = [unpack(packed.logits, packed.format), unpack(packed.p, packed.format)];
    const rows = packed.ids.map((id, i) => ({ id, logit: logits[i], p: p[i], rank: packed.ranks[i] }));
    answers.set(pass, { ...packed, rows: rows.sort((a, b) => a.rank - b.rank) });
  }
  return answers.get(pass);
}

function explainedToken(state) {
  const answer = answerOf(state.pass);
  const asked = /logits|probabilities/.test(state.name || "") && state.at ? state.at[0] : state.token;
  return answer.explained.includes(asked)
    ? asked
    : answer.watch !== null && answer.explained.includes(answer.watch) && asked === null
      ? answer.watch
      : answer.chosen;
}

/** The token that another is compared with; null where its logit is looked at by itself. */
function rivalOf(state, token) {
  if (!answerOf(state.pass).explained.includes(state.rival)) return null;
  return state.rival === token ? likeliestOther(state, token) : state.rival;
}

function likeliestOther(state, token) {
  const { rows, explained } = answerOf(state.pass);
  return rows.find((row) => row.id !== token && explained.includes(row.id))?.id ?? null;
}

/** The likeliest tokens as bars; a click chooses the one that is explained. */
function likeliest(state, { most = 10, by = "p", current = null } = {}) {
  const answer = answerOf(state.pass);
  const rows = answer.rows.filter((row, i) => i < most || row.id === answer.watch || row.id === current);
  const finite = rows.map((row) => row.logit).filter(Number.isFinite);
  const lowest = Math.min(0, ...finite);
  const span = Math.max(...finite) - lowest || 1;
  return el(
    "div.likeliest",
    { role: "group", "aria-label": "The likeliest tokens" },
    el(
      "div.like-row.like-head",
      { "aria-hidden": "true" },
      ["", "token", "", "logit", "probability"].map((text) => el("span", text)),
    ),
    rows.map((row) => {
      const explained = answer.explained.includes(row.id);
      const bar = el("span.bar");
      bar.style.width = `${100 * (by === "p" ? row.p : Math.max(0, (row.logit - lowest) / span))}%`;
      const cells = [
        el("span.rank", String(row.rank)),
        el("span.like-token", tokenText(row.id)),
        el("span.track", { "aria-hidden": "true" }, bar),
        el("span.like-number", fixed(row.logit, 4)),
        el("span.like-number", percent(row.p)),
      ];
      const label = `rank ${row.rank}, ${plain(row.id)}, logit ${fixed(row.logit, 4)}, ${percent(row.p)}`;
      if (!explained) return el("div.like-row", { "data-id": row.id }, cells);
      return el(
        "button.like-row",
        {
          type: "button",
          "data-id": row.id,
          "aria-pressed": String(row.id === current),
          "aria-label": label,
          onclick: () => remember({ token: row.id }, true),
        },
        cells,
      );
    }),
  );
}

function logitsFigure(state) {
  const answer = answerOf(state.pass);
  const token = explainedToken(state);
  return el(
    "div.figure",
    histogram(answer),
    likeliest(state, { by: "logit", current: token }),
    el(
      "p.aside",
      `The likeliest ${answer.rows.length} of ${counted(answer.size)} are kept in this page. `,
      "Only differences between logits mean anything.",
    ),
    madeElsewhere(state, [token]),
    splitFigure(state, token),
  );
}

function probabilitiesFigure(state) {
  const answer = answerOf(state.pass);
  const shown = Math.min(10, answer.size);
  const together = answer.rows.slice(0, shown).reduce((sum, row) => sum + row.p, 0);
  const others = answer.size - shown;
  return el(
    "div.figure",
    likeliest(state, { by: "p", current: explainedToken(state) }),
    el(
      "p.aside",
      `These ${shown} have ${percent(together)} together`,
      others ? `; the other ${counted(others)} share the rest.` : ".",
    ),
    madeElsewhere(state, [explainedToken(state)]),
  );
}

function answerFigure(state) {
  if (!answerOf(state.pass)) return null;
  const token = explainedToken(state);
  return el(
    "div.figure.answer",
    likeliest(state, { by: "p", most: 8, current: token }),
    madeElsewhere(state, []),
    lensFigure(state, token),
    splitFigure(state, token),
  );
}

/** How many of all tokens have which logit. */
function histogram(answer) {
  const { counts, low, high } = answer.histogram;
  const most = Math.log1p(Math.max(...counts)) || 1;
  const [width, height] = [600, 74];
  const bars = counts.map((count, i) => {
    const h = (height - 4) * (Math.log1p(count) / most);
    return el("rect.bin", {
      x: (i * width) / counts.length,
      y: height - h,
      width: width / counts.length - 1,
      height: h,
    });
  });
  const x = (logit) => (width * (logit - low)) / (high - low || 1);
  const marks = answer.rows
    .slice(0, 1)
    .map((row) => [
      el("line.mark", { x1: x(row.logit) - 1, x2: x(row.logit) - 1, y1: 18, y2: height }),
      el("text.axis-label.word.lit", { x: x(row.logit) - 2, y: 13, "text-anchor": "end" }, clipped(row.id, 14)),
    ]);
  return el(
    "div",
    el(
      "svg",
      {
        viewBox: `0 0 ${width} ${height + 16}`,
        class: "histogram",
        role: "img",
        "aria-label": `How many tokens have which logit, from ${digits(low, 3)} to ${digits(high, 3)}`,
      },
      bars,
      marks,
      el("text.axis-label", { x: 0, y: height + 13 }, digits(low, 3)),
      el("text.axis-label", { x: width, y: height + 13, "text-anchor": "end" }, digits(high, 3)),
    ),
    el("p.aside", `All ${counted(answer.size)} logits by size; the height counts tokens on a logarithmic scale.`),
  );
}

/** For each row of hook_logits its likeliest tokens, and how the one that really came next did. */
function rowsFigure(state) {
  const { pass } = state;
  const answer = answerOf(pass);
  const start = startOf(pass);
  return el(
    "div.figure",
    el(
      "table.per-row",
      el(
        "tr",
        el("th", { scope: "col" }, "after"),
        el("th", { scope: "col" }, "likeliest next"),
        el("th", { scope: "col" }, "what came next"),
      ),
      answer.per_row.map((some, t) => {
        const came = some.find((one) => one.next);
        return el(
          "tr",
          el("th", { scope: "row" }, tokenText(keyToken(pass, start + t))),
          el(
            "td",
            some.slice(0, 5).map((one) => el("span.chance", tokenText(one.id), " ", el("span.aside", percent(one.p)))),
          ),
          el(
            "td",
            came
              ? [tokenText(came.id), " ", el("span.aside", `rank ${counted(came.rank)}, ${percent(came.p)}`)]
              : el("span.aside", "the end of the text"),
          ),
        );
      }),
    ),
  );
}
