"""The course: write GPT-2 yourself, a layer at a time, each graded by its behavior.

``python -m nanogpt_np course new DIR`` writes the files to fill in, ``grade DIR`` grades them. Nothing here is needed
to run the model, and ``import nanogpt_np`` loads none of it.

Read the files in this order:

- `definitions` (what an assignment is), `assignments/a2_layernorm` (one of them, the pattern for all),
  `mistakes/a2_layernorm` (its common mistakes), `stubs/` (what a student gets), `assignment` (all of them).
- `seams` (the student's functions in place of ours), `judge` and `compare` (what a check does), `naming` (which known
  mistake it is), `student` (reading a student's file), `worker` and `runner` (in a process of its own), `report`.
- `answers`; `bpe` and `training` (answers that the rest of the package does not hold).
- `numbers`, `layers`, `runs` and `gradients` (what the checks compute with).

Not here: the command line, which is `commands/course.py`.
"""
