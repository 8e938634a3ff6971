// What is shown, the address that says so, and the ways to move: buttons, keys, links, search.

const COUNT = STEPS.length;
const STATE = {
  pass: 0,
  name: null,
  view: null,
  at: null,
  query: PAGE.passes[0].S - 1,
  key: null,
  head: 0,
  token: null,
  rival: null,
};
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
  main.replaceChildren(
    ...(STATE.view ? weightView(STATE) : STATE.name === null ? startView(STATE) : stepView(STATE)).filter(Boolean),
  );
  if (place >= 0) (main.querySelectorAll(FOCUSABLE)[place] || main).focus({ preventScroll: true });
  drawTop();
  drawMap(STATE);
  drawBar();
  const index = indexOf(STATE);
  const title = STATE.name ? titleOf(STATE.name) : STATE.view || "The whole pass";
  const prompt = PAGE.about.prompt === null ? "a recorded pass" : PAGE.passes[0].ids.map(plain).join("").slice(0, 60);
  document.title = `${STATE.name ? innerName(STATE.name) : title} · ${prompt}`;
  document.getElementById("said").textContent =
    index < 0 ? "The whole pass" : `Step ${index + 1} of ${COUNT * PAGE.passes.length}: ${title}`;
}

const FOCUSABLE = "a[href], button, canvas[tabindex], svg[tabindex], select, input";

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
