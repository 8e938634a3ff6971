// Help: the keys, what an address may say, and what a search finds. "?" opens it, Esc closes it.

const KEYS = [
  ["←  →", "back, next"],
  ["/", "search; Enter goes to what was found, Esc leaves"],
  ["?", "this help"],
  ["Tab", "through all that can be chosen"],
];
const KEYS_IN_FIGURES = [
  ["←  →  ↑  ↓", "from number to number"],
  ["PgUp  PgDn", "a head or third further, or ten columns"],
  ["Home  End", "the first and last of the row"],
];

function keyList(keys) {
  return el(
    "dl.keys",
    keys.map(([names, what]) => [
      el(
        "dt",
        names.split("  ").map((name, i) => [i ? " " : "", el("kbd", name)]),
      ),
      el("dd", what),
    ]),
  );
}

function helpDialog() {
  const dialog = el(
    "dialog",
    { id: "help", "aria-labelledby": "help-title" },
    el("button", { type: "button", onclick: () => dialog.close() }, "Close"),
    el("h2", { id: "help-title" }, "How to move"),
    keyList(KEYS),
    el("h3", "In a heat map that has the focus; the arrows in an attention pattern too"),
    keyList(KEYS_IN_FIGURES),
    el("h3", "The address"),
    el("p", "It says what is shown, and can be kept or passed on; so can one that is written by hand:"),
    el(
      "ul",
      ["#blocks.1.attn.hook_pattern[2,4,3]", "#h.0.mlp.c_fc.weight", "#hook_next_token"].map((address) =>
        el("li", el("code", address)),
      ),
    ),
    el("h3", "The search"),
    el(
      "p",
      "It takes any name of a tensor (",
      ["hook_k", "c_attn", "W_K 3", "block 2 pattern", "head 3"].map((name, i) => [i ? ", " : "", el("code", name)]),
      "), a title, and a token of the prompt or of the answer.",
    ),
  );
  return dialog;
}
