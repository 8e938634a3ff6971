"""Looking inside a pass: what was recorded, how it was computed, why this token, and what changing it does.

- `recorder` keeps a pass, `recording` saves it to a file; `steps`, `stats` and `stepper` list it and walk through it.
- `explain` and `derivations`: any one number, derived in float64 from those before it.
- `lens`: the logit lens and direct logit attribution; `lens_report` and `lens_words`: reports on a token.
- `patch`: activations changed mid-pass. `diff`, `align` and `diff_words`: where two passes diverge.

Nothing here computes a forward pass of its own, and nothing prints.
"""
