"""``python -m nanogpt_np.generate PROMPT`` is the command `generate`."""

from ..commands.generate import main

if __name__ == "__main__":
    raise SystemExit(main())
