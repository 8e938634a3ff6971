// Attention: all heads of a block at a glance, one enlarged, and arcs from a token to where it looks.

function attentionFigure(state) {
  const { pass, name } = state;
  const table = tensor(pass, name);
  const [heads, T, S] = table.shape;
  const isPattern = name.endsWith("hook_pattern");
  const asked = state.at && inside(state.at, table.shape) ? state.at : null;
  const start = startOf(pass);
  let head = asked ? asked[0] : Math.min(state.head, heads - 1);
  let query = asked ? asked[1] + start : Math.max(start, Math.min(state.query, S - 1));
  let key = asked ? asked[2] : null;
  const range = isPattern ? 1 : colourRange(table.values);
  const at = (h, q, k) => table.at(h * T + q - start, k);

  const glance = el("div.glance", { role: "group", "aria-label": `All ${heads} heads of the block` });
  const large = el("div.large");
  const arcs = el("div.arcs");
  const readout = el("p.readout");
  const sum = el("p.aside");
  const made = el("div.derived");
  const told = el("div", readout, sum, made);

  let image = cellImage(table, range, isPattern ? "attention" : "positive");

  function strongest() {
    let best = 0;
    for (let k = 0; k <= query; k++) if (at(head, query, k) > at(head, query, best)) best = k;
    return best;
  }

  function show() {
    const shownKey = key ?? strongest();
    drawGlance(shownKey);
    drawLarge(shownKey);
    arcs.replaceChildren(
      ...(isPattern
        ? arcsOf(
            pass,
            query,
            (k) => at(head, query, k),
            S,
            start,
            arcs.clientWidth || 330,
            (q) => pick(head, q, null),
          )
        : []),
    );
    const x = at(head, query, shownKey);
    const place = [head, query - start, shownKey];
    readout.replaceChildren(
      el("code", `${name}${shapeText(place)} = `, el("strong", digits(x))),
      el(
        "span.aside",
        "in head ",
        String(head),
        " ",
        tokenText(keyToken(pass, query)),
        " ",
        x === -Infinity ? "may not see " : isPattern ? `gives ${percent(x)} of its attention to ` : "scores ",
        tokenText(keyToken(pass, shownKey)),
      ),
    );
    sum.textContent = isPattern ? rowSum() : "";
    made.replaceChildren(...arithmetic(pass, name, place));
    neverShrinks(told);
  }

  function rowSum() {
    let total = 0;
    for (let k = 0; k < S; k++) total += at(head, query, k);
    return `The row adds up to ${digits(total)}.`;
  }

  function pick(newHead, newQuery, newKey) {
    [head, query, key] = [newHead, newQuery, newKey];
    remember({ head, query });
    show();
    keepPlace([head, query - start, key ?? strongest()], readout.textContent);
  }

  function drawGlance(shownKey) {
    const focused = glance.contains(document.activeElement);
    const side = heads > 16 ? 40 : 52;
    const most = Math.max(1, Math.floor((glance.clientWidth || 860) / (side + 19)));
    glance.style.setProperty("--across", Math.ceil(heads / Math.ceil(heads / most)));
    const words = (position) => quoted(keyToken(pass, position));
    const minis = Array.from({ length: heads }, (_, h) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      const tall = Math.max(8, Math.round((side * T) / S));
      sized(canvas, side, tall).drawImage(image, 0, h * T, S, T, 0, 0, side, tall);
      return el(
        "button.mini",
        {
          type: "button",
          "aria-pressed": String(h === head),
          "aria-label": `head ${h}: ${digits(at(h, query, shownKey), 3)} from ${words(query)} to ${words(shownKey)}`,
          onclick: () => pick(h, query, key),
        },
        canvas,
        el("span", `head ${h}`),
      );
    });
    glance.replaceChildren(...minis);
    if (focused) minis[head].focus();
  }

  function drawLarge(shownKey) {
    const focused = large.contains(document.activeElement);
    const grid = matrix({
      T,
      S,
      start,
      pass,
      query,
      key: shownKey,
      range,
      isPattern,
      at: (q, k) => at(head, q, k),
      width: large.clientWidth || 420,
    });
    grid.addEventListener(
      "click",
      ({ target }) => target.dataset.q && pick(head, Number(target.dataset.q), Number(target.dataset.k)),
    );
    // Moves, not what a drawing brings under a pointer at rest: the keyboard may be in use.
    grid.addEventListener("pointermove", ({ target, pointerType }) => {
      if (pointerType !== "mouse" || !target.dataset.q) return;
      const [q, k] = [Number(target.dataset.q), Number(target.dataset.k)];
      if (q === query && k === (key ?? strongest())) return;
      [query, key] = [q, k];
      show();
    });
    grid.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      pick(
        head,
        Math.max(start, Math.min(S - 1, query + move[0])),
        Math.max(0, Math.min(S - 1, (key ?? strongest()) + move[1])),
      );
    });
    large.replaceChildren(grid);
    if (focused) grid.focus({ preventScroll: true });
  }

  onResize(large, show);
  onColours(large, () => {
    image = cellImage(table, range, isPattern ? "attention" : "positive");
    show();
  });
  show();
  return el(
    "div.figure.attention",
    el(
      "div.legend",
      ...(isPattern ? colourScale(0, 1, 1, "attention") : colourScale(-range, range, range, "positive")),
      el(
        "span.aside",
        isPattern
          ? "Rows look, columns are looked at. Hatched: later tokens, which nobody sees."
          : "Rows ask, columns answer. Hatched: later tokens, set to -inf.",
      ),
    ),
    glance,
    el("div.enlarged", large, el("div.beside", arcs, told)),
  );
}

