// Several generated tokens: which pass read which token, and what the KV cache kept from being computed again.

/** Rows are passes, columns tokens: computed now, or kept by the cache. */
function cacheFigure(state) {
  const last = PAGE.passes[PAGE.passes.length - 1];
  const columns = Array.from({ length: last.S }, (_, position) => position);
  const rows = PAGE.passes.map((one, pass) => {
    const start = startOf(pass);
    const cells = columns.map((position) => {
      const kind = position >= one.S ? "not-yet" : position < start ? "kept" : "computed";
      return el("td", { class: `cache ${kind}` }, el("span.unseen", kind === "not-yet" ? "" : kind));
    });
    const chosen = one.answer ? tokenText(one.answer.chosen) : "";
    return el(
      "tr",
      { class: pass === state.pass ? "lit" : null },
      el("th", { scope: "row" }, link({ pass, name: STEPS[0].name }, {}, `pass ${pass + 1}`)),
      cells,
      el("td.arrow", "→ ", chosen),
      el("td.like-number", shortCount(one.flops.this)),
      el("td.like-number.aside", shortCount(one.flops.whole)),
    );
  });
  const saved = PAGE.passes.reduce((sum, one) => sum + one.flops.whole - one.flops.this, 0);
  const whole = PAGE.passes.reduce((sum, one) => sum + one.flops.whole, 0);
  const heads = PAGE.passes.reduce((sum, one) => sum + one.flops.head, 0);
  const head = el(
    "tr",
    el("td", {}),
    columns.map((position) =>
      el("th", { scope: "col", class: "cache-token" }, tokenText(keyToken(PAGE.passes.length - 1, position))),
    ),
    el("th", { scope: "col" }, "chosen"),
    el("th", { scope: "col" }, "FLOPs"),
    el("th", { scope: "col" }, "FLOPs without cache"),
  );
  return el(
    "section.generation",
    el("h3", "Generation: what the KV cache did not compute again"),
    el(
      "p.aside",
      "Each pass reads the token that the pass before it chose. Keys and values of earlier tokens are kept, ",
      "so only the new token goes through the model: ",
      `${percent(saved / whole)} of all FLOPs (multiplications and additions) are saved; `,
      `leaving out the LM head, which scores every token that exists each time, ${percent(saved / (whole - heads))}.`,
    ),
    el("div.scroll-x", el("table.caches", head, rows)),
    el(
      "p.key-of",
      el("span.cache.computed.sample"),
      " computed in this pass  ",
      el("span.cache.kept.sample"),
      " keys and values kept from before",
    ),
  );
}

/** A large number in three digits: 19.9 M, 1.10 G. */
function shortCount(n) {
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, Number(n.toPrecision(3)))) / 3));
  return `${(n / 1000 ** power).toPrecision(3)} ${["", "k", "M", "G", "T"][power]}`;
}

/** Keys or values of all tokens so far: those of earlier passes as the cache kept them, then the new row. */
function withCache({ pass, name }) {
  if (!/hook_[kv]$/.test(name) || pass === 0) return null;
  const parts = [];
  for (let one = 0; one <= pass; one++) parts.push(tensor(one, name));
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  if (rows !== PAGE.passes[pass].S) return null; // the page does not begin at the first token
  const { columns, letters, whole } = parts[0];
  const values = new Float64Array(rows * columns);
  let row = 0;
  for (const part of parts) {
    for (let i = 0; i < part.rows * columns; i++) values[row * columns + i] = part.values[i];
    row += part.rows;
  }
  const shape = [rows, ...parts[0].shape.slice(1)];
  const all = { name, letters, shape, rows, columns, values, whole, stats: statsOf(values) };
  return Object.assign(all, places(all, keptSizes(letters, shape)));
}

/** What the cache hands to the step after this one. */
function cachedFigure(state, all) {
  const { pass, name } = state;
  const labels = Array.from({ length: all.rows }, (_, position) => {
    const node = tokenText(keyToken(pass, position));
    if (position < startOf(pass)) node.classList.add("from-cache");
    return node;
  });
  return el(
    "section.from-cache-of",
    el("h3", `With what the cache kept: ${shapeText(all.shape)}`),
    el(
      "p.aside",
      `The first ${startOf(pass)} rows were computed in earlier passes and are read from the cache; `,
      "only the last is new.",
    ),
    heatFigure(all, {
      rowLabels: labels,
      segments: segmentsOf(all),
      cell: [all.rows - 1, 0],
      label: `${name} with the cache`,
    }),
  );
}

function statsOf(values) {
  let [min, max] = [Infinity, -Infinity];
  for (const x of values) [min, max] = [Math.min(min, x), Math.max(max, x)];
  return { min, max };
}
