// The journey of shapes through a sublayer: each tensor as blocks of its true proportions, cut where the step cuts.

/** Which steps belong together: an attention or an MLP with its norm, or what stands around the blocks. */
function partOf(name) {
  const block = blockOf(name);
  if (block === null)
    return ["hook_tokens", "hook_positions", "hook_embed", "hook_pos_embed"].includes(name) ? "start" : "end";
  return /ln2|mlp|resid_post/.test(name) ? `mlp ${block}` : `attention ${block}`;
}

function journey(state) {
  const { pass, name } = state;
  const part = partOf(name);
  const steps = STEPS.filter(
    (step) => partOf(step.name) === part || (part === "start" && step.name === "blocks.0.hook_resid_pre"),
  );
  const widest = Math.max(...steps.map((step) => columnsOf(pass, step.name)));
  const items = [];
  steps.forEach((step, i) => {
    if (BESIDE.test(step.name)) return; // drawn with the one before it
    if (items.length) items.push(el("li.arrow", { "aria-hidden": "true" }, "›"));
    const rest = steps.slice(i + 1).findIndex((other) => !BESIDE.test(other.name));
    const together = steps.slice(i, rest < 0 ? steps.length : i + 1 + rest);
    items.push(
      el(
        "li",
        { class: together.length > 1 ? "together" : null },
        together.map((one) => stage(pass, one.name, name, widest)),
      ),
    );
  });
  const list = el("ol.journey", items);
  requestAnimationFrame(() => centre(list, list.querySelector("[aria-current]")));
  return el("section.journey-of", { "aria-label": "The shapes on the way" }, list);
}

function columnsOf(pass, name) {
  const { shape } = held(pass, name);
  const axes = pointOf(name).axes;
  if (axes === "H T S" || axes.includes("V") || !axes) return 1;
  return axes.startsWith("T") ? shape.slice(1).reduce((a, b) => a * b, 1) : shape[0];
}

/** One tensor as blocks of its true proportions: thirds and heads are cut where the step cuts them. */
function stage(pass, name, current, widest) {
  const { shape } = held(pass, name);
  const axes = pointOf(name).axes;
  const group = { hook_q: "query", hook_k: "key", hook_v: "value", hook_z: "value", hook_merged: "value" }[
    name.replace(/^.*\.hook/, "hook")
  ];
  const inner = innerName(name)
    .replace("attn_scores", "scores")
    .replace(/^(ln\d|ln_final)\./, "");
  return link(
    { pass, name },
    {
      class: `stage${group ? ` ${group}` : ""}`,
      "aria-current": name === current ? "step" : null,
      title: titleOf(name),
    },
    el("span.blocks", { "aria-hidden": "true" }, stageBlocks(axes, shape, widest)),
    el("span.stage-name", inner),
    el("span.stage-shape", shapeText(shape)),
  );
}

function stageBlocks(axes, shape, widest) {
  const full = 88; // pixels of the widest tensor of the part
  const block = (wide, kind = "") => {
    const node = el("span", { class: `block ${kind}` });
    node.style.width = `${Math.max(3, wide)}px`;
    return node;
  };
  if (axes === "H T S") {
    const squares = Array.from({ length: shape[0] }, () => el("span.block.square"));
    const node = el("span.squares", squares);
    node.style.setProperty("--across", Math.ceil(shape[0] / (shape[0] > 4 ? Math.ceil(shape[0] / 6) : 2)));
    return node;
  }
  if (axes.includes("V")) return block(full, "fading");
  if (!axes) return block(10);
  const columns = axes.startsWith("T") ? shape.slice(1).reduce((a, b) => a * b, 1) : shape[0];
  const width = Math.max(22, (full * columns) / widest);
  if (axes === "T 3C") return QKV.map((kind) => block(width / 3, `third ${kind}`));
  if (axes === "T H D")
    return Array.from({ length: shape[1] }, () => block(Math.max(3, (width - 2 * shape[1]) / shape[1]), "head"));
  if (axes === "T 1" || axes === "T") return block(6);
  if (axes === "C") return block(width, "single");
  return block(width);
}
