"""``python -m nanogpt_np explain PROMPT NUMBER``: derive any one number of a pass from those before it."""

import math
import re

from ..generate import generate
from ..interpret.explain import SHOWN, explain, trail, wants
from ..interpret.recorder import Recorder
from ..names import points
from ..names.resolve import resolve
from ..names.wording import folded
from .opening import add_model, opening, provenance_line, valid_text
from .screen import columns
from .shell import Parser, command, print_json, say


def _parser():
    parser = Parser(
        "explain",
        "Derive one number of the pass for a prompt from the numbers before it, checked in float64.",
        epilog='example: python -m nanogpt_np explain "The capital of France is" "blocks.2.attn.hook_pattern[3, 4, 3]"',
    )
    add = parser.add_argument
    add("prompt", help="the text; - reads standard input (less one final newline)")
    add("number", help='a trace point and an index, such as "hook_next_logits[6342]" or, by any '
        'other name that the glossary command knows, "blocks.2.pattern[3, 4, 3]"')  # fmt: skip
    add_model(parser)
    add("--special", action="store_true", help="read <|endoftext|> in the prompt as that token, not as text")
    add("--trail", action="store_true", help="continue from the largest term, and so on, to weights and token ids")
    add("--json", action="store_true", help="print one JSON list")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    name, words = _number(args.number)
    opened = opening(args)
    ids, model = opened.ids, opened.model
    name = _full_name(name, model.config)
    index, axes = _index(name, words, opened.tokenizer)
    acts = Recorder(model)
    list(generate(model, ids, 1, stop=(), trace=acts))
    if name == "hook_logits":  # generation computes only its last row
        acts[name] = model.lm_head(acts["ln_final.hook_output"])
    found = list(trail(acts, model, name, index, **axes)) if args.trail else [explain(acts, model, name, index, **axes)]
    say(provenance_line(opened.provenance, model.config))
    if args.json:
        print_json([_row(e) for e in found])
        return 0
    print(folded(str(found[0]), columns()))
    for e in found[1:]:
        print(folded(f"{e.name} = {e.recorded:.7g}\n  {e.how}", columns()))
        if e.leading is not None:
            print(folded(f"    {e.label(e.leading)}  {e.amounts[e.leading]:+.6g}", columns()))
    return 0


def _number(text):
    """Return (name, the parts of its index) of ``name[5, 4, 2]`` or ``name[head=5, query=4, key=2]``."""
    text = valid_text(text, "the number").strip()
    numbered = re.match(r"[^\[\]]+\[-?\d+\](?=\s*\[)", text)  # a name may hold a number too: attentions[2][3, 4, 3]
    start = numbered.end() if numbered else 0
    name, bracket, index = text[start:].partition("[")
    if (not numbered and not name) or "]" in name or (bracket and not index.endswith("]")):
        raise ValueError(f"{text!r} is not a number of a pass: give a name and an index, name[5, 4, 2]")
    return (text[:start] + name).rstrip(), [part for part in index[:-1].split(",") if part.strip()]


def _full_name(name, config):
    """Return the trace point that a name means: its own, without ``hook_`` as in derivations, or any other."""
    if points.is_point(name):
        return points.get(name, config).name
    known = {**points.table(config), **points.table(config, points.NEXT_TOKEN)}
    return resolve(name, known, "in this pass", config)


def _index(name, words, tokenizer):
    """Return an index as (tuple, {}) or (None, {axis: number}); a token may be given by its text."""
    names, places, axes = points.get(name).axis_names, [], {}
    for axis, word in zip([*names, *[None] * len(words)], words, strict=False):
        axis, _, value = word.strip(" ").rpartition("=") if "=" in word else (axis, "", word)
        try:
            i = int(value)
        except ValueError:
            if axis != "token":
                raise ValueError(f"{value.strip()!r} is not a whole number: {wants(names)}") from None
            ids = tokenizer.encode(value)
            if len(ids) != 1:
                raise ValueError(f"{value!r} is {len(ids)} tokens, not one") from None
            i = ids[0]
        if "=" in word:
            axes[axis] = i
        else:
            places.append(i)
    if axes and places:
        raise ValueError(f"{name}: give the whole index with names, or all of it without")
    return (None, axes) if axes else (tuple(places), {})


def _row(e):
    leading = [{"term": e.label(j), "amount": float(e.amounts[j])} for j in e.order[:SHOWN]]
    return {
        "name": e.point.name,
        "index": dict(zip(e.point.axis_names, e.index, strict=True)),
        "recorded": e.recorded if math.isfinite(e.recorded) else str(e.recorded),
        "float64": e.value if math.isfinite(e.value) else str(e.value),
        "agreement": e.agreement,
        "equation": e.point.equation,
        "how": e.how,
        "terms": len(e.amounts),
        "largest": leading,
    }
