"""The command line: one file per command, with its name. Each parses, calls the library and prints.

Shared: `shell` (one-line errors, exit codes), `opening` (the prompt and its model), `tables` and `listing`
(output). Only the `__main__` files import this folder; Python code never needs it.
"""
