// How one number is made from those that its step reads: the terms of a sum, largest first, each a link to where it
// stands. Only where the page keeps all of them; python -m nanogpt_np explain does the same for every number.

const TERMS_SHOWN = 6;
const TOGETHER = PAGE.format === "d3" ? "together, of the rounded numbers that this page keeps" : "together";

/** Elements that derive the number of `name` at `place`, or nothing where that cannot be done here. */
function arithmetic(pass, name, place) {
  const found = derive(pass, name, place);
  if (!found) return notHere(pass, name, place);
  const { how, terms } = found;
  const ranked = [...terms].sort((a, b) => Math.abs(b.amount) - Math.abs(a.amount));
  const shown = ranked.slice(0, TERMS_SHOWN);
  const rest = ranked.slice(TERMS_SHOWN).reduce((sum, term) => sum + term.amount, 0);
  const widest = Math.max(...shown.map((term) => Math.abs(term.amount)), Math.abs(rest)) || 1;
  const row = (label, amount) => {
    const bar = el("span", { class: `signed ${amount < 0 ? "less" : "more"}` });
    bar.style.width = `${(50 * Math.abs(amount)) / widest}%`;
    return el(
      "li.term",
      el("span.term-label", label),
      el("span.balance", { "aria-hidden": "true" }, bar),
      el("span.like-number", digits(amount)),
    );
  };
  const total = terms.reduce((sum, term) => sum + term.amount, 0);
  return [
    el("p.how-made", "How it is made: ", how),
    terms.length > 1
      ? el(
          "ol.terms",
          shown.map((term) => row(term.label, term.amount)),
          ranked.length > TERMS_SHOWN ? row(`the other ${ranked.length - TERMS_SHOWN}`, rest) : null,
          el("li.term.total", el("span.term-label", TOGETHER), el("span", {}), el("span.like-number", digits(total))),
        )
      : null,
  ].filter(Boolean);
}

/** Says where to see how a number is made, if this page does not keep all that it is made of. */
function notHere(pass, name, place) {
  const { reads, weights } = STEPS[NUMBER_OF.get(name)];
  if (!reads.length && !weights.length) return [];
  const missing = Object.keys(PAGE.weights).length ? "all the numbers that it is made of" : "the weights";
  const hint = pass === 0 ? ["; ", el("code", explainCommand(name, place)), " shows it"] : "";
  return [el("p.how-made", `How it is made: ${pointOf(name).equation}. This page does not keep ${missing}`, hint, ".")];
}

/** Where to see how a number is made, for steps whose numbers are not derived in this page. */
function madeElsewhere({ pass, name }, place) {
  return pass ? null : el("p.how-made", "How this is made, term by term: ", el("code", explainCommand(name, place)));
}

function explainCommand(name, place) {
  return `python -m nanogpt_np explain PROMPT '${name}${place.length ? `[${place.join(",")}]` : ""}'`;
}

/** A number as a link to where it stands: q[4, 3, 12]. */
function numberLink(pass, name, place) {
  const x = numberAt(pass, name, place);
  const target = isWeight(name) ? { view: name, at: place } : { pass, name, at: place };
  return [
    link(target, {}, `${isWeight(name) ? shortName(name) : innerName(name)}${shapeText(place)}`),
    " ",
    el("span.value", digits(x)),
  ];
}

function numberAt(pass, name, place) {
  const table = tensor(pass, name);
  const cell = table.find(place);
  return cell ? table.at(...cell) : NaN;
}

function wholeHere(pass, ...names) {
  return names.every((name) => (isWeight(name) ? PAGE.weights[name] : NUMBER_OF.has(name)) && tensor(pass, name).whole);
}

function derive(pass, name, place) {
  const { reads, weights, sources } = STEPS[NUMBER_OF.get(name)];
  if (sources.length > reads.length + weights.length) return null; // something that it reads was not recorded
  const last = shortName(name);
  const origin = originOf(pass, last, reads, weights, place);
  if (origin) return { how: ["the same number as ", numberLink(pass, ...origin)], terms: [] };
  if (last.startsWith("resid_")) return reads.length ? summed(pass, reads, place) : null;
  if (last === "normalized") return normalized(pass, reads, place);
  if (last === "output") return gained(pass, reads, weights, place);
  if (last === "post" && reads.length) return { how: ["gelu(", numberLink(pass, reads[0], place), ")"], terms: [] };
  if (last === "attn_scores") return score(pass, name, reads, place);
  if (last === "pattern") return shareOfRow(pass, reads, place);
  if (last === "z") return average(pass, reads, place);
  return weights.length === 2 ? product(pass, reads, weights, place) : null;
}

/** Where a number is copied from: [name, place]; null for a number that is computed. */
function originOf(pass, last, reads, weights, place) {
  if (!reads.length) return null;
  if (/^(embed|pos_embed)$/.test(last)) {
    const row = PAGE.passes[pass].steps[NUMBER_OF.get(reads[0])].whole[place[0]];
    const at = [row, place[1]];
    return PAGE.weights[weights[0]] && tensor(pass, weights[0]).find(at) ? [weights[0], at] : null;
  }
  if (/^[qkv]$/.test(last)) return [reads[0], [place[0], "qkv".indexOf(last) * H * D + place[1] * D + place[2]]];
  if (last === "merged") return [reads[0], [place[0], Math.floor(place[1] / D), place[1] % D]];
  if (last === "last_row") return [reads[0], [PAGE.passes[pass].T - 1, place[0]]];
  return last.startsWith("resid_") && reads.length === 1 ? [reads[0], place] : null;
}

