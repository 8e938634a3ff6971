// The map: the residual stream as a line, the steps that leave it and come back, and what was read from the checkpoint.

const BESIDE = /hook_(positions|pos_embed)$|attn\.hook_[kv]$/; // drawn beside the step before it
const ON_STREAM = /resid_(pre|mid|post)$/;
const [STREAM_X, BRANCH_X, ROW, PILL] = [22, 52, 29, 24]; // pixels

const SHORT = { embedding: "tokens", "final norm": "norm", answer: "answer" };

function groupOf(step) {
  if (step.block !== null) return `block ${step.block}`;
  if (/tokens|positions|embed/.test(step.name) && step.name !== "hook_next_token") return "embedding";
  return step.name.startsWith("ln_final") ? "final norm" : "answer";
}

const GROUPS = STEPS.reduce((groups, step) => {
  const last = groups[groups.length - 1];
  if (last && last.name === groupOf(step)) last.steps.push(step);
  else groups.push({ name: groupOf(step), steps: [step] });
  return groups;
}, []);

function drawMap(state) {
  const host = document.getElementById("map");
  const focused = host.contains(document.activeElement);
  const top = host.querySelector(".map-scroll")?.scrollTop ?? 0;
  const scroll = el("div.map-scroll", mapCanvas(state, Math.max(250, Math.min(420, host.clientWidth - 32))));
  host.replaceChildren(mapHead(state), scroll);
  scroll.scrollTop = top;
  host.style.height = ""; // what is current has moved: fitted anew
  fitMap();
  if (focused) scroll.querySelector("[aria-current]")?.focus({ preventScroll: true });
  const strip = host.querySelector(".map-strip");
  centre(strip, strip.querySelector("[aria-current]"));
}

/** The group of the current step with all its steps, the others as a line each, and the lines between them. */
function mapCanvas(state, wide) {
  const current = stepOf(state);
  const nodes = new Map(); // step name -> {x, y, width}
  const items = [];
  const paths = [];
  let y = 10;
  const place = (node, x, top) => {
    node.style.left = `${x}px`;
    node.style.top = `${top}px`;
    items.push(node);
  };
  for (const group of GROUPS) {
    const open = current !== null && group.steps.includes(current);
    if (!open) {
      place(el("div.map-group", groupLinks(state, group)), BRANCH_X, y);
      if (group.name !== "embedding")
        paths.push({ d: `M ${STREAM_X} ${y + PILL / 2} H ${BRANCH_X - 4}`, kind: "branch" });
      else paths.push({ d: `M ${BRANCH_X - 4} ${y + PILL / 2} H ${STREAM_X} V ${y + ROW}`, kind: "branch" });
      y += ROW + 3;
      continue;
    }
    place(el("p.map-title", group.name), BRANCH_X, y);
    y += 20;
    if (group.name === "embedding")
      paths.push({ d: `M ${BRANCH_X - 2} ${y + ROW + PILL / 2} H ${STREAM_X}`, kind: "branch" });
    y = openGroup(state, group, y, nodes, place);
    y += 8;
  }
  const steps = current ? STEPS.filter((step) => nodes.has(step.name)) : [];
  for (const step of steps) paths.push(...edgesOf(step, nodes, step === current));
  for (const step of steps) storedTag(state, step, nodes, wide, place, step === current, paths);
  const stream = { d: `M ${STREAM_X} 18 V ${y - ROW + 4}`, kind: "stream" };
  const svg = el(
    "svg.map-lines",
    { width: wide, height: y + 6, "aria-hidden": "true" },
    [stream, ...paths].map(({ d, kind }) => el("path", { d, class: kind })),
  );
  const canvas = el("div.map-canvas", svg, items);
  canvas.style.height = `${y + 6}px`;
  return canvas;
}

/** Beside the step the map ends where the window does, also while the top of the page is in sight. */
function fitMap() {
  const host = document.getElementById("map");
  const { position, top } = getComputedStyle(host);
  const from = Math.max(document.getElementById("body").getBoundingClientRect().top, parseFloat(top));
  const height = position === "sticky" ? `${Math.max(160, window.innerHeight - from)}px` : "auto";
  if (host.style.height === height) return;
  host.style.height = height;
  keepInSight(host.querySelector(".map-scroll"));
}

