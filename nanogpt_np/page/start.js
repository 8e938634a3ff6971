// The first view: the whole pass as one picture, then what was said, what made it, and who looked where.

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
              "Every block adds to the rows: attention lets a row take from those above it (the lines), " +
              "the MLP works on each by itself. "
          : "",
        answer ? "The last row becomes the answer. " : "",
        link({ pass: 0, name: STEPS[0].name }, { class: "begin" }, `Begin with step 1 of ${STEPS.length}`),
        ".",
      ),
      streamFigure(state),
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
      answer && answer.split ? el("section.way", whyHeading(state), whyBars(state)) : null,
      hasPatterns() ? el("section.way.wide", el("h3", "Who looks where?"), looksFigure(state)) : null,
    ),
    PAGE.passes.length > 1 ? cacheFigure(state) : null,
  ];
}

// ---- ways in ----

function whyHeading(state) {
  const token = explainedToken(state);
  const rival = rivalOf(state, token);
  return el("h3", "What puts ", tokenText(token), " ahead", rival === null ? "?" : [" of ", tokenText(rival), "?"]);
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
  const weights = (key) =>
    Array.from({ length: PAGE.layers }, (_, block) =>
      Array.from({ length: H }, (_, head) => weightOf(pass, block, head, query, key)),
    );
  const strongest = (key) => Math.max(...weights(key).flat());
  let key = state.key;
  if (key === null || key > query) {
    // neither itself nor the first token, where heads with nothing to do look
    const others = Array.from({ length: query }, (_, k) => k).slice(1);
    key = others.length ? others.reduce((best, k) => (strongest(k) > strongest(best) ? k : best), others[0]) : 0;
  }
  const found = weights(key);
  const flat = found.flatMap((row, block) => row.map((w, head) => ({ w, block, head }))).sort((a, b) => b.w - a.w);
  const chips = (positions, chosen, choose, label) =>
    el(
      "div.choice",
      { role: "group", "aria-label": label },
      el("span.choice-word", label),
      positions.map((position) =>
        el(
          "button.chip.small",
          { type: "button", "aria-pressed": String(position === chosen), onclick: () => choose(position) },
          tokenText(keyToken(pass, position)),
        ),
      ),
    );
  const first = Math.max(0, S - 40);
  const positions = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const goes = ({ block, head }) => ({
    pass,
    name: `blocks.${block}.attn.hook_pattern`,
    at: [head, query - startOf(pass), key],
  });
  const cell = (w, block, head) => {
    const rgb = heatColour(w, 1, "attention");
    const node = link(
      goes({ block, head }),
      {
        class: `part-cell ${inkOn(rgb)}`,
        "aria-label": `head ${head} of block ${block}: ${percent(w)}`,
        title: `head ${head} of block ${block}: ${percent(w)}`,
      },
      H <= 6 ? w.toFixed(2) : "",
    );
    node.style.backgroundColor = css(rgb);
    return el("td", node);
  };
  return el(
    "div.looks",
    el(
      "div",
      chips(
        positions(Math.max(startOf(pass), first), S - 1),
        query,
        (position) => remember({ query: position, key: null }, true),
        "from",
      ),
      chips(positions(Math.min(first, query), query), key, (position) => remember({ key: position }, true), "to"),
      el(
        "p.finding",
        link(goes(flat[0]), {}, `Head ${flat[0].head} of block ${flat[0].block}`),
        " gives ",
        el("strong", percent(flat[0].w)),
        " of the attention of ",
        tokenText(keyToken(pass, query)),
        " to ",
        tokenText(keyToken(pass, key)),
        flat[1]
          ? [", ", link(goes(flat[1]), {}, `head ${flat[1].head} of block ${flat[1].block}`), ` ${percent(flat[1].w)}`]
          : null,
        ".",
      ),
    ),
    el(
      "div.scroll-x",
      el(
        "table",
        { class: H <= 6 ? "part-grid roomy" : "part-grid" },
        el(
          "tr",
          el("td.corner", "block"),
          found[0].map((_, head) => el("th", { scope: "col" }, H <= 6 ? `head ${head}` : String(head))),
        ),
        found.map((row, block) =>
          el(
            "tr",
            el("th", { scope: "row" }, String(block)),
            row.map((w, head) => cell(w, block, head)),
          ),
        ),
      ),
    ),
  );
}

function weightOf(pass, block, head, query, key) {
  const table = tensor(pass, `blocks.${block}.attn.hook_pattern`);
  return table.at(head * table.shape[1] + query - startOf(pass), key);
}
