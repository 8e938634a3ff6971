"""Looking inside a pass: what was recorded, how it came about, why this token, and what happens when it is changed.

- `recorder` keeps a pass, `recording` puts it into a file; `steps`, `stats` and `stepper` list it and walk through it.
- `explain` and `derivations`: any one number, derived in float64 from those before it.
- `lens`: the logit lens and direct logit attribution; `lens_report` and `lens_words`: of one token, as rows and words.
- `patch`: activations changed on their way. `diff`, `align` and `diff_words`: where two passes part.

Nothing here computes a forward pass of its own, and nothing prints.
"""
