"""Layers for checks, made from plain arrays: a case shows ``c_attn.weight = ...`` and not an object."""

from dataclasses import replace

from ..model.linear import Linear


def built(kind, fields):
    """Return a layer of a `kind` from ``{"c_fc.weight": array, "c_fc.bias": array, ...}``, with its Linears."""
    parts = {}
    for name, value in fields.items():
        field, _, parameter = name.partition(".")
        if parameter:
            parts.setdefault(field, {})[parameter] = value
        else:
            parts[field] = value
    return kind(**{field: Linear(**part) if isinstance(part, dict) else part for field, part in parts.items()})


def changed(layer, name, array):
    """Copy a layer, with another array for one parameter, for example ``"c_fc.weight"``."""
    field, _, parameter = name.partition(".")
    new = changed(getattr(layer, field), parameter, array) if parameter else array
    return replace(layer, **{field: new})
