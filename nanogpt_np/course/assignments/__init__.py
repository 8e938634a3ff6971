"""The assignments, a module each; the pattern to follow is `a2_layernorm.py`."""