/** Scroll the map so that the current step stays in it, with some of what is around. */
function keepInSight(scroll) {
  const here = scroll.querySelector("[aria-current]");
  if (!here) return;
  const [from, to] = [here.offsetTop - 60, here.offsetTop + 90];
  if (from < scroll.scrollTop) scroll.scrollTop = from;
  else if (to > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = to - scroll.clientHeight;
}

/** Scroll a row so that one of its parts is in its middle. */
function centre(row, here) {
  if (here) row.scrollLeft = here.offsetLeft - row.offsetLeft - row.clientWidth / 2 + here.offsetWidth / 2;
}

/** The step that is shown, or the first that reads the parameter that is shown; null at the start. */
function stepOf(state) {
  if (state.view) return STEPS.find((step) => step.weights.includes(state.view)) || null;
  return state.name === null ? null : STEPS[NUMBER_OF.get(state.name)];
}

function mapHead(state) {
  const open = document.getElementById("map").classList.contains("open");
  return el(
    "div.map-head",
    el(
      "button.map-toggle",
      { type: "button", "aria-expanded": String(open), onclick: toggleMap },
      `Map: ${whereIs(state)}`,
    ),
    el(
      "div.map-strip",
      GROUPS.map((group) =>
        link(
          { pass: state.pass, name: group.steps[0].name },
          {
            class: "pill",
            "aria-current": group.steps.includes(stepOf(state)) ? "true" : null,
            "aria-label": group.name,
          },
          group.steps[0].block === null ? SHORT[group.name] : String(group.steps[0].block),
        ),
      ),
    ),
    el(
      "p.map-key",
      el("span.sample.stream-sample", { "aria-hidden": "true" }),
      "residual stream ",
      el("span.sample.computed-sample", { "aria-hidden": "true" }),
      "computed ",
      el("span.sample.stored-sample", { "aria-hidden": "true" }),
      "stored",
    ),
  );
}

function toggleMap() {
  const host = document.getElementById("map");
  host.classList.toggle("open");
  drawMap(STATE);
  host.querySelector(".map-toggle").focus();
}

function whereIs(state) {
  if (state.view) return state.view;
  return state.name === null ? "the whole pass" : `${groupOf(stepOf(state))}, ${innerName(state.name)}`;
}

/** A group that is not open, in one line. */
function groupLinks(state, group) {
  const [first] = group.steps;
  const block = first.block;
  const to = (name, text, label) =>
    NUMBER_OF.has(name) ? link({ pass: state.pass, name }, { class: "pill", "aria-label": label }, text) : null;
  if (block !== null) {
    return [
      to(first.name, `block ${block}`, `block ${block}, its first step`),
      to(`blocks.${block}.attn.hook_pattern`, "attention", `attention of block ${block}`),
      to(`blocks.${block}.mlp.hook_post`, "MLP", `MLP of block ${block}`),
    ];
  }
  if (group.name === "answer") return [to(first.name, "LM head"), to("hook_next_token", "answer")];
  return [
    link(
      { pass: state.pass, name: first.name },
      { class: "pill" },
      group.name === "embedding" ? "tokens and embeddings" : group.name,
    ),
  ];
}

function openGroup(state, group, y, nodes, place) {
  let [x, top] = [BRANCH_X, y - ROW];
  for (const step of group.steps) {
    // What reads a parameter has its line to itself: the way to the drawer leads along it.
    if (!BESIDE.test(step.name) || step.weights.length) [x, top] = [BRANCH_X, top + ROW];
    const onStream = ON_STREAM.test(step.name);
    const text = innerName(step.name).replace("attn_scores", "scores");
    const node = link(
      { pass: state.pass, name: step.name },
      {
        class: `pill${onStream ? " on-stream" : ""}${onStream && step.reads.length > 1 ? " sum" : ""}`,
        "aria-current": step.name === state.name ? "step" : null,
        title: titleOf(step.name),
      },
      text,
    );
    place(node, onStream ? STREAM_X - 7 : x, top);
    const width = 18 + 6.7 * text.length;
    nodes.set(step.name, {
      x: onStream ? STREAM_X : x + Math.min(width / 2, 26),
      right: (onStream ? STREAM_X + 4 : x) + width,
      y: top + PILL / 2,
      onStream,
    });
    x += width + 6;
  }
  return top + ROW;
}

/** The way that the data takes into a step. */
function edgesOf(step, nodes, lit) {
  const to = nodes.get(step.name);
  const found = [];
  for (const name of step.reads) {
    const from = nodes.get(name) || { x: STREAM_X, y: to.y - ROW, onStream: true, outside: true };
    const kind = lit ? "edge lit" : "edge";
    const [y1, y2] = [from.y + PILL / 2, to.y - PILL / 2];
    if (from.onStream && to.onStream) {
      found.push({
        d: `M ${STREAM_X} ${from.outside ? to.y - ROW : from.y} V ${to.y}`,
        kind: lit ? "edge lit stream-edge" : "none",
      });
    } else if (from.onStream) {
      found.push({
        d: `M ${STREAM_X} ${from.y} C ${STREAM_X} ${to.y}, ${STREAM_X} ${to.y}, ${BRANCH_X - 3} ${to.y}`,
        kind,
      });
    } else if (to.onStream) {
      found.push({
        d: `M ${from.x - 10} ${y1} C ${from.x - 10} ${to.y}, ${STREAM_X + 30} ${to.y - 9}, ${STREAM_X + 9} ${to.y - 3}`,
        kind,
      });
    } else if (y2 - y1 < ROW) {
      found.push({
        d: `M ${from.x} ${y1} C ${from.x} ${(y1 + y2) / 2}, ${to.x} ${(y1 + y2) / 2}, ${to.x} ${y2}`,
        kind,
      });
    } else {
      // past the steps between
      const side = Math.max(from.right, to.right) + 14;
      found.push({
        d: `M ${from.right} ${from.y} C ${side + 10} ${from.y}, ${side + 10} ${to.y}, ${to.right + 2} ${to.y}`,
        kind,
      });
    }
  }
  return found;
}

/** The parameters that a step reads, drawn as a drawer at the right edge. */
function storedTag(state, step, nodes, wide, place, lit, paths) {
  if (!step.weights.length) return;
  const node = nodes.get(step.name);
  const text = step.weights[0].replace(/^h\.\d+\.(attn\.|mlp\.)?/, "").replace(/\.(weight|bias)$/, "");
  const here = step.weights.includes(state.view);
  const tag = link(
    { view: step.weights[0], pass: state.pass },
    {
      class: `drawer${lit ? " lit" : ""}`,
      "aria-current": here ? "step" : null,
      title: `stored: ${step.weights.join(", ")}`,
    },
    text,
  );
  const width = 16 + 6.7 * text.length;
  place(tag, wide - width - 4, node.y - PILL / 2);
  const kind = lit ? "edge lit from-stored" : "edge from-stored";
  paths.push({ d: `M ${wide - width - 4} ${node.y} H ${node.right}`, kind });
}
