// The whole pass as one picture: a row for each token, a column for each block, lines for who looked at whom.

const MOST_ROWS = 14; // tokens of a long text that the picture shows, the last ones
const LEAST_LOOK = 0.25; // of a head's attention, for a line

/** The picture, drawn to the room there is. */
function streamFigure(state) {
  const host = el("div.figure.stream");
  onResize(host, () => host.replaceChildren(...streamPictures(state, host.clientWidth)));
  return host;
}

/** A column for the embeddings and for every block; lines are the attention that led from row to row. */
function streamPictures(state, wide) {
  const { pass } = state;
  const { T } = PAGE.passes[pass];
  const columns = STEPS.filter((step) => /hook_resid_post$/.test(step.name) || step.name === "blocks.0.hook_resid_pre");
  if (T < 2 || !columns.length) return [];
  const answer = answerOf(pass);
  const layout = streamLayout(T, columns.length, wide, answer);
  const { first, rows, width, height } = layout;
  const looks = columns.slice(1).flatMap((step, i) => attentionLines(pass, step.block, layout, i));
  const lines = [
    ...rowLines(pass, layout),
    ...looks,
    ...columnTexts(pass, columns, answer, layout),
    ...textsBeside(answer, layout),
  ];
  const svg = el(
    "svg.stream-lines",
    { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    lines,
  );
  const blocks = columns.slice(1).map((step, i) => blockLink(pass, step, layout, i));
  const pictures = columns.map((step, i) => pictureLink(pass, step, layout, i));
  const canvas = el("div.stream-canvas", svg, blocks, pictures, answer ? answerChip(pass, answer, layout) : null);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const table = tensor(pass, columns[0].name);
  const notes = [
    "Each column has a scale of its own; how large its numbers are says its RMS.",
    hasPatterns() ? lookNote(looks.length, first) : "",
    first ? `Shown are the last ${rows} of ${T} tokens.` : "",
    table.whole ? "" : cutText(table),
  ];
  return [
    el("div.scroll-x", canvas),
    el(
      "div.legend",
      colourScale(-1, 1, 1, "positive", ["below 0", "above 0"]),
      el("span.aside", notes.filter(Boolean).join(" ")),
    ),
  ];
}

/** Pixels: x(i) is the left edge of a column, y(t) the middle of a row, `end` the right edge of the last column. */
function streamLayout(T, columns, wide, answer) {
  const first = Math.max(0, T - MOST_ROWS);
  const rows = T - first;
  const narrow = wide < 560;
  const [row, left, top] = [rows > 8 ? 21 : 27, narrow ? 66 : 104, 26];
  const gaps = columns - 1;
  const room = Math.min(860, wide) - left - (narrow ? 66 : 120);
  const picture = Math.max(18, Math.min(66, Math.floor(room / (columns + 1.25 * gaps))));
  const gap = Math.max(26, Math.min(92, Math.floor((room - picture * columns) / Math.max(1, gaps))));
  const x = (i) => left + i * (picture + gap);
  const y = (t) => top + (t - first) * row + row / 2;
  const end = x(columns - 1) + picture;
  const width = end + (answer ? (narrow ? 66 : 128) : 10);
  const [rmsY, lensY] = [top + rows * row + 19, top + rows * row + 44];
  const height = (answer && answer.lens ? lensY + 17 : rmsY) + 10;
  return { T, first, rows, narrow, row, left, top, picture, gap, x, y, end, width, rmsY, lensY, height };
}

/** The token of each row, and its line through all columns. */
function rowLines(pass, { T, first, narrow, left, y, end }) {
  const lines = [];
  for (let t = first; t < T; t++) {
    lines.push(
      el(
        "text",
        { class: `axis-label word${t === T - 1 ? " lit" : ""}`, x: left - 12, y: y(t) + 4, "text-anchor": "end" },
        clipped(keyToken(pass, startOf(pass) + t), narrow ? 7 : 11),
      ),
      el("line.row-line", { x1: left - 6, x2: end, y1: y(t), y2: y(t) }),
    );
  }
  return lines;
}

/** Above each column its name, below it how large its numbers are and what the model would say there. */
function columnTexts(pass, columns, answer, { picture, gap, x, rmsY, lensY }) {
  const rms = columns.map((step) => numberOf(held(pass, step.name).stats.rms));
  return columns.flatMap((step, i) => [
    el(
      "text.axis-label",
      { x: x(i) + picture / 2, y: 12, "text-anchor": "middle" },
      isStart(step) && picture < 50 ? "" : titleAbove(step, picture + gap),
    ),
    ...sizeBelow(rms[i], Math.max(...rms), x(i), picture, rmsY),
    ...(answer && answer.lens
      ? saidEarly(answer.lens, step, x(i) + picture / 2, lensY, answer.chosen, gap + picture)
      : []),
  ]);
}

/** What the numbers and words below the columns are, and the line from the last row to the answer. */
function textsBeside(answer, { T, narrow, left, y, end, rmsY, lensY }) {
  const label = (at, words) => el("text.axis-label.small", { x: left - 12, y: at, "text-anchor": "end" }, words);
  const texts = [label(rmsY, "RMS")];
  if (!answer) return texts;
  if (answer.lens)
    texts.push(
      label(lensY, narrow ? "says" : "would say"),
      label(lensY + 17, narrow ? "rank" : `${clipped(answer.chosen, 10)} is no.`),
    );
  return [...texts, el("path.to-answer", { d: `M ${end} ${y(T - 1)} H ${end + (narrow ? 8 : 22)}` })];
}

/** The numbers of a column, as a link to their step. */
function pictureLink(pass, step, { first, row, top, picture, x }, i) {
  const node = link(
    { pass, name: step.name },
    {
      class: "stream-picture",
      "aria-label": isStart(step) ? "the embedded tokens" : `the stream after block ${step.block}`,
      title: titleOf(step.name),
    },
  );
  node.append(streamPicture(tensor(pass, step.name), first, picture, row));
  node.style.left = `${x(i)}px`;
  node.style.top = `${top}px`;
  return node;
}

/** The gap after a column, as a link to the attention of the block between the two columns. */
function blockLink(pass, step, { rows, row, top, picture, gap, x }, i) {
  const node = link(
    { pass, name: `blocks.${step.block}.attn.hook_pattern` },
    {
      class: "stream-gap",
      "aria-label": `attention of block ${step.block}`,
      title: `Attention of block ${step.block}`,
    },
  );
  node.style.left = `${x(i) + picture + 2}px`;
  node.style.top = `${top}px`;
  node.style.width = `${gap - 4}px`;
  node.style.height = `${rows * row}px`;
  return node;
}

function answerChip(pass, answer, { T, narrow, y, end }) {
  const chip = link(
    { pass, name: NUMBER_OF.has("hook_next_token") ? "hook_next_token" : STEPS[COUNT - 1].name },
    { class: "chip made" },
    tokenText(answer.chosen),
  );
  chip.style.left = `${end + (narrow ? 8 : 26)}px`;
  chip.style.top = `${y(T - 1) - 16}px`;
  return chip;
}

/** What the lines are, or why there are none. */
function lookNote(count, first) {
  const least = `${100 * LEAST_LOOK} %`;
  const another = first ? "another token that is shown" : "another token";
  return count
    ? `Lines: the most attention that any head gives ${another}, from ${least} up.`
    : `No lines of attention: no head gives ${another} ${least} of it.`;
}

/** How large the numbers of a column are: as a number, and as a bar beside those of the other columns. */
function sizeBelow(rms, largest, x, width, y) {
  return [
    el("rect.bin", { x, y: y - 16, width: Math.max(1, (width * rms) / largest || 0), height: 3 }),
    el("text.axis-label.small", { x: x + width / 2, y, "text-anchor": "middle" }, digits(rms, width < 40 ? 2 : 3)),
  ];
}

/** True of the sum of the embeddings, with which the stream begins. */
function isStart(step) {
  return step.name.endsWith("resid_pre");
}

function titleAbove(step, room) {
  if (isStart(step)) return "embedded";
  return room < 70 ? String(step.block) : `block ${step.block}`;
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

/** A line for each pair of tokens of which one looks much at the other: the most that any head does. */
function attentionLines(pass, block, { T, first, picture, x, y }, i) {
  const name = `blocks.${block}.attn.hook_pattern`;
  if (!NUMBER_OF.has(name)) return [];
  const [x1, x2] = [x(i) + picture, x(i + 1)];
  const lines = [];
  for (let t = first; t < T; t++) {
    for (let k = first; k < t; k++) {
      let most = 0;
      for (let head = 0; head < H; head++)
        most = Math.max(most, weightOf(pass, block, head, startOf(pass) + t, startOf(pass) + k));
      if (most < LEAST_LOOK) continue;
      const middle = (x1 + x2) / 2;
      lines.push(
        el("path.arc", {
          d: `M ${x1 + 2} ${y(k)} C ${middle} ${y(k)}, ${middle} ${y(t)}, ${x2 - 2} ${y(t)}`,
          "stroke-width": 2.6 * most,
          "stroke-opacity": 0.2 + 0.8 * most,
        }),
      );
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
    el(
      "text",
      {
        class: `axis-label word${room < 90 ? " small" : ""}${stop.best === chosen ? " lit" : ""}`,
        x,
        y,
        "text-anchor": "middle",
      },
      clipped(stop.best, Math.floor(room / 7.5)),
    ),
    el(
      "text",
      { class: `axis-label small${rank === 1 ? " lit" : ""}`, x, y: y + 17, "text-anchor": "middle" },
      counted(rank),
    ),
  ];
}