/** One head as a grid with token labels on both axes. */
function matrix({ T, S, start, pass, query, key, range, isPattern, at, width }) {
  const left = Math.min(92, Math.max(48, width * 0.24));
  const top = 58;
  const cell = Math.max(5, Math.min(54, Math.floor((width - left - 8) / S)));
  const height = top + T * cell + 4;
  const label = (position) => clipped(keyToken(pass, position), 11);
  const step = cell >= 13 ? 1 : Math.ceil(13 / cell);
  const parts = [hatching()];
  for (let k = 0; k < S; k++) {
    if (k !== key && (k % step || Math.abs(k - key) < step)) continue;
    const x = left + k * cell + cell / 2 + 3;
    parts.push(
      el(
        "text",
        { class: `axis-label word${k === key ? " lit" : ""}`, transform: `translate(${x} ${top - 7}) rotate(-45)` },
        label(k),
      ),
    );
  }
  for (let t = 0; t < T; t++) {
    const q = t + start;
    const y = top + t * cell;
    if (q === query || (!(t % step) && Math.abs(q - query) >= step)) {
      parts.push(
        el(
          "text",
          {
            class: `axis-label word${q === query ? " lit" : ""}`,
            x: left - 8,
            y: y + cell / 2 + 4,
            "text-anchor": "end",
          },
          label(q),
        ),
      );
    }
    for (let k = 0; k < S; k++) {
      const x = at(q, k);
      const masked = k > q;
      const rgb = masked ? null : heatColour(x, range, isPattern ? "attention" : "positive");
      const rect = {
        x: left + k * cell,
        y,
        width: cell - 1,
        height: cell - 1,
        "data-q": q,
        "data-k": k,
        fill: masked ? "url(#masked)" : css(rgb),
      };
      parts.push(el("rect", rect));
      if (cell >= 38 && !masked) {
        parts.push(
          el(
            "text",
            {
              class: `in-cell ${inkOn(rgb)}`,
              x: left + k * cell + (cell - 1) / 2,
              y: y + cell / 2 + 4,
              "text-anchor": "middle",
            },
            inCell(x),
          ),
        );
      }
    }
  }
  const [cx, cy] = [left + key * cell - 1, top + (query - start) * cell - 1];
  parts.push(el("rect.at", { x: cx, y: cy, width: cell + 1, height: cell + 1 }));
  const shownWidth = left + S * cell + 44;
  return el(
    "svg",
    {
      viewBox: `0 0 ${shownWidth} ${height}`,
      width: shownWidth,
      height,
      tabindex: 0,
      role: "application",
      class: "matrix",
      "aria-label": `${isPattern ? "Attention" : "Scores"} of one head, ${T} by ${S}. Arrow keys move in it.`,
    },
    parts,
  );
}

