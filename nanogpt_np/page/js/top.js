// What stands above and below every step: the bar to move with, the prompt and its answer, whose numbers these are.

function drawBar() {
  const index = indexOf(STATE);
  const total = COUNT * PAGE.passes.length;
  controls.counter.replaceChildren(
    ...(index < 0 ? ["the whole pass"] : ["step ", el("strong", String(index + 1)), ` of ${total}`]),
  );
  controls.slider.value = String(index + 1);
  controls.slider.setAttribute(
    "aria-valuetext",
    index < 0 ? "the whole pass" : `step ${index + 1}, ${STATE.name || STATE.view}`,
  );
  controls.previous.disabled = index < 0;
  controls.next.disabled = !STATE.view && index === total - 1;
  controls.play.replaceChildren(playing ? "Pause" : "Play");
}

const controls = {}; // of the bar

function makeBar() {
  const total = COUNT * PAGE.passes.length;
  controls.previous = el(
    "button",
    { type: "button", id: "previous", title: "Left arrow", "aria-label": "Back", onclick: () => goBack() },
    "◀",
    el("span.word", " Back"),
  );
  controls.next = el(
    "button",
    { type: "button", id: "next", title: "Right arrow", "aria-label": "Next", onclick: () => goOn() },
    el("span.word", "Next "),
    "▶",
  );
  controls.play = el("button", { type: "button", id: "play", onclick: play }, "Play");
  controls.counter = el("span.counter");
  let nextEntry = entries(); // one for each drag
  controls.slider = el("input", {
    type: "range",
    id: "slider",
    min: 0,
    max: total,
    value: 0,
    "aria-label": "Step",
    oninput: ({ target }) => goTo(Number(target.value) - 1, nextEntry()),
    onchange: () => (nextEntry = entries()),
  });
  const dialog = helpDialog();
  document.body.append(dialog);
  document
    .getElementById("bar")
    .append(
      el(
        "span.buttons",
        link({ name: null }, { class: "home", id: "home" }, "Start"),
        controls.previous,
        controls.play,
        controls.next,
      ),
      controls.counter,
      controls.slider,
      searchBox(),
      el(
        "button",
        { type: "button", id: "ask", "aria-label": "Help", title: "Help (?)", onclick: () => dialog.showModal() },
        "?",
      ),
    );
}

function drawTop() {
  const top = document.getElementById("top");
  const focusable = () => [...top.querySelectorAll("button, a")];
  const focused = focusable().indexOf(document.activeElement);
  const long = PAGE.passes[0].S > 30 ? " long" : "";
  top.replaceChildren(
    el("p.whose", whose(PAGE.about)),
    el(
      "h1",
      { class: `sentence${long}` },
      el("span.unseen", "The prompt and its answer: "),
      el("span.chips.prompt", promptChips()),
      el("span.chips", el("span.then", { "aria-label": "then" }, "→"), answerChips()),
    ),
    PAGE.passes.length > 1 && STATE.name ? passLine() : "",
  );
  if (focused >= 0) focusable()[focused]?.focus({ preventScroll: true });
}

/** The tokens of the prompt; a click chooses the one whose rows stand out. */
function promptChips() {
  return Array.from({ length: PAGE.passes[0].S }, (_, position) => {
    const elsewhere = position < startOf(STATE.pass) ? ", in pass 1" : "";
    const title = `position ${position}: its row${elsewhere}`;
    const pressed = String(STATE.query === position);
    const choose = () => chooseToken(position);
    return el(
      "button.chip",
      { type: "button", "aria-pressed": pressed, title, onclick: choose },
      tokenText(keyToken(0, position)),
    );
  });
}

/** What each pass chose; a click goes to where. */
function answerChips() {
  const name = NUMBER_OF.has("hook_next_token") ? "hook_next_token" : STEPS[COUNT - 1].name;
  return PAGE.passes.map(({ answer }, pass) => {
    if (!answer) return null;
    const shown = pass === STATE.pass && STATE.name;
    const read = pass + PAGE.passes[0].S === STATE.query;
    const p = answerOf(pass).rows.find((row) => row.id === answer.chosen).p;
    return link(
      { pass, name },
      { class: `chip made${shown ? " lit" : ""}${read ? " read" : ""}`, title: `chosen in pass ${pass + 1}` },
      tokenText(answer.chosen),
      PAGE.passes.length === 1 ? el("span.chip-note", percent(p)) : null,
    );
  });
}