function summed(pass, reads, place) {
  return {
    how: "a sum",
    terms: reads.map((read) => ({ label: numberLink(pass, read, place), amount: numberAt(pass, read, place) })),
  };
}

function normalized(pass, reads, [t, c]) {
  if (reads.length < 2 || !wholeHere(pass, reads[0])) return null;
  const table = tensor(pass, reads[0]);
  let mean = 0;
  for (let j = 0; j < table.columns; j++) mean += table.at(t, j) / table.columns;
  return {
    how: [
      "(",
      numberLink(pass, reads[0], [t, c]),
      ` less the mean of its row ${digits(mean)}) / `,
      numberLink(pass, reads[1], [t, 0]),
    ],
    terms: [],
  };
}

function gained(pass, reads, weights, [t, c]) {
  if (!weights.every((name) => PAGE.weights[name] && tensor(pass, name).find([c]))) return null;
  const [x, gain, bias] = [
    numberAt(pass, reads[0], [t, c]),
    numberAt(pass, weights[0], [c]),
    numberAt(pass, weights[1], [c]),
  ];
  return {
    how: "a product and a sum",
    terms: [
      { label: [numberLink(pass, reads[0], [t, c]), " × ", numberLink(pass, weights[0], [c])], amount: x * gain },
      { label: numberLink(pass, weights[1], [c]), amount: bias },
    ],
  };
}

/** A row of what is read times a column of the weight, and the bias. */
function product(pass, reads, weights, [t, c]) {
  if (!wholeHere(pass, ...reads, ...weights)) return null;
  const [x, weight] = [tensor(pass, reads[0]), tensor(pass, weights[0])];
  const terms = Array.from({ length: x.columns }, (_, i) => ({
    label: [numberLink(pass, reads[0], [t, i]), " × ", numberLink(pass, weights[0], [i, c])],
    amount: x.at(t, i) * weight.at(i, c),
  }));
  terms.push({ label: ["bias ", numberLink(pass, weights[1], [c])], amount: numberAt(pass, weights[1], [c]) });
  return { how: `a sum of ${x.columns} products (a row times a column of the weight) and a bias`, terms };
}

/** In which pass a position was read, and which of its rows it is; null if the page does not hold that pass. */
function rowOfPosition(position, pass) {
  for (let one = pass; one >= 0; one--)
    if (position >= startOf(one)) return position < PAGE.passes[one].S ? [one, position - startOf(one)] : null;
  return null;
}

function score(pass, name, reads, [h, t, s]) {
  const { scale } = held(pass, name);
  const from = rowOfPosition(s, pass);
  if (s > t + startOf(pass)) return { how: "a later token: masked", terms: [] };
  if (reads.length < 2 || !scale || !from || !wholeHere(pass, ...reads)) return null;
  const terms = Array.from({ length: D }, (_, d) => {
    const [q, k] = [
      [t, h, d],
      [from[1], h, d],
    ];
    return {
      label: [numberLink(pass, reads[0], q), " × ", numberLink(from[0], reads[1], k)],
      amount: scale * numberAt(pass, reads[0], q) * numberAt(from[0], reads[1], k),
    };
  });
  return { how: `a query times a key: ${D} products, each times ${Number(scale.toPrecision(6))}`, terms };
}

function shareOfRow(pass, reads, [h, t, s]) {
  if (!reads.length) return null;
  const S = PAGE.passes[pass].S;
  const scores = Array.from({ length: S }, (_, k) => numberAt(pass, reads[0], [h, t, k]));
  const largest = Math.max(...scores);
  const total = scores.reduce((sum, x) => sum + Math.exp(x - largest), 0);
  if (scores[s] === -Infinity) return { how: "a later token: exp(-inf) is 0", terms: [] };
  return {
    how: [
      "exp(",
      numberLink(pass, reads[0], [h, t, s]),
      ` less the largest, ${digits(largest)}) = ${digits(Math.exp(scores[s] - largest))}, `,
      `of the row's sum ${digits(total)}`,
    ],
    terms: [],
  };
}

function average(pass, reads, [t, h, d]) {
  if (reads.length < 2) return null;
  const terms = [];
  for (let s = 0; s <= t + startOf(pass); s++) {
    const from = rowOfPosition(s, pass);
    if (!from) return null;
    const [weight, value] = [
      [h, t, s],
      [from[1], h, d],
    ];
    terms.push({
      label: [
        tokenText(keyToken(pass, s)),
        " ",
        numberLink(pass, reads[0], weight),
        " × ",
        numberLink(from[0], reads[1], value),
      ],
      amount: numberAt(pass, reads[0], weight) * numberAt(from[0], reads[1], value),
    });
  }
  return { how: "the values of the tokens it sees, each as much as it looks at them", terms };
}
