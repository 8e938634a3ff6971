// The first view: the whole pass as one picture, then what was said, what made it, and who looked where.

const MOST_CHIPS = 30; // tokens to choose from side by side; of more there is a list

function startView(state) {
  const answer = answerOf(state.pass);
  const { T, S } = PAGE.passes[state.pass];
  return [
    el(
      "header.step-head",
      el("h2", `How ${counted(S)} token${S > 1 ? "s" : ""} became `, answer ? tokenText(answer.chosen) : "a next one"),
      el(
        "p.notice",
        T > 1
          ? "Each token is a row of numbers, and keeps its row from left to right. " +
              "Every block adds to the rows: attention lets a row take from those above it, " +
              "the MLP works on each by itself. "
          : "",
        answer ? "The last row becomes the answer. " : "",
        link({ pass: 0, name: STEPS[0].name }, { class: "begin" }, `Begin with step 1 of ${STEPS.length}`),
        ".",
      ),
      streamFigure(state),
      PAGE.about.text
        ? el("p.as-text", el("span.aside", "The prompt in one piece: "), piecesText("bdi.token", PAGE.about.text))
        : null,
    ),
    el(
      "div.ways",
      answer
        ? el(
            "section.way",
            el("h3", "What does it say?"),
            likeliest(state, { most: 5, current: explainedToken(state) }),
            NUMBER_OF.has("hook_next_token")
              ? el(
                  "p.onward",
                  link({ pass: state.pass, name: "hook_next_token" }, {}, "The answer, and how it came about"),
                )
              : null,
          )
        : null,
      answer && answer.split ? whySection(state) : null,
      hasPatterns() ? el("section.way.wide", el("h3", "Who looks where?"), looksFigure(state)) : null,
    ),
    PAGE.passes.length > 1 ? cacheFigure(state) : null,
  ];
}

// ---- ways in ----

/** What made the likeliest token: its logit by itself, or beside that of another. */
function whySection(state) {
  const token = explainedToken(state);
  const rival = rivalOf(state, token);
  const other = rival ?? likeliestOther(state, token);
  const total = totalOf(state, token, other);
  const choice = (chosen, ...words) =>
    el(
      "button.chip.small",
      { type: "button", "aria-pressed": String(chosen === rival), onclick: () => remember({ rival: chosen }, true) },
      ...words,
    );
  return el(
    "section.way",
    rival === null
      ? el("h3", "What made the logit of ", tokenText(token), "?")
      : el("h3", "What puts ", tokenText(token), ` ${aheadOrBehind(total)} `, tokenText(rival), "?"),
    el(
      "div.choice",
      { role: "group", "aria-label": "compared" },
      choice(null, "in all"),
      other === null ? null : choice(other, `${aheadOrBehind(total)} `, tokenText(other)),
    ),
    partBars(state, partsOf(state, token, rival), 5),
  );
}

function hasPatterns() {
  return Array.from({ length: PAGE.layers }).every((_, i) => NUMBER_OF.has(`blocks.${i}.attn.hook_pattern`));
}

/** Choose two tokens: every head of every block as a cell, as dark as the first looks at the second. */
function looksFigure(state) {
  const { pass } = state;
  const { S } = PAGE.passes[pass];
  const query = Math.max(startOf(pass), Math.min(state.query, S - 1));
  const weights = (position) =>
    Array.from({ length: PAGE.layers }, (_, block) =>
      Array.from({ length: H }, (_, head) => weightOf(pass, block, head, query, position)),
    );
  const strongest = (position) => Math.max(...weights(position).flat());
  let key = state.key;
  if (key === null || key > query) {
    // neither itself nor the first token, where heads with nothing to do look
    const others = Array.from({ length: query }, (_, k) => k).slice(1);
    key = others.length ? others.reduce((best, k) => (strongest(k) > strongest(best) ? k : best), others[0]) : 0;
  }
  const found = weights(key);
  const flat = found.flatMap((row, block) => row.map((w, head) => ({ w, block, head }))).sort((a, b) => b.w - a.w);
  const positions = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const goes = ({ block, head }) => ({
    pass,
    name: `blocks.${block}.attn.hook_pattern`,
    at: [head, query - startOf(pass), key],
  });
  const cell = (w, block, head) => ({
    name: `head ${head} of block ${block}`,
    x: w,
    text: percent(w),
    target: goes({ block, head }),
  });
  return el(
    "div.looks",
    el(
      "div",
      tokenChoice(pass, "from", positions(startOf(pass), S - 1), query, (position) =>
        remember({ query: position, key: null }, true),
      ),
      tokenChoice(pass, "to", positions(0, query), key, (position) => remember({ key: position }, true)),
      el(
        "p.finding",
        link(goes(flat[0]), {}, `Head ${flat[0].head} of block ${flat[0].block}`),
        " gives ",
        el("strong", percent(flat[0].w)),
        " of the attention of ",
        tokenAt(pass, query),
        " to ",
        tokenAt(pass, key),
        flat[1]
          ? [", ", link(goes(flat[1]), {}, `head ${flat[1].head} of block ${flat[1].block}`), ` ${percent(flat[1].w)}`]
          : null,
        ".",
      ),
    ),
    headGrid({
      columns: found[0].map((_, head) => `head ${head}`),
      rows: found.map((row, block) => row.map((w, head) => cell(w, block, head))),
      colour: (w) => heatColour(w, 1, "attention"),
      scale: colourScale(0, 1, 1, "attention", ["0 %", "100 %"]),
    }),
  );
}

/** Choose one of several positions by its token: from chips, or of many from a list. */
function tokenChoice(pass, label, positions, chosen, choose) {
  if (positions.length > MOST_CHIPS) return tokenList(pass, label, positions, chosen, choose);
  const chips = positions.map((position) =>
    el(
      "button.chip.small",
      { type: "button", "aria-pressed": String(position === chosen), onclick: () => choose(position) },
      tokenAt(pass, position),
    ),
  );
  return el("div.choice", { role: "group", "aria-label": label }, el("span.choice-word", label), chips);
}

function tokenList(pass, label, positions, chosen, choose) {
  const options = positions.map((position) =>
    el(
      "option",
      { value: position, selected: position === chosen },
      `${position}: ${quoted(keyToken(pass, position))}`,
    ),
  );
  const list = el("select", { "aria-label": label, onchange: ({ target }) => choose(Number(target.value)) }, options);
  return el("div.choice", el("span.choice-word", label), list);
}

/** A token and its position. */
function tokenAt(pass, position) {
  return [tokenText(keyToken(pass, position)), el("span.position", ` ${position}`)];
}

function weightOf(pass, block, head, query, key) {
  const table = tensor(pass, `blocks.${block}.attn.hook_pattern`);
  return table.at(head * table.shape[1] + query - startOf(pass), key);
}
