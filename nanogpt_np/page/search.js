// Search by any name of any vocabulary, as glossary.py does.

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
  if (
    ends.includes(words.length) ||
    (ends.includes(words.length - 1) && ENDINGS.includes(words[words.length - 1]) && entry.parameter)
  )
    return 1;
  return ends.length || !target ? 2 : target.length > 2 ? 3 : 4;
}

/** All that can be found: {key, parameter, names: [[name, vocabulary]]}. */
function searchable() {
  const named = (key, names) => [
    [key, "this package"],
    ...Object.entries(names).flatMap(([vocabulary, some]) => some.map((name) => [name, vocabulary])),
  ];
  const points = Object.entries(PAGE.points).map(([key, point]) => ({
    key,
    parameter: false,
    names: named(key, point.names),
  }));
  const stored = Object.entries(PAGE.parameters).flatMap(([key, parameter]) => [
    { key, parameter: true, names: named(key, parameter.names) },
    ...parameter.parts.map((part) => ({
      key,
      part: part.index,
      parameter: true,
      names: named(key + part.index, part.names),
    })),
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
    const fits = entry.names.map(([name, vocabulary]) => ({
      fit: fit(target, entry, name),
      other: name === entry.key ? 0 : 1,
      name,
      vocabulary,
    }));
    const best = fits.reduce((a, b) => (b.fit < a.fit || (b.fit === a.fit && b.other < a.other) ? b : a));
    return { ...entry, best };
  });
  const least = Math.min(...rows.map((row) => row.best.fit));
  if (least === 4) return [];
  return rows
    .filter((row) => row.best.fit <= Math.max(least, 1))
    .filter((row) =>
      row.key === "blocks.0.hook_resid_pre"
        ? block === 0
        : !(row.key === "blocks.{i}.hook_resid_pre" && block === 0 && PAGE.points["blocks.0.hook_resid_pre"]),
    )
    .sort((a, b) => a.best.fit - b.best.fit || a.best.other - b.best.other)
    .map((row) => ({ ...row, target: row.key.replace("{i}", block), shown: row.best.name.replaceAll("{i}", block) }))
    .slice(0, 12);
}

function searchBox() {
  const list = el("ul", { id: "found", role: "listbox", "aria-label": "Found" });
  list.hidden = true;
  const input = el("input", {
    type: "search",
    id: "search",
    placeholder: "c_attn, keys, W_K, hook_k",
    "aria-label": "Search by any name",
    autocomplete: "off",
    spellcheck: "false",
    role: "combobox",
    "aria-controls": "found",
    "aria-expanded": "false",
    "aria-autocomplete": "list",
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
    list.replaceChildren(
      ...(rows.length ? rows : [null]).map((row, i) =>
        row === null
          ? el("li.nothing", "nothing is called so")
          : el(
              "li",
              {
                role: "option",
                id: `found-${i}`,
                "aria-selected": String(i === chosen),
                onpointerdown: (event) => {
                  event.preventDefault();
                  pick(row);
                },
              },
              el("code", row.target, row.part ? filled(row.part, row.target) : ""),
              row.best.name === row.key ? null : el("span.aside", ` ${row.best.vocabulary}: ${row.shown}`),
            ),
      ),
    );
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
  return el("div.search", input, list);
}
