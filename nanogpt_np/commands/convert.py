"""``python -m nanogpt_np convert ckpt.pt DIR``: make a checkpoint of Hugging Face's layout from one of nanoGPT."""

from pathlib import Path

from ..weights.nanogpt import GELU, read_nanogpt
from ..weights.saving import save
from .shell import Parser, command, say


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser(
        "convert", "Make a folder that --model and transformers load from a ckpt.pt of nanoGPT. Needs PyTorch."
    )
    parser.add_argument("file", help="what nanoGPT's train.py wrote: out/ckpt.pt")
    parser.add_argument("directory", metavar="DIR", help="a new folder, for config.json and model.safetensors")
    args = parser.parse_args(argv)
    directory = Path(args.directory)
    if not args.directory.strip() or (directory.exists() and not (directory.is_dir() and not any(directory.iterdir()))):
        raise ValueError(f"{args.directory!r} is not a new or empty folder: give another DIR")
    save(read_nanogpt(args.file), directory)
    say(f"saved in {directory}; {GELU}")
    return 0