function inCell(x) {
  if (Math.abs(x) >= 100) return x.toFixed(0);
  if (Math.abs(x) >= 10) return x.toFixed(1);
  return x.toFixed(2);
}

function hatching() {
  return el(
    "defs",
    el(
      "pattern",
      { id: "masked", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      el("rect.hatch-ground", { width: 6, height: 6 }),
      el("line.hatch", { x1: 0, y1: 0, x2: 0, y2: 6 }),
    ),
  );
}

/** The sentence as a line, with an arc from one token to each that it looks at, as wide as it looks hard. */
function arcsOf(pass, query, weight, S, start, width, onpick) {
  const gap = 62;
  const most = Math.max(4, Math.floor((width - 60) / gap) + 1);
  const all = Array.from({ length: S }, (_, k) => k);
  const strongest = all
    .slice(0, query)
    .sort((a, b) => weight(b) - weight(a))
    .slice(0, most - 1);
  const shown = S <= most ? all : [...strongest, query].sort((a, b) => a - b); // of a long text those it looks at most
  const x = (position) => 34 + shown.indexOf(position) * gap;
  const base = 96;
  const parts = [];
  for (const k of shown) {
    if (k > query) continue;
    const w = weight(k);
    if (!(w > 0.005)) continue;
    const rise = Math.min(84, 24 + 15 * (shown.indexOf(query) - shown.indexOf(k)));
    const path =
      k === query
        ? `M ${x(k) - 7} ${base} C ${x(k) - 20} ${base - 38}, ${x(k) + 20} ${base - 38}, ${x(k) + 7} ${base}`
        : `M ${x(query)} ${base} C ${x(query)} ${base - rise}, ${x(k)} ${base - rise}, ${x(k)} ${base}`;
    parts.push(el("path.arc", { d: path, "stroke-width": 1 + 7 * w, "stroke-opacity": 0.25 + 0.75 * w }));
  }
  for (const k of shown) {
    const w = k > query ? null : weight(k);
    parts.push(
      el(
        "g",
        { class: `arc-token${k === query ? " lit" : ""}${k > query ? " later" : ""}`, "data-q": k },
        el("rect.touch", { x: x(k) - gap / 2, y: base, width: gap, height: 40 }),
        el("text", { x: x(k), y: base + 17, "text-anchor": "middle" }, clipped(keyToken(pass, k), 8)),
        el("text.weight", { x: x(k), y: base + 32, "text-anchor": "middle" }, w === null ? "" : percent(w)),
      ),
    );
  }
  const drawn = 68 + (shown.length - 1) * gap;
  const svg = el(
    "svg",
    {
      viewBox: `0 0 ${drawn} 136`,
      width: drawn,
      height: 136,
      role: "img",
      class: "arc-figure",
      "aria-label": `Where ${quoted(keyToken(pass, query))} looks: ${shown
        .filter((k) => k <= query)
        .map((k) => `${quoted(keyToken(pass, k))} ${percent(weight(k))}`)
        .join(", ")}`,
    },
    parts,
  );
  const over = ({ target, type, pointerType }) => {
    const token = target.closest("[data-q]");
    if (!token || (type === "pointermove" && pointerType !== "mouse")) return;
    const q = Number(token.dataset.q);
    if (q >= start && q !== query) onpick(q);
  };
  svg.addEventListener("pointermove", over);
  svg.addEventListener("click", over);
  const cut =
    shown.length < S
      ? el("p.aside", `Of ${S} tokens those ${shown.length - 1} that it looks at most, and itself.`)
      : null;
  return [el("div.scroll-x", svg), cut].filter(Boolean);
}
