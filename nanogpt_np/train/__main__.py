"""``python -m nanogpt_np.train TEXT ...`` is the command `train`."""

from ..commands.train import main

if __name__ == "__main__":
    raise SystemExit(main())
