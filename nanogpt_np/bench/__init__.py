"""How fast it runs: racers timed side by side, each in a process of its own, and what the figures are held against.

- `racers`, `training`, `scripts`: who is timed. `products`: the matrix products alone, and plain reading.
- `lanes`: processes and turns. `measure`: the rows. `report`: lines and tables of what was measured.
- `random_checkpoint`: weights to time where none were downloaded.

What makes the package fast is in `fast/`.
"""
