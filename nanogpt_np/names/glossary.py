"""Look a tensor up by any name: ours, TransformerLens's, Hugging Face's, llama.cpp's, a paper's, a plain word.

`find` and `names_of` read `entries.py`. Read next: `resolve.py`, which one name of a pass a word means, and
`points_page.py`, all of it as docs/points.md.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .entries import Entry, entries
from .wording import WIDTH, folded, nearest, wrapped

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

# The number of a block, in any spelling: blocks.3, blk.3, h.3, h3, layers[3], block 3, hidden_states[3].
NUMBERED = re.compile(r"\b(?:blocks?|blk|layers?|h)[ ._/\[-]?(\d+)\b|\[(\d+)\]", re.IGNORECASE)
STATE = re.compile(r"\bhidden[ _.-]?states?\[(\d+)\]", re.IGNORECASE)
WHOLE, END, PART, LETTERS, NOTHING = range(5)  # how a query matches a name
MOST_WORDS = 20  # of a query that may begin with a place: twice as many as any name and its place have
ENDINGS = ("weight", "bia", "w", "b", "g", "matrix")  # left out of a parameter's name: c_attn. For "bia" see words_of.


def find(query: str, config: "Config | None" = None) -> list[Entry]:
    """Return the entries that match `query`, best first: any name in any dialect, the end or a part of one.

    A block's number in it (blocks.3, h.3, blk.3, block 3) selects that block. Case and separators do not matter.
    Where no name fits, the first words may say where the tensor is: blocks.3.attn.keys.
    config : of the model, which decides how many blocks there are and whether the LM head is tied.

    Raises ValueError with the nearest names if nothing matches.
    """
    found = matches(query, config)
    if not found:
        raise ValueError(f"no tensor is called {query!r}{close_names(query, config)}")
    best = found[0][0]
    return [entry for fit, entry in found if fit <= max(best, END)]


def matches(query: str, config: "Config | None" = None) -> list[tuple[int, Entry]]:
    """Return (how it fits, entry) of all that match, best first; nothing where `find` raises ValueError for a word.

    Raises ValueError for a query without a word, and for a block that the model does not have.
    """
    block, words = _read(query, config)
    if not words and block is None:
        raise ValueError(f"no word to look up in {query!r}")
    known = entries(block, config)
    found = _fitting(words, known)
    if (not found or found[0][0] > PART) and len(words) <= MOST_WORDS:
        place = (_fitting(words[k:], known, words[:k]) for k in range(1, len(words)))
        found = next((some for some in place if some and some[0][0] <= END), found)
    return found


def close_names(query: str, config: "Config | None" = None) -> str:
    """Return `wording.nearest` of all names of all tensors, and of the last part of each."""
    names = {name for entry in entries(_read(query, config)[0], config) for name in all_names(entry)}
    return nearest(query, sorted(names | {name.rpartition(".")[2] for name in names}), n=3)


def _read(query: str, config: "Config | None") -> tuple[int | None, list[str]]:
    """Return (the number of the block in a query, its words)."""
    state = STATE.search(query)
    if config is not None and state and int(state[1]) == config.n_layer:  # past the last block: the output of ln_f
        query = STATE.sub("hidden_states[-1]", query)
    numbered = NUMBERED.search(query)
    block = int(numbered[1] or numbered[2]) if numbered else None
    if block is not None and config is not None and block >= config.n_layer:
        raise ValueError(f"no block {block} for {query!r}: this model has blocks 0 to {config.n_layer - 1}")
    return block, words_of(query)


def _fitting(words: list[str], known: Iterable[Entry], place: Iterable[str] = ()) -> list[tuple[int, Entry]]:
    """Return (fit, entry) of the entries with a name that fits `words` and with the words of `place` in any name."""
    found, target = [], "".join(words)
    for entry in known:
        names = all_names(entry)
        if set(place) <= {word for name in names for word in words_of(name)}:
            fit, other = min((_fit(target, name, entry), name != entry.name) for name in names)
            found += [((fit, other), entry)] if fit < NOTHING else []
    return [(fit, entry) for (fit, _), entry in sorted(found, key=lambda pair: pair[0])]


def names_of(name: str) -> dict[str, tuple[str, ...]]:
    """Return ``{dialect: names}`` of a trace point or a parameter, such as ``blocks.3.attn.hook_k``.

    Dialects without a name for it are left out. Raises ValueError with the nearest names.
    """
    numbered = re.match(r"(?:blocks|h)\.(\d+)\.", name)
    known = {entry.name: entry.names for entry in entries(int(numbered[1]) if numbered else None)}
    if name not in known:
        raise ValueError(f"no trace point or parameter {name!r}{nearest(name, known, n=3)}")
    return dict(known[name])


def all_names(entry: Entry) -> list[str]:
    """Return our name for an entry and then those in all dialects."""
    return [entry.name, *(name for names in entry.names.values() for name in names)]


@functools.lru_cache(maxsize=4096)
def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case and in the singular, without the block and its number."""
    words = re.findall(r"[a-z0-9]+", NUMBERED.sub(" ", name.replace("{i}", "0")).lower())
    singular = (re.sub(r"(?<=\w\w[^s])s$", "", re.sub("ies$", "y", word)) for word in words)
    return [word for word in singular if word not in ("of", "the")]


def _fit(target: str, name: str, entry: Entry) -> int:
    words = words_of(name)
    whole = "".join(words)
    if target not in whole:
        return NOTHING
    if target == whole:
        return WHOLE
    ends = [b for a in range(len(words)) for b in range(a + 1, len(words) + 1) if "".join(words[a:b]) == target]
    if len(words) in ends or (len(words) - 1 in ends and words[-1] in ENDINGS and not entry.is_point):
        return END
    return PART if ends or not target else LETTERS if len(target) > 2 else NOTHING


def facts(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (label, a text or a list of names) for all that a row says below its heading."""
    shown = {label: value for label, value in row.items() if label not in ("name", "kind", "axes", "shape", "names")}
    yield from ((label, value) for label, value in (shown | row["names"]).items() if value)


def as_text(row: dict[str, Any], width: int = WIDTH) -> str:
    """Return a row of `Entry.row` as lines of at most `width` columns."""
    sizes = f" = {row['shape']}".replace("'", "") if row["shape"] else ""
    lines = [folded(f"{row['name']}  [{row['axes']}]{sizes}  {row['kind']}", width)]
    for label, value in facts(row):
        text = value if isinstance(value, str) else ", ".join(value)
        lines.append(wrapped(f"  {label:18}", text, width))
    return "\n".join(lines)
