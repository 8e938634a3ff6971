"""How fast it runs: racers timed in turn, each in its own process, and the baselines they are compared with.

- `racers`, `training`, `scripts`: what is timed. `products`: the matrix products alone, and plain reads.
- `lanes`: a process per racer. `measure`: the rows. `report`: the results as lines and tables.
- `random_checkpoint`: weights to time where none were downloaded.

What makes the package fast is in `fast/`.
"""
