"""The names of everything: two ordered tables, how to look things up in them, and what follows from them alone.

- `activations` (every trace point) and `parameters` (every stored tensor) are the two tables; `points` fills the
  first in for one model.
- `aliases`, `point_aliases`, `parameter_aliases`: what others call each tensor; `entries` joins all of it,
  `glossary` looks a word up, `points_page` is docs/points.md.
- `sizes`: the published models. `ledger`: FLOPs and bytes of a pass. `inventory`: how the parameters add up.
- `wording`: the nearest name, a few of many, one line.

Nothing here holds an array: only names, shapes and texts.
"""
