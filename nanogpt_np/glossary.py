"""Look a tensor up by any name: ours, TransformerLens's, Hugging Face's, llama.cpp's, a paper's, a plain word.

`find` and `names_of` read the table of `names.py`. ``python -m nanogpt_np glossary`` prints all of it,
``python -m nanogpt_np glossary keys`` what a word means, and ``--markdown`` the page docs/points.md.
"""

import functools
import json
import re
import sys
import textwrap

from . import points
from .cli import Parser, columns, command
from .config import PUBLISHED, nearest
from .names import VOCABULARIES, entries

# The number of a block as anybody writes it: blocks.3, blk.3, h.3, h3, layers[3], block 3, hidden_states[3].
BLOCK = re.compile(r"\b(?:blocks?|blk|layers?|h)[ ._/\[-]?(\d+)\b|\[(\d+)\]", re.IGNORECASE)
STATE = re.compile(r"\bhidden[ _.-]?states?\[(\d+)\]", re.IGNORECASE)
WHOLE, END, PART, LETTERS, NOTHING = range(5)  # how much of a name a query is
ENDINGS = ("weight", "bia", "w", "b", "g", "matrix")  # left out of a parameter's name: c_attn. For "bia" see _words.


def find(query, config=None):
    """Return the entries that `query` means, best first: any name of any vocabulary, the end or a part of one.

    A block's number in it (blocks.3, h.3, blk.3, block 3) selects that block. Case and separators do not matter.
    config : of the model in question, which decides what blocks there are and whether the LM head is tied.

    Raises ValueError with the nearest names if nothing is called so.
    """
    state = STATE.search(query)
    if config is not None and state and int(state[1]) == config.n_layer:  # one more than blocks: it comes after ln_f
        query = STATE.sub("hidden_states[-1]", query)
    numbered = BLOCK.search(query)
    block = int(numbered[1] or numbered[2]) if numbered else None
    if block is not None and config is not None and block >= config.n_layer:
        raise ValueError(f"no block {block} for {query!r}: this model has blocks 0 to {config.n_layer - 1}")
    target = "".join(_words(query))
    if not target and block is None:
        raise ValueError(f"no word to look up in {query!r}")
    known = entries(block, config)
    fits = [min((_fit(target, name, entry), name != entry.name) for name in _all_names(entry)) for entry in known]
    best, _ = min(fits)
    if best == NOTHING:
        names = {name for entry in known for name in _all_names(entry)}
        names |= {name.rpartition(".")[2] for name in names}
        raise ValueError(f"no tensor is called {query!r}{nearest(query, names, n=3)}")
    chosen = [(fit, entry) for fit, entry in zip(fits, known, strict=True) if fit[0] <= max(best, END)]
    return [entry for _, entry in sorted(chosen, key=lambda pair: pair[0])]


def names_of(name):
    """Return ``{vocabulary: (name, ...)}`` of a trace point or a parameter, such as ``blocks.3.attn.hook_k``.

    Vocabularies without a name for it are left out. Raises ValueError with the nearest names.
    """
    numbered = re.match(r"(?:blocks|h)\.(\d+)\.", name)
    known = {entry.name: entry.names for entry in entries(int(numbered[1]) if numbered else None)}
    if name not in known:
        raise ValueError(f"no trace point or parameter {name!r}{nearest(name, known, n=3)}")
    return dict(known[name])


def _all_names(entry):
    return [entry.name, *(name for names in entry.names.values() for name in names)]


@functools.lru_cache(maxsize=4096)
def _words(name):
    """Return the words of a name in lower case and in the singular, without the block and its number."""
    words = re.findall(r"[a-z0-9]+", BLOCK.sub(" ", name.replace("{i}", "0")).lower())
    singular = (re.sub(r"(?<=\w\w[^s])s$", "", re.sub("ies$", "y", word)) for word in words)
    return [word for word in singular if word not in ("of", "the")]


