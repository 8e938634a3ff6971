"""A fuzz test: what a changed file, a command line or a training state does, in forked children with limits.

- `limits`: one case in a child of its own, and the verdict on it.
- `reference`: GPT-2 in float64, written again from the papers; how far float32 may be from it.
- `mutate`: changed bytes, changed JSON. `layouts`: small checkpoints in every layout that is read, to be changed.
- `checkpoints`, `configs`, `indexes`, `recordings`, `lines`, `states`: the categories. Each has ``prepare(folder)``,
  and ``make(rng, base, folder)``, which writes one case into a folder and returns it as a `Case`.
- `judging`: what is asked of a checkpoint that loads. `run`: the command line, ``python tests/fuzz/run.py --help``.

Linux only: the limits are read from /proc.
"""
