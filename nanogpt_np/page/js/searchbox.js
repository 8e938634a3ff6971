// The box to search in, and the list of what was found: arrows choose, Enter goes there, Esc leaves.

function searchBox() {
  const list = el("ul", { id: "found", role: "listbox", "aria-label": "Found" });
  list.hidden = true;
  const input = searchInput();
  let [rows, chosen] = [[], 0];

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function leave() {
    close();
    input.value = "";
    document.getElementById("step").focus({ preventScroll: true }); // where the arrow keys move on
  }

  function pick({ to }) {
    leave();
    go({ ...to, ...meant(addressOf(to)) }); // an address leaves out a choice that is as usual
  }

  function draw() {
    const options = rows.map((row, i) => foundOption(row, i, i === chosen, pick));
    list.replaceChildren(...(rows.length ? options : [el("li.nothing", "nothing is called so")]));
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
    if (event.key === "Escape") leave();
    else if (event.key === "Enter" && rows.length && !list.hidden) pick(rows[chosen]);
    else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && rows.length) {
      event.preventDefault();
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : rows.length - 1)) % rows.length;
      draw();
    }
  });
  input.addEventListener("blur", close);
  return el("div.search", input, list);
}

function searchInput() {
  return el("input", {
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
}

function foundOption(row, i, isChosen, pick) {
  const onpointerdown = (event) => {
    event.preventDefault();
    pick(row);
  };
  return el(
    "li",
    { role: "option", id: `found-${i}`, "aria-selected": String(isChosen), onpointerdown },
    el("code", row.shown),
    row.aside ? el("span.aside", ` ${row.aside}`) : null,
  );
}