def _fit(target, name, entry):
    words = _words(name)
    whole = "".join(words)
    if target not in whole:
        return NOTHING
    if target == whole:
        return WHOLE
    ends = [b for a in range(len(words)) for b in range(a + 1, len(words) + 1) if "".join(words[a:b]) == target]
    if len(words) in ends or (len(words) - 1 in ends and words[-1] in ENDINGS and not entry.is_point):
        return END
    return PART if ends or not target else LETTERS if len(target) > 2 else NOTHING


def _facts(row):
    """Yield (label, a text or a list of names) for all that a row says below its heading."""
    shown = {label: value for label, value in row.items() if label not in ("name", "kind", "axes", "shape", "names")}
    yield from ((label, value) for label, value in (shown | row["names"]).items() if value)


def as_text(row):
    """Return a row of `Entry.row` as lines of at most 100 columns, or those of the terminal."""
    sizes = f" = {row['shape']}".replace("'", "") if row["shape"] else ""
    lines = [f"{row['name']}  [{row['axes']}]{sizes}  {row['kind']}"]
    for label, value in _facts(row):
        text = value if isinstance(value, str) else ", ".join(value)
        indents = {"initial_indent": f"  {label:18}", "subsequent_indent": " " * 20}
        lines += textwrap.wrap(text, columns(100), break_long_words=False, break_on_hyphens=False, **indents)
    return "\n".join(lines)


PAGE = """\
# Every tensor of GPT-2, under all its names

<!-- Made by: python -m nanogpt_np glossary --markdown > docs/points.md -->

A **trace point** is a line of the model where a tensor is announced: `x = trace(name, x)`. Any function of a name
and an array is a trace, and the model goes on with what it returns. To keep every tensor of a pass, record it:

```python
import nanogpt_np

model = nanogpt_np.load("facts")  # the bundled model; or "gpt2", once ./weights.sh gpt2 has fetched it
ids = nanogpt_np.Tokenizer().encode("The capital of France is")
acts = nanogpt_np.Recorder()
logits = model(ids, trace=acts)
pattern = acts["blocks.3.attn.hook_pattern"]  # of block 3: for every head, a row for each token that asks
assert pattern.shape == (model.config.n_head, len(ids), len(ids))
```

The points stand here in the order in which they happen, with `{i}` for the number of a block, from 0 on. Shapes
are those of gpt2 for a prompt of 5 tokens; if the ids have a batch axis, it comes first. Every name on this page,
ours or another's, can be looked up: `python -m nanogpt_np glossary W_K`, in Python `glossary.find("W_K")`.

| letter | counts | in gpt2 |
|---|---|---|
| `T` | tokens of this pass | 5 |
| `S` | tokens so far: with a cache also those before this pass | 5 |
| `C` | columns of the residual stream, n_embd | {C} |
| `H` | heads of a block, n_head | {H} |
| `D` | columns of a head, C / H | {D} |
| `F` | neurons of an MLP | {F} |
| `V` | tokens that exist, vocab_size | {V} |
| `scale` | 1 / sqrt(D), unless config.json changes it | {scale} |
| `eps` | layer_norm_epsilon | {eps} |

| vocabulary | what it names |
|---|---|
{vocabularies}

A name of another vocabulary means the same numbers, but perhaps in another layout. What else to know of them:

- `hidden_states` of Hugging Face has one entry more than there are blocks: entry i is what block i reads, and the
  last one comes after `ln_f`. What the last block puts out is not among them.
- `past_key_values` holds all S tokens, and the heads come before the tokens.
- `hook_normalized` is before gain and bias, as in TransformerBridge; HookedTransformer has it after them, unless it
  folded them into the next weights, which it does by default.
- A GGUF file of GPT-2 holds `attn_qkv` whole; `attn_q`, `attn_k` and `attn_v` are its parts as other models store them.
- Every published GPT-2 ties its LM head: `lm_head.weight` is `wte.weight`, stored once.
- TransformerLens gives `W_Q`, `W_K`, `W_V` and `W_O` an axis of heads in front: `[H, C, D]`, `W_O` `[H, D, C]`."""
SECTIONS = {
    "Before the blocks": points.START,
    "Block {i}": points.BLOCK,
    "After the blocks": (*points.FINAL, *points.LOGITS),
    "The next token": points.NEXT_TOKEN,
}


