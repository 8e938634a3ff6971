"""``python -m nanogpt_np.course`` is the command `course`."""

from ..commands.course import main

if __name__ == "__main__":
    raise SystemExit(main())
