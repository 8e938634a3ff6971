"""config.json and generation_config.json of a checkpoint: the sizes, and the ids that end a text.

Both are read as transformers 5 reads them. A generation_config.json alone says how text is generated; where there is
none, as in old checkpoints, config.json does. Of those settings only ``eos_token_id`` is followed here.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..model.config import Config, token_ids
from ..text.files import parse_json, read_json

GENERATION = "generation_config.json"
UNSET = (  # settings that choose tokens or end a text, and do nothing where they are null
    *("max_new_tokens", "min_new_tokens", "max_time", "stop_strings", "min_p", "top_h", "penalty_alpha", "dola_layers"),
    *("bad_words_ids", "force_words_ids", "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "constraints"),
    *("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty", "watermarking_config"),
)
NEUTRAL: dict[str, Any] = dict.fromkeys(UNSET) | {  # all such settings, and the values with which they do nothing
    "max_length": 20,
    "min_length": 0,
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "renormalize_logits": False,
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "early_stopping": False,
    "diversity_penalty": 0.0,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "guidance_scale": 1.0,
    "token_healing": False,
    "remove_invalid_values": False,
}


def read_config(directory: Path) -> tuple[Config, tuple[str, ...]]:
    """Return (the Config of a directory, the settings of generation that it has and this package ignores).

    A setting is its name, and its value if that is a number or a truth value. ValueError names the file.
    """
    path = directory / "config.json"
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{directory} has tensors but no config.json, which says how many heads there are") from None
    try:
        config = Config.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    path = directory / GENERATION
    try:
        generation = read_json(path)
    except FileNotFoundError:
        return config, tuple(_ignored(values))
    if not isinstance(generation, dict):
        raise ValueError(f"{path} must hold a JSON object")
    try:
        config = replace(config, eos_token_ids=token_ids(generation.get("eos_token_id")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return config, tuple(_ignored(generation))


def says_the_end(config: Config) -> bool:
    """Say whether a model's ids that end a text are of its own vocabulary, or none; else they are those of GPT-2."""
    return not config.eos_token_ids or min(config.eos_token_ids) < config.vocab_size


def with_ends(contents: bytes, config: Config) -> bytes:
    """Return a generation_config.json with the ids of `config`, which would otherwise count for nothing beside it."""
    try:
        values = parse_json(contents)
    except ValueError:
        return contents
    if not isinstance(values, dict) or not says_the_end(config):
        return contents
    ends = token_ids(values.get("eos_token_id"))
    if isinstance(ends, list | tuple) and [*ends] == [*config.eos_token_ids]:
        return contents
    return (json.dumps(values | {"eos_token_id": config.to_dict()["eos_token_id"]}, indent=2) + "\n").encode()


def _ignored(generation: dict[str, Any]) -> list[str]:
    return [
        f"{name} {str(value).lower()}" if isinstance(value, bool | float | int) and len(str(value)) < 30 else name
        for name in NEUTRAL
        if (value := generation.get(name)) is not None and value != NEUTRAL[name]
    ]
