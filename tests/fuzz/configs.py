"""Configs: other fields, other kinds, other text in the config.json beside sound tensors."""

from . import judging, mutate
from .layouts import CONFIG, layouts

FIELDS = {  # what may be meant by somebody
    "n_head": (1, 2, 4, 8, 3, 5, 16),
    "n_layer": (1, 2, 3, 12, 1000, 100_000, 10**6, 10**30),
    "layer_norm_epsilon": (1e-12, 1e-6, 1e-4, 1, 0.1, 1e10, 1e39, 1e300, 5e-324, mutate.Raw("1" + "0" * 400), 0, -1e-5),
    "scale_attn_weights": (True, False, 0, "true", None),
    "scale_attn_by_inverse_layer_idx": (True, False, 1),
    "reorder_and_upcast_attn": (True, False),
    "tie_word_embeddings": (True, False, None),
    "n_inner": (None, 20, 17, 32, 48, 0, 10**9),
    "n_ctx": (5, 1024, None, "x"),
    "activation_function": ("gelu_new", "gelu", "relu", "gelu_pytorch_tanh", None, "x" * 9000),
    "model_type": ("gpt2", "llama", None, ["gpt2"], "\x1b[31m"),
    "vocab_size": (50257, 10**12, 1),
    "n_positions": (1024, 1, 2, 10**12),
    "n_embd": (768, 1, 10**12),
    "quantization_config": (None, {}, {"bits": 4}),
    "add_cross_attention": (True, None),
    "torch_dtype": ("float16", 3),
    "attn_pdrop": (0.1, "x"),
}


def prepare(folder):
    """Return the checkpoints beside which the config is changed."""
    return layouts(folder)


def make(rng, base, folder):
    """Write a sound checkpoint with a changed config."""
    layout = rng.choice(sorted(base))
    files = dict(base[layout])
    tree, said = mutate.parse(files[CONFIG].decode()), [layout]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if rng.random() < 0.5 and isinstance(tree, mutate.Pairs):
            name = rng.choice(sorted(FIELDS))
            value = rng.choice(FIELDS[name])
            if isinstance(value, dict):
                value = mutate.Pairs(value.items())
            tree = mutate.Pairs([pair for pair in tree if pair[0] != name] + [(name, value)])
            said.append(f"{name} = {mutate.write(value)[:30]}")
        else:
            tree, words = mutate.change_json(rng, tree)
            said.append(words)
    text = mutate.write(tree)
    raw = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        raw, words = mutate.change_text(rng, text)
        said.append(words)
    elif rng.random() < 0.1:
        raw, words = mutate.change_bytes(rng, raw)
        said.append(words)
    files[CONFIG] = raw
    return judging.place(rng, folder, files, "; ".join(said))
