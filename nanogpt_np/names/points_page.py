"""docs/points.md: every trace point and every parameter with its shapes, equation and names, as one page.

``python -m nanogpt_np glossary --markdown`` prints it.
"""

import re
from typing import Any

from . import points
from .aliases import DIALECTS
from .entries import entries
from .glossary import facts
from .sizes import PUBLISHED

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
ours or another's, can be looked up: `python -m nanogpt_np glossary W_K`, in Python
`nanogpt_np.names.glossary.find("W_K")`.

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

| dialect | what it names |
|---|---|
{dialects}

A name in another dialect means the same numbers, but perhaps in another layout. What else to know of them:

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
    "Block {i}": points.BLOCK_POINTS,
    "After the blocks": (*points.FINAL, *points.LOGITS),
    "The next token": points.NEXT_TOKEN,
}


def page() -> str:
    """Return docs/points.md: every trace point and every parameter with its shapes, equation and names."""
    config = PUBLISHED["gpt2"]
    dialects = "\n".join(f"| {name} | {what} |" for name, what in DIALECTS.values())
    scale, eps = config.attention_scale(0), config.layer_norm_epsilon
    text = PAGE.replace("{dialects}", dialects).replace("{scale}", f"{scale:g}").replace("{eps}", f"{eps:g}")
    sections = [re.sub(r"\| \{(\w)\} \|", lambda letter: f"| {config.sizes[letter[1]]:,} |", text)]
    homes = {point.name: title for title, some in SECTIONS.items() for point in some}
    rows = [entry.row(config, T=5) for entry in entries()]
    for title in (*SECTIONS, "The parameters"):
        here = [row for row in rows if homes.get(row["name"].replace(".0.", ".{i}."), "The parameters") == title]
        sections.append(f"\n## {title}\n\n| | shape | |\n|---|---|---|")
        for row in here:
            sections.append(f"| {_link(row['name'])} | `{row['shape']}` | {row.get('equation') or row['purpose']} |")
        sections += map(_section, here)
    return "\n".join(sections) + "\n"


def _section(row: dict[str, Any]) -> str:
    lines = [f'\n<a id="{_anchor(row["name"])}"></a>\n\n### `{row["name"]}`\n', row.get("notice") or row["purpose"]]
    lines += ["\n| | |\n|---|---|", f"| shape | `[{row['axes']}]`, in gpt2 `{row['shape']}` |"]
    for label, value in facts(row):
        if label == "where":
            value = f"[`{value}`](../nanogpt_np/{value.partition(':')[0].replace('.', '/')}.py)"
        elif label in ("reads", "weights", "read by"):
            value = ", ".join(map(_link, value))
        elif label == "words":
            value = ", ".join(value)
        elif label != "group":
            value = ", ".join(f"`{name}`" for name in ([value] if isinstance(value, str) else value))
        lines += [f"| {label} | {value} |"] if label not in ("notice", "purpose") else []
    return "\n".join(lines)


def _link(name: str) -> str:
    return f"[`{name}`](#{_anchor(name)})"


def _anchor(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", re.sub(r"\{.*?\}", "i", name)).strip("-")
