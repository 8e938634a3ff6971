// What is shown, the address that says so, and the ways to move: buttons, keys, links, search.

const COUNT = STEPS.length;
const STATE = { ...START, ...UNCHOSEN, query: PAGE.passes[0].S - 1, missing: null };
const SECONDS_PER_STEP = 2.2; // while playing
let playing = null;

/** Let the address say what is shown: as a new entry of the browser's history ("push"), or in place of the last. */
function write(how = "replace") {
  try {
    history[`${how}State`](null, "", addressOf(STATE));
  } catch {
    // a frame without an address of its own, as in a notebook
  }
}

// ---- moving ----

/** Show a step, a parameter or the start. `how`: "push" or "replace" for the address, or null to leave it. */
function go(target, how = "push") {
  Object.assign(STATE, START, { missing: null }, target);
  const { S, T } = PAGE.passes[STATE.pass];
  if (STATE.at && hasHeads(STATE.name)) Object.assign(STATE, { head: STATE.at[0], query: STATE.at[1] + S - T });
  STATE.query = Math.max(S - T, Math.min(S - 1, STATE.query));
  if (how) write(how);
  drawPage();
  const top = document.getElementById("body").offsetTop - document.getElementById("bar").offsetHeight;
  if (window.scrollY > top) window.scrollTo({ top });
}

/** Go where the browser's address leads; afterwards it says what is shown, whatever it said. */
function arrive() {
  if (location.hash !== addressOf(STATE)) go({ ...UNCHOSEN, ...meant(location.hash) }, location.hash && "replace");
}

/** Keep a choice (a head, a token) for all steps to come; draw again if asked to. */
function remember(changes, redraw = false) {
  Object.assign(STATE, changes);
  if (!redraw) return;
  if ("token" in changes && STATE.at && /logits|probabilities/.test(STATE.name || "")) STATE.at = null;
  write();
  drawPage();
}

/** Point at a number: the address says which, and `words` are read aloud. */
function keepPlace(place, words) {
  STATE.at = place;
  write();
  say(words);
}

function say(words) {
  document.getElementById("said").textContent = words;
}

function indexOf(state) {
  if (state.name === null && state.view === null) return -1;
  return state.pass * COUNT + (stepOf(state) || STEPS[0]).number;
}

function goTo(index, how) {
  if (index < 0) return go({ name: null }, how);
  const last = COUNT * PAGE.passes.length - 1;
  const bounded = Math.min(index, last);
  return go({ pass: Math.floor(bounded / COUNT), name: STEPS[bounded % COUNT].name }, how);
}

const goOn = (how) => goTo(STATE.view ? indexOf(STATE) : indexOf(STATE) + 1, how);
const goBack = () => goTo(indexOf(STATE) - 1);

/** A movement over many steps is one entry of the browser's history: the first is pushed, the others replace it. */
function entries() {
  let count = 0;
  return () => (count++ ? "replace" : "push");
}

function play() {
  if (playing) {
    clearInterval(playing);
    playing = null;
  } else {
    const nextEntry = entries();
    playing = setInterval(() => {
      if (indexOf(STATE) >= COUNT * PAGE.passes.length - 1) play();
      else goOn(nextEntry());
    }, 1000 * SECONDS_PER_STEP);
  }
  drawBar();
}

// ---- drawing ----

function drawPage() {
  const main = document.getElementById("step");
  const place = [...main.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  const focused = main.contains(document.activeElement);
  main.replaceChildren(
    ...[
      STATE.missing && el("p.missing", STATE.missing),
      ...(STATE.view ? weightView(STATE) : STATE.name === null ? startView(STATE) : stepView(STATE)),
    ].filter(Boolean),
  );
  const subject = `${STATE.pass} ${STATE.view || STATE.name}`;
  if (focused) {
    // What had the focus is drawn anew; what stands in its place in another step is something else.
    const same = subject === main.subject && main.querySelectorAll(FOCUSABLE)[place];
    (same || main).focus({ preventScroll: true });
  }
  main.subject = subject;
  drawTop();
  drawMap(STATE);
  drawBar();
  entitle();
}

/** The title of the page, and what is read aloud. */
function entitle() {
  const index = indexOf(STATE);
  const title = STATE.name ? titleOf(STATE.name) : STATE.view || "The whole pass";
  const prompt = PAGE.about.prompt === null ? "a recorded pass" : PAGE.passes[0].ids.map(plain).join("").slice(0, 60);
  document.title = `${STATE.name ? innerName(STATE.name) : title} · ${prompt}`;
  const where = index < 0 ? "The whole pass" : `Step ${index + 1} of ${COUNT * PAGE.passes.length}: ${title}`;
  say(STATE.missing ? `${STATE.missing} ${where}` : where);
}

const FOCUSABLE = "a[href], button, canvas[tabindex], svg[tabindex], select, input";

// ---- keys and links ----

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  if (event.key === "ArrowRight") goOn();
  else if (event.key === "ArrowLeft") goBack();
  else if (event.key === "/") document.getElementById("search").focus();
  else if (event.key === "?") document.getElementById("help").showModal();
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href^='#']");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault(); // in a frame of a notebook the address is not its own
  if (anchor.classList.contains("skip")) document.getElementById("step").focus();
  else go(meant(anchor.getAttribute("href")));
});

window.addEventListener("popstate", arrive);
window.addEventListener("hashchange", arrive);
window.addEventListener("resize", () => drawMap(STATE));
window.addEventListener("scroll", fitMap, { passive: true });

makeBar();
drawFoot();
go({ ...UNCHOSEN, ...meant(location.hash) }, location.hash && "replace");
