"""Walk through a recorded pass in the terminal, one step at a time, forward and backward.

A step is one trace point (`activations.py`): its equation, its inputs, what to look at, its values.
Nothing is computed again: the numbers are those of the recording.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..generate.ranking import top_rows
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..names import parameters, points, resolve
from ..names.glossary import as_text, find
from ..names.trace_point import Point
from ..names.wording import WIDTH, folded, wrapped
from ..text.display import quoted, text_of
from .explain import explain
from .recording import Recording
from .stats import lengths, stats, stats_line

CANDIDATES = 20  # names that are listed where a part of a name is in several
ENTRIES = 3  # glossary entries shown for a word
TYPED = 500  # characters of a line that is typed
PRINTED = 500  # numbers up to which an array is printed whole; NumPy abbreviates larger ones
HELP = """\
Enter, n    next step
b           back
NUMBER      go to this step
j NAME      jump to a trace point; a part of its name will do
p           print the values; p 4 prints those at index 4 of the first axis, p : 2 those at 2 of the second
t, t K      the likeliest next tokens
e INDEX     derive one number from those before it: e 2 4 1
/WORD       what WORD is called here and elsewhere
q, Ctrl-D   quit"""


def step(
    recording: Recording,
    ask: Callable[[str], str],
    tell: Callable[[str], None],
    model: GPT2 | None = None,
    width: int = WIDTH,
) -> None:
    """Show the steps of a `recording.Recording` as `ask` directs, until it returns ``q`` or raises EOFError.

    ask, tell : as ``input`` and ``print``. model : the model that was recorded; deriving a number needs its weights.
    width : the columns of a line.
    """

    def show(text: str) -> None:
        tell(folded(text, width))

    names, at = list(recording.acts), 0
    if "hook_next_token" not in recording.acts:
        raise ValueError("to walk through, record a whole pass to the next token: generate(model, ids, 1, trace=acts)")
    show(f"{len(names)} steps; Enter: next, b: back, ?: all commands, q: quit\n")
    show(page(recording, names, at, width))
    while True:
        try:
            line = ask("> ")
        except EOFError:
            return tell("")
        try:
            if len(line) > TYPED:
                raise ValueError(f"that line has {len(line):,} characters: the limit is {TYPED}")
            word, *more = line.split() or ["n"]
            if word == "q":
                return None
            to = _goes_to(word, more, names, at)
            if to is None:
                show(_answer(word, more, recording, names[at], model, width))
            elif to < 0:
                show("this is the first step")
            elif to == len(names):
                show(f"this was the last step, the end of the pass: {_ending(recording)}")
            else:
                at = to
                show(page(recording, names, at, width))
        except ValueError as error:
            show(str(error))


def page(recording: Recording, names: Sequence[str], at: int, width: int = WIDTH) -> str:
    """Return the text of step `at`: everything about one trace point."""
    acts, config, name = recording.acts, recording.config, names[at]
    point, x, stored = points.get(name, config), acts[name], parameters.table(config)
    reads = [f"{read} {list(acts[read].shape)}" for read in point.reads if read in acts]
    weights = [f"{weight} {list(stored[weight].shape(config))}" for weight in point.weights]
    fields = {
        "equation": point.equation,
        "in numbers": point.shapes_of(config, *lengths(acts)),
        "reads": ", ".join(reads),
        "weights": ", ".join(weights),
        "made in": point.place,
        "notice": point.notice,
        "values": stats_line(stats(x)) if name not in points.WHOLE_NUMBERS else "",
    }
    lines = [f"{at + 1} of {len(names)}  {name}  {list(x.shape)}  {_axes(point)}"]
    lines += [wrapped(f"  {field:12}", text, width) for field, text in fields.items() if text]
    return "\n".join(lines)


def _goes_to(word: str, more: list[str], names: list[str], at: int) -> int | None:
    """Return the requested step, which may be one before the first or after the last; None for other commands."""
    if word == "j":
        return names.index(_one_of(" ".join(more), names))
    if word.isdecimal():
        if not 1 <= int(word) <= len(names):
            raise ValueError(f"there is no step {word}: they are 1 to {len(names)}")
        return int(word) - 1
    return {"n": at + 1, "b": at - 1}.get(word)


def _one_of(fragment: str, names: list[str]) -> str:
    if not fragment:
        raise ValueError("j needs a name, or a part of one: j blocks.0.attn.hook_pattern")
    found = resolve.select(fragment, names)
    if len(found) == 1:
        return found[0]
    lines = [f"{names.index(name) + 1:5}  {name}" for name in found[:CANDIDATES]]
    if len(found) > CANDIDATES:
        lines.append(f"       and {len(found) - CANDIDATES} more")
    raise ValueError("\n".join([f"{fragment} is in {len(found)} names; give more of one, or its number:", *lines]))


def _answer(word: str, more: list[str], recording: Recording, name: str, model: GPT2 | None, width: int) -> str:
    if word == "?":
        return HELP
    if word == "p":
        return values(recording, name, more, width)
    if word == "t":
        return _tokens(recording, *more[:1])
    if word == "e":
        return _derivation(recording, name, more, model)
    if word.startswith("/"):
        return _looked_up(" ".join([word[1:], *more]), recording.config, width)
    raise ValueError(f"{word!r} is not a command; see ?")


def values(recording: Recording, name: str, index: Sequence[str] = (), width: int = WIDTH) -> str:
    """Return the numbers of a trace point as text, or those at an `index`: words, each a whole number or ``:``."""
    x, axis_names = recording.acts[name], points.get(name).axis_names
    places = [slice(None) if word == ":" else _whole(word) for word in index]
    if len(places) > x.ndim:
        raise ValueError(f"{name} has {x.ndim} axes, not {len(places)}: {_axes(points.get(name))}")
    for place, axis, size in zip(places, axis_names, x.shape, strict=False):
        if isinstance(place, int) and not -size <= place < size:
            raise ValueError(f"there is no {axis} {place}: they are 0 to {size - 1}")
    x = x[tuple(places)]
    shown = np.array2string(x, max_line_width=width, precision=4, threshold=PRINTED)
    where = f"[{', '.join(index)}]" if index else ""
    return f"{name}{where}  {list(x.shape)}\n{shown}"


def _tokens(recording: Recording, k: str = "5") -> str:
    acts = recording.acts
    count = _whole(k)
    if count < 1:
        raise ValueError(f"t needs a number of tokens, 1 or more, not {k}")
    rows = top_rows(acts["hook_next_logits"], acts["hook_probabilities"], count, recording.tokenizer)
    return "\n".join(f"{row['rank']:5}  {row['p']:9.4%}  {quoted(row['token'])}" for row in rows)


def _ending(recording: Recording) -> str:
    token = int(recording.acts["hook_next_token"])
    return f"the next token is {token} {quoted(text_of(recording.tokenizer, token))}"


def _derivation(recording: Recording, name: str, index: Sequence[str], model: GPT2 | None) -> str:
    if model is None:
        raise ValueError("a replayed pass has no weights to derive a number from: walk through a PROMPT instead")
    return str(explain(recording.acts, model, name, tuple(_whole(word) for word in index)))


def _looked_up(word: str, config: Config, width: int) -> str:
    found = find(word, config)
    rest = f"and {len(found) - ENTRIES} more: {', '.join(entry.name for entry in found[ENTRIES:])}"
    texts = [as_text(entry.row(config), width) for entry in found[:ENTRIES]]
    return "\n\n".join(texts + [wrapped("", rest, width)] * (len(found) > ENTRIES))


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a whole number") from None


def _axes(point: Point) -> str:
    return f"({', '.join(point.axis_names)})" if point.axes else "(a single number)"
