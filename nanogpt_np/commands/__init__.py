"""The command line: one file for each command, named as it is. Each parses, calls the library and prints.

Shared: `shell` (one-line errors, exit codes), `opening` (the prompt and its model), `tables` and `listing` (what is
printed). Only the `__main__` files import this room; nothing here is needed from Python.
"""