function passLine() {
  const { pass } = STATE;
  const only = [
    PAGE.passes[pass].ids.map((id) => el("span.chip.small", tokenText(id))),
    ` only: keys and values of the ${startOf(pass)} tokens before it come from the cache.`,
  ];
  return el("p.which-pass", `Pass ${pass + 1} of ${PAGE.passes.length} reads `, pass ? only : "the prompt.");
}

/** Let the row of a token stand out; if it was computed in an earlier pass, go there. */
function chooseToken(position) {
  const { pass, name, view, at } = STATE;
  if (position < startOf(pass)) return go({ pass: 0, name, view, query: position, key: null });
  const byRow = at && name && pointOf(name).axes.startsWith("T");
  const byHead = at && hasHeads(name);
  return remember(
    {
      query: position,
      key: null,
      at: byRow ? [position - startOf(pass), ...at.slice(1)] : byHead ? null : at,
    },
    true,
  );
}

const KINDS = {
  bundled: ["bundled", "ships with nanogpt_np; not a published GPT-2"],
  published: ["real", "the published weights, by their SHA-256"],
  downloaded: ["real", "downloaded; not checked against the published SHA-256"],
  other: ["other", "has a published name, but is not that checkpoint"],
  local: ["local", "a checkpoint from a folder"],
  random: ["random", "never trained: every bias is 0 and every gain 1"],
  "in memory": ["unnamed", "a model in memory: from which checkpoint was not told"],
  "not told": ["unknown", "a Recorder keeps numbers, not whose they are"],
};

/** Which checkpoint spoke. */
function whose(about) {
  const [word, meaning] = KINDS[about.kind];
  const { C, V } = PAGE.sizes;
  const sha = about.sha256_of ? `SHA-256 of ${about.sha256_of} ` : "SHA-256 ";
  const ofHeads = Number.isInteger(PAGE.sizes.H) ? ` of ${H} heads` : ""; // a part of a pass may not tell
  const parts = [
    el("span", { class: `badge ${about.kind.replace(" ", "-")}`, title: meaning }, word),
    about.name ? el("strong", about.name) : null,
    about.replayed
      ? "replayed from a file, which says so itself"
      : about.kind === "bundled" || about.kind === "published"
        ? null
        : meaning,
    about.parameters ? `${counted(about.parameters)} parameters` : null,
    `${PAGE.layers_known ? "" : "at least "}${PAGE.layers} blocks${ofHeads}, ${C} columns`,
    about.batch ? `prompt 1 of ${about.batch} in a batch` : null,
    about.dtype ? `stored as ${about.dtype}` : null,
    about.sha256
      ? el("span", sha, el("code", { title: about.sha256 }, about.sha256.slice(0, 12)))
      : about.name
        ? "SHA-256 not checked"
        : null,
    about.bos === null ? null : about.bos ? "begins with <|endoftext|>" : "no BOS",
    about.decoding,
    about.vocabulary && Number.isInteger(V)
      ? `its vocabulary has ${counted(about.vocabulary)} entries; the text is read with ${about.tokenizer ? `its tokenizer's ${counted(about.tokenizer)}` : "GPT-2's 50,257"}`
      : null,
  ].filter(Boolean);
  return parts.flatMap((part, i) =>
    i > 1 ? [" ", el("span.dot-between", { "aria-hidden": "true" }, "·"), " ", part] : [part, " "],
  );
}

function drawFoot() {
  const { F } = PAGE.sizes;
  const columns = PAGE.kept.D < D ? `, of every ${D} columns the first ${PAGE.kept.D} are kept` : "";
  const neurons = PAGE.kept.F < F ? `, of ${counted(F)} neurons the first ${PAGE.kept.F}` : "";
  const how =
    PAGE.format === "d3"
      ? [
          `To fit, numbers are rounded to ${PAGE.digits} significant digits${columns}${neurons}; `,
          "mean, RMS, min and max are those of the whole arrays.",
        ]
      : [
          `Every recorded number is kept as it was and printed to ${PAGE.digits} digits; `,
          "of the scores over all tokens the likeliest are kept.",
        ];
  const foot = document.getElementById("foot");
  foot.append(
    el("p", how, " Nothing is fetched: this file is all there is."),
    el(
      "p",
      "Keys: ",
      el("kbd", "?"),
      " lists them. The address says what is shown; the name and number of a step in it are as ",
      el("code", "python -m nanogpt_np explain"),
      " takes them.",
    ),
  );
}
