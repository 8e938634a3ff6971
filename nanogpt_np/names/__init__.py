"""The names of all tensors: two ordered tables, how to look them up, and what follows from the tables alone.

- `activations` (every trace point) and `parameters` (every stored tensor) are the two tables; `points` fills
  in the first for one model.
- `aliases`, `point_aliases`, `parameter_aliases`: what others call each tensor; `entries` joins all of it,
  `glossary` looks a word up, `resolve` says which point of one place it means, `points_page` is docs/points.md.
- `sizes`: the published models. `ledger`: FLOPs and bytes of a pass. `inventory`: how the parameters add up.
- `wording`: nearest name, short lists, one-line text.

Nothing here holds an array: only names, shapes and texts.
"""
