// A stored parameter: read from the checkpoint, the same for every prompt.

function weightView(state) {
  const name = state.view;
  const parameter = parameterOf(name);
  const shape = storedShape(name);
  const readers = STEPS.filter((step) => step.weights.includes(name));
  const axes = parameter.axes;
  const stored = PAGE.weights[name];
  const head = el(
    "header.step-head",
    el("p.kind.stored-kind", "stored: read from the checkpoint, the same for every prompt"),
    el("h2", shortName(name)),
    el(
      "p.named",
      el("code.name", name),
      " ",
      shapeChip(
        shape,
        axes
          .split(" ")
          .map((letter, i) => `${WORDS_OF_LETTERS[letter]}${/^[CF] \w*[CF]$/.test(axes) ? [" in", " out"][i] : ""}`),
      ),
    ),
    el(
      "p.notice",
      `${parameter.purpose[0].toUpperCase()}${parameter.purpose.slice(1)}. `,
      readers.length
        ? [
            "Read by ",
            readers.map((step, i) => [
              i ? ", " : "",
              link({ pass: state.pass, name: step.name }, {}, innerName(step.name)),
            ]),
            ".",
          ]
        : null,
    ),
  );
  const siblings = Object.keys(PAGE.weights).filter(
    (other) => other !== name && other.replace(/\.\w+$/, "") === name.replace(/\.\w+$/, ""),
  );
  const parts = parameter.parts.map((part) =>
    el(
      "li",
      el("code", filled(part.names.TransformerLens ? part.names.TransformerLens[0] : part.names.papers[0], name)),
      " ",
      el("span.aside", part.purpose),
    ),
  );
  return [
    head,
    stored
      ? el(
          "section.numbers-of",
          { "aria-label": "Numbers" },
          weightFigure(state, name),
          statistics({ stats: stored.stats }, {}),
        )
      : el("p.aside", "The page was made without the weights: it holds what was recorded."),
    siblings.length
      ? el(
          "p",
          "Beside it: ",
          siblings.map((other, i) => [i ? ", " : "", link({ view: other, pass: state.pass }, {}, shortName(other))]),
        )
      : null,
    parts.length ? el("section.facts", el("h3", "Its parts"), el("ul", parts)) : null,
    namesTable("All its names", [], parameter.names, name),
  ];
}

function weightFigure(state, name) {
  const table = tensor(0, name);
  const label = (row) => {
    if (table.shape.length === 1) return el("span", "");
    const number = table.rowOf(row);
    return table.letters[0] === "V" ? tokenText(number) : el("span", String(number));
  };
  const labels = Array.from({ length: table.rows }, (_, row) => label(row));
  const readout = el("p.readout");
  const tell = (place, picked) => {
    readout.replaceChildren(...readoutOf(0, name, place, table));
    if (picked) keepPlace(place, readout.textContent);
  };
  const cell = (state.at && table.find(state.at)) || [0, 0];
  tell(table.place(...cell), false);
  const figure = heatFigure(table, {
    rowLabels: labels,
    segments: segmentsOf(table),
    cell,
    onplace: tell,
    label: name,
  });
  figure.append(readout);
  return figure;
}