def page():
    """Return docs/points.md: every trace point and every parameter with its shapes, equation and names."""
    config = PUBLISHED["gpt2"]
    vocabularies = "\n".join(f"| {name} | {what} |" for name, what in VOCABULARIES.values())
    scale, eps = config.attention_scale(0), config.layer_norm_epsilon
    text = PAGE.replace("{vocabularies}", vocabularies).replace("{scale}", f"{scale:g}").replace("{eps}", f"{eps:g}")
    parts = [re.sub(r"\| \{(\w)\} \|", lambda letter: f"| {config.sizes[letter[1]]:,} |", text)]
    homes = {point.name: title for title, some in SECTIONS.items() for point in some}
    rows = [entry.row(config, T=5) for entry in entries()]
    for title in (*SECTIONS, "The parameters"):
        here = [row for row in rows if homes.get(row["name"].replace(".0.", ".{i}."), "The parameters") == title]
        parts.append(f"\n## {title}\n\n| | shape | |\n|---|---|---|")
        for row in here:
            parts.append(f"| {_link(row['name'])} | `{row['shape']}` | {row.get('equation') or row['purpose']} |")
        parts += map(_section, here)
    return "\n".join(parts) + "\n"


def _section(row):
    lines = [f'\n<a id="{_anchor(row["name"])}"></a>\n\n### `{row["name"]}`\n', row.get("notice") or row["purpose"]]
    lines += ["\n| | |\n|---|---|", f"| shape | `[{row['axes']}]`, in gpt2 `{row['shape']}` |"]
    for label, value in _facts(row):
        if label == "where":
            value = f"[`{value}`](../nanogpt_np/{value.partition('.')[0]}.py)"
        elif label in ("reads", "weights", "read by"):
            value = ", ".join(map(_link, value))
        elif label == "words":
            value = ", ".join(value)
        elif label != "part":
            value = ", ".join(f"`{name}`" for name in ([value] if isinstance(value, str) else value))
        lines += [f"| {label} | {value} |"] if label not in ("notice", "purpose") else []
    return "\n".join(lines)


def _link(name):
    return f"[`{name}`](#{_anchor(name)})"


def _anchor(name):
    return re.sub(r"[^\w.]+", "-", re.sub(r"\{.*?\}", "i", name)).strip("-")


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser("glossary", "Look up a tensor of GPT-2 by any of its names; without one, list them all.")
    parser.add_argument("word", nargs="*", help="keys, W_K, c_attn, blocks.3.attn.hook_k, blk.3.attn_qkv ...")
    parser.add_argument("--model", metavar="NAME|DIR", help="show the sizes of this model, such as gpt2")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print docs/points.md, the page of everything")
    args = parser.parse_args(argv)
    query = " ".join(args.word)
    if args.markdown:
        if query or args.model:
            raise ValueError("--markdown prints the page of everything: it takes no word and no --model")
        print(page(), end="")
        return 0
    config = None if args.model is None else _config(args.model)
    rows = [entry.row(config) for entry in (find(query, config) if args.word else entries(config=config))]
    if args.json:
        print(json.dumps({"query": query, "model": args.model, "tensors": rows}, indent=1))
    elif args.word:
        print("\n\n".join(map(as_text, rows)))
    else:
        for row in rows:
            axes = str(row["shape"]).replace("'", "") if config else f"[{row['axes']}]"
            others = row["names"].get("Hugging Face") or row["names"]["words"]
            print(f"{row['name']:37}  {axes:15}  {others[0]}")
    return 0


def _config(name):
    """Return the Config of a published size, which needs no weights, or of a checkpoint."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    from .home import find as find_model
    from .weights import stored_parameters

    return stored_parameters(find_model(name))[0]


if __name__ == "__main__":
    sys.exit(main())
