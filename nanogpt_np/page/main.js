// What is shown, the address that says so, and the ways to move: buttons, keys, links, search.

const COUNT = STEPS.length;
const STATE = { pass: 0, name: null, view: null, at: null, query: PAGE.passes[0].S - 1, key: null, head: 0, token: null, rival: null };
const SECONDS_PER_STEP = 2.2; // while playing
let playing = null;

// ---- addresses: #blocks.2.attn.hook_pattern[3,4,3], and before it "pass2/" for the second pass ----

function addressOf({ pass = 0, name = null, view = null, at = null }) {
  const before = pass ? `pass${pass + 1}/` : "";
  if (view) return `#${before}${view}`;
  return name === null ? "#start" : `#${before}${name}${at ? `[${at.join(",")}]` : ""}`;
}

/** What an address means, or null where it means nothing here. */
function meant(address) {
  let text = address.replace(/^#/, "");
  try {
    text = decodeURIComponent(text);
  } catch {
    return null;
  }
  if (text === "" || text === "start") return { pass: 0, name: null, view: null, at: null };
  const found = /^(?:pass(\d+)\/)?([^[\]/]+)(?:\[([\d, ]*)\])?$/.exec(text);
  if (!found) return null;
  const pass = found[1] ? Number(found[1]) - 1 : 0;
  const at = found[3] ? found[3].split(",").map(Number) : null;
  if (pass < 0 || pass >= PAGE.passes.length) return null;
  if (NUMBER_OF.has(found[2])) return { pass, name: found[2], view: null, at };
  const known = parameterOf(found[2]) && (blockOf(found[2]) === null || blockOf(found[2]) < PAGE.layers);
  return known ? { pass, name: null, view: found[2], at } : null;
}

function write(address, push) {
  try {
    history[push ? "pushState" : "replaceState"](null, "", address);
  } catch {
    // a frame without an address of its own, as in a notebook
  }
}

// ---- moving ----

function go(target, { push = true } = {}) {
  Object.assign(STATE, { pass: 0, name: null, view: null, at: null }, target);
  const { S, T } = PAGE.passes[STATE.pass];
  STATE.query = Math.max(S - T, Math.min(S - 1, STATE.query));
  const heads = STATE.name && pointOf(STATE.name).axes === "H T S";
  if (heads && STATE.at) Object.assign(STATE, { head: STATE.at[0], query: STATE.at[1] + S - T });
  if (push) write(addressOf(STATE), true);
  show();
  const top = document.getElementById("body").offsetTop - document.getElementById("bar").offsetHeight;
  if (window.scrollY > top) window.scrollTo({ top });
}

/** Keep a choice (a head, a token) for all steps to come; draw again if asked to. */
function remember(changes, redraw = false) {
  Object.assign(STATE, changes);
  if (!redraw) return;
  if ("token" in changes && STATE.at && /logits|probabilities/.test(STATE.name || "")) STATE.at = null;
  show();
}

/** Let the address say which number is pointed at. */
function keepPlace(place) {
  STATE.at = place;
  write(addressOf(STATE), false);
}

function indexOf(state) {
  if (state.name === null && state.view === null) return -1;
  return state.pass * COUNT + (stepOf(state) || STEPS[0]).number;
}

function goTo(index) {
  if (index < 0) return go({ name: null });
  const last = COUNT * PAGE.passes.length - 1;
  const bounded = Math.min(index, last);
  return go({ pass: Math.floor(bounded / COUNT), name: STEPS[bounded % COUNT].name });
}

const next = () => goTo(STATE.view ? indexOf(STATE) : indexOf(STATE) + 1);
const previous = () => goTo(indexOf(STATE) - 1);

function play() {
  if (playing) {
    clearInterval(playing);
    playing = null;
  } else {
    playing = setInterval(() => {
      if (indexOf(STATE) >= COUNT * PAGE.passes.length - 1) play();
      else next();
    }, 1000 * SECONDS_PER_STEP);
  }
  drawBar();
}

// ---- drawing ----

function show() {
  const main = document.getElementById("step");
  const place = [...main.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  for (const host of redraws.keys()) if (main.contains(host)) redraws.delete(host);
  main.replaceChildren(...(STATE.view ? weightView(STATE) : STATE.name === null ? startView(STATE) : stepView(STATE)).filter(Boolean));
  if (place >= 0) (main.querySelectorAll(FOCUSABLE)[place] || main).focus({ preventScroll: true });
  drawTop();
  drawMap(STATE);
  drawBar();
  const index = indexOf(STATE);
  const title = STATE.name ? titleOf(STATE.name) : STATE.view || "The whole pass";
  document.title = `${STATE.name ? innerName(STATE.name) : title} · ${PAGE.about.prompt === null ? "a recorded pass" : tokensPlain()}`;
  document.getElementById("said").textContent = index < 0 ? "The whole pass" : `Step ${index + 1} of ${COUNT * PAGE.passes.length}: ${title}`;
}

const FOCUSABLE = "a[href], button, canvas[tabindex], svg[tabindex], select, input";

function tokensPlain() {
  return PAGE.passes[0].ids.map(plain).join("").slice(0, 60);
}

function drawBar() {
  const index = indexOf(STATE);
  const total = COUNT * PAGE.passes.length;
  bar.counter.replaceChildren(...(index < 0 ? ["the whole pass"] : ["step ", el("strong", {}, String(index + 1)), ` of ${total}`]));
  bar.slider.value = String(index + 1);
  bar.slider.setAttribute("aria-valuetext", index < 0 ? "the whole pass" : `step ${index + 1}, ${STATE.name || STATE.view}`);
  bar.previous.disabled = index < 0;
  bar.next.disabled = !STATE.view && index === total - 1;
  bar.play.replaceChildren(playing ? "Pause" : "Play");
  bar.play.setAttribute("aria-pressed", String(Boolean(playing)));
}

const bar = {};

function makeBar() {
  const total = COUNT * PAGE.passes.length;
  bar.previous = el("button", { type: "button", id: "previous", title: "Left arrow", "aria-label": "Back", onclick: previous }, "◀", el("span", { class: "word" }, " Back"));
  bar.next = el("button", { type: "button", id: "next", title: "Right arrow", "aria-label": "Next", onclick: next }, el("span", { class: "word" }, "Next "), "▶");
  bar.play = el("button", { type: "button", id: "play", "aria-pressed": "false", onclick: play }, "Play");
  bar.counter = el("span", { class: "counter" });
  bar.slider = el("input", { type: "range", id: "slider", min: 0, max: total, value: 0, "aria-label": "Step", oninput: ({ target }) => goTo(Number(target.value) - 1) });
  document.getElementById("bar").append(
    el("span", { class: "buttons" }, link({ name: null }, { class: "home", id: "home" }, "Start"), bar.previous, bar.play, bar.next),
    bar.counter, bar.slider, searchBox());
}

function drawTop() {
  const { about, passes } = PAGE;
  const prompt = passes[0];
  const focused = document.activeElement && document.activeElement.closest("#top") ? [...document.querySelectorAll("#top button, #top a")].indexOf(document.activeElement) : -1;
  const promptLength = prompt.S;
  const chips = Array.from({ length: promptLength }, (_, position) => el("button", {
    type: "button", class: "chip", "aria-pressed": String(STATE.query === position), title: `position ${position}: highlight its row`,
    onclick: () => chooseToken(position),
  }, tokenText(keyToken(0, position))));
  const made = passes.map((one, pass) => one.answer && link({ pass, name: NUMBER_OF.has("hook_next_token") ? "hook_next_token" : STEPS[COUNT - 1].name }, {
    class: `chip made${pass === STATE.pass && STATE.name ? " lit" : ""}${pass + promptLength === STATE.query ? " read" : ""}`, title: `chosen in pass ${pass + 1}`,
  }, tokenText(one.answer.chosen), passes.length === 1 ? el("span", { class: "chip-note" }, percent(answerOf(pass).rows.find((row) => row.id === one.answer.chosen).p)) : null));
  document.getElementById("top").replaceChildren(
    el("p", { class: "whose" }, whose(about)),
    el("h1", { class: `sentence${promptLength > 30 ? " long" : ""}` }, el("span", { class: "unseen" }, "The prompt and its answer: "),
      el("span", { class: "chips prompt" }, chips), el("span", { class: "chips" }, el("span", { class: "then", "aria-label": "then" }, "→"), made)),
    passes.length > 1 && STATE.name ? el("p", { class: "which-pass" }, `Pass ${STATE.pass + 1} of ${passes.length} reads `, STATE.pass
      ? [passes[STATE.pass].ids.map((id) => el("span", { class: "chip small" }, tokenText(id))), ` only: keys and values of the ${startOf(STATE.pass)} tokens before it come from the cache.`]
      : "the prompt.") : "");
  if (focused >= 0) document.querySelectorAll("#top button, #top a")[focused]?.focus({ preventScroll: true });
}

function chooseToken(position) {
  const { S, T } = PAGE.passes[STATE.pass];
  STATE.query = position;
  STATE.key = null;
  if (position < S - T) return go({ pass: 0, name: STATE.name, view: STATE.view });
  if (STATE.at && STATE.name) STATE.at = null;
  return show();
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
  const parts = [
    el("span", { class: `badge ${about.kind.replace(" ", "-")}`, title: meaning }, word),
    about.name ? el("strong", {}, about.name) : null,
    about.replayed ? "replayed from a file, which says so itself" : about.kind === "bundled" || about.kind === "published" ? null : meaning,
    about.parameters ? `${counted(about.parameters)} parameters` : null,
    `${PAGE.layers_known ? "" : "at least "}${PAGE.layers} blocks of ${H} heads, ${C} columns`,
    about.dtype ? `stored as ${about.dtype}` : null,
    about.sha256 ? el("span", {}, "SHA-256 ", el("code", { title: about.sha256 }, about.sha256.slice(0, 12))) : about.name ? "SHA-256 not checked" : null,
    about.bos === null ? null : about.bos ? "begins with <|endoftext|>" : "no BOS",
    about.decoding,
    about.vocabulary && Number.isInteger(V) ? `its vocabulary has ${counted(about.vocabulary)} entries; the text is read with GPT-2's 50,257` : null,
  ].filter(Boolean);
  return parts.flatMap((part, i) => (i > 1 ? [el("span", { class: "dot-between", "aria-hidden": "true" }, " · "), part] : [part, " "]));
}

function drawFoot() {
  const how = PAGE.format === "d3"
    ? `To fit, numbers are rounded to ${PAGE.digits} significant digits${PAGE.kept.D < D ? `, and of every ${D} columns the first ${PAGE.kept.D} are kept` : ""}; mean, RMS, min and max are those of the whole arrays.`
    : `Every recorded number is kept as it was (${PAGE.format === "f8" ? "float64" : "float32"}) and printed to ${PAGE.digits} digits; of the scores over all tokens the likeliest are kept.`;
  const keys = [["←  →", "back, next"], ["/", "search"], ["arrows in a heat map", "single numbers"], ["Esc", "close the search"]];
  document.getElementById("foot").append(
    el("p", {}, how, " Nothing is fetched: this file is all there is."),
    el("p", {}, "Keys: ", keys.map(([key, what], i) => [i ? ", " : "", el("kbd", {}, key), ` ${what}`]), ". The address says which step and number is shown, as ",
      el("code", {}, "python -m nanogpt_np explain"), " reads it."));
}

// ---- search by any name ----

const BLOCK_IN_QUERY = /\b(?:blocks?|blk|layers?|h)[ ._/[-]?(\d+)\b|\[(\d+)\]/i;
const ENDINGS = ["weight", "bia", "w", "b", "g", "matrix"]; // left out of a parameter's name

/** The words of a name in lower case and in the singular, without the block and its number, as glossary.py has them. */
function wordsOf(name) {
  const bare = name.replaceAll("{i}", "0").replace(new RegExp(BLOCK_IN_QUERY.source, "gi"), " ").toLowerCase();
  return (bare.match(/[a-z0-9]+/g) || [])
    .map((word) => word.replace(/ies$/, "y").replace(/(?<=\w\w[^s])s$/, ""))
    .filter((word) => word !== "of" && word !== "the");
}

function fit(target, entry, name) {
  const words = wordsOf(name);
  const whole = words.join("");
  if (!whole.includes(target)) return 4;
  if (whole === target) return 0;
  const ends = [];
  for (let from = 0; from < words.length; from++) {
    for (let to = from + 1; to <= words.length; to++) if (words.slice(from, to).join("") === target) ends.push(to);
  }
  if (ends.includes(words.length) || (ends.includes(words.length - 1) && ENDINGS.includes(words[words.length - 1]) && entry.parameter)) return 1;
  return ends.length || !target ? 2 : target.length > 2 ? 3 : 4;
}

/** All that can be found: {key, parameter, names: [[name, vocabulary]]}. */
function searchable() {
  const named = (key, names) => [[key, "this package"], ...Object.entries(names).flatMap(([vocabulary, some]) => some.map((name) => [name, vocabulary]))];
  const points = Object.entries(PAGE.points).map(([key, point]) => ({ key, parameter: false, names: named(key, point.names) }));
  const stored = Object.entries(PAGE.parameters).flatMap(([key, parameter]) => [
    { key, parameter: true, names: named(key, parameter.names) },
    ...parameter.parts.map((part) => ({ key, part: part.index, parameter: true, names: named(key + part.index, part.names) })),
  ]);
  return [...points, ...stored];
}

function search(query) {
  const numbered = BLOCK_IN_QUERY.exec(query);
  const here = STATE.name ? blockOf(STATE.name) : STATE.view ? blockOf(STATE.view) : null;
  const block = numbered ? Number(numbered[1] || numbered[2]) : (here ?? 0);
  const target = wordsOf(query).join("");
  if ((!target && !numbered) || block >= PAGE.layers) return [];
  const rows = searchable().map((entry) => {
    const fits = entry.names.map(([name, vocabulary]) => ({ fit: fit(target, entry, name), other: name === entry.key ? 0 : 1, name, vocabulary }));
    const best = fits.reduce((a, b) => (b.fit < a.fit || (b.fit === a.fit && b.other < a.other) ? b : a));
    return { ...entry, best };
  });
  const least = Math.min(...rows.map((row) => row.best.fit));
  if (least === 4) return [];
  return rows
    .filter((row) => row.best.fit <= Math.max(least, 1))
    .filter((row) => (row.key === "blocks.0.hook_resid_pre" ? block === 0 : !(row.key === "blocks.{i}.hook_resid_pre" && block === 0 && PAGE.points["blocks.0.hook_resid_pre"])))
    .sort((a, b) => a.best.fit - b.best.fit || a.best.other - b.best.other)
    .map((row) => ({ ...row, target: row.key.replace("{i}", block), shown: row.best.name.replaceAll("{i}", block) }))
    .slice(0, 12);
}

function searchBox() {
  const list = el("ul", { id: "found", role: "listbox", "aria-label": "Found" });
  list.hidden = true;
  const input = el("input", {
    type: "search", id: "search", placeholder: "c_attn, keys, W_K, hook_k", "aria-label": "Search by any name", autocomplete: "off", spellcheck: "false",
    role: "combobox", "aria-controls": "found", "aria-expanded": "false", "aria-autocomplete": "list",
  });
  let [rows, chosen] = [[], 0];

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function pick(row) {
    close();
    input.value = "";
    go(row.parameter ? { view: row.target, pass: STATE.pass } : { pass: STATE.pass, name: row.target });
  }

  function draw() {
    list.replaceChildren(...(rows.length ? rows : [null]).map((row, i) => row === null
      ? el("li", { class: "nothing" }, "nothing is called so")
      : el("li", { role: "option", id: `found-${i}`, "aria-selected": String(i === chosen), onpointerdown: (event) => { event.preventDefault(); pick(row); } },
        el("code", {}, row.target, row.part ? filled(row.part, row.target) : ""),
        row.best.name === row.key ? null : el("span", { class: "aside" }, ` ${row.best.vocabulary}: ${row.shown}`))));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    if (rows.length) input.setAttribute("aria-activedescendant", `found-${chosen}`);
    list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }

  input.addEventListener("input", () => {
    [rows, chosen] = [input.value.trim() ? search(input.value) : [], 0];
    if (input.value.trim()) draw();
    else close();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      input.value = "";
    } else if (event.key === "Enter" && rows.length && !list.hidden) pick(rows[chosen]);
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && rows.length) {
      event.preventDefault();
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : rows.length - 1)) % rows.length;
      draw();
    }
  });
  input.addEventListener("blur", close);
  return el("div", { class: "search" }, input, list);
}

// ---- keys and links ----

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "ArrowRight") next();
  else if (event.key === "ArrowLeft") previous();
  else if (event.key === "/") document.getElementById("search").focus();
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href^='#']");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault(); // in a frame of a notebook the address is not its own
  const target = anchor.classList.contains("skip") ? null : meant(anchor.getAttribute("href"));
  if (target) go(target);
  else document.getElementById("step").focus();
});

window.addEventListener("popstate", () => go(meant(location.hash) || {}, { push: false }));
window.addEventListener("hashchange", () => {
  const target = meant(location.hash);
  if (target && addressOf(target) !== addressOf(STATE)) go(target, { push: false });
});
window.addEventListener("resize", () => drawMap(STATE));

makeBar();
drawFoot();
go(meant(location.hash) || {}, { push: false });
