"""Make the goldens: small random GPT-2s, and what other people's GPT-2 makes of them.

    python tests/goldens/make_goldens.py                     # needs transformers: every case anew
    python tests/goldens/make_goldens.py --transformer-lens  # needs transformer-lens 2.16.1 beside it: adds its file

Each case is a directory as `save_pretrained` writes it, and expected.npz: ids, logits, all hidden
states and attention patterns by transformers, in float64, stored as float32: what differs from them
is then the error of one program, not of two. transformer_lens.npz holds every activation of
HookedTransformer, under its own names. The results are committed; only a new case needs this script.
Nothing of nanogpt_np is run here, but for the random numbers in tests/helpers.py.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

GOLDENS = Path(__file__).parent
# In each case all sizes differ: V, n_positions, C, H, D, n_layer, F, and those of the ids, (B, T).
CASES = {
    "tied": {
        "sizes": {"vocab_size": 97, "n_positions": 23, "n_embd": 30, "n_head": 5, "n_layer": 3, "n_inner": 52},
        "ids": (2, 11),
        "seed": 841,
    },
    "untied": {
        "sizes": {"vocab_size": 89, "n_positions": 19, "n_embd": 28, "n_head": 4, "n_layer": 2, "n_inner": None},
        "changes": {"tie_word_embeddings": False},
        "ids": (3, 13),
        "seed": 1,
    },
    "scaled": {
        "sizes": {"vocab_size": 83, "n_positions": 17, "n_embd": 24, "n_head": 3, "n_layer": 4, "n_inner": 40},
        "changes": {
            "layer_norm_epsilon": 1e-3,
            "scale_attn_weights": False,
            "scale_attn_by_inverse_layer_idx": True,
        },
        "ids": (2, 9),
        "seed": 2,
    },
}
GREEDY_CASE, GREEDY_PROMPT, GREEDY_GAP = "tied", 5, 0.02  # tokens of the prompt; least lead of the likeliest token


def make(name, sizes, ids, seed, changes=None):
    """Write one case, or refuse if its numbers could not tell a right model from a wrong one."""
    import torch
    import transformers

    sys.path.insert(0, str(GOLDENS.parent))
    from helpers import QUIET_POSITIONS, QUIET_TOKEN, random_parameter

    config = transformers.GPT2Config(**sizes, **(changes or {}), bos_token_id=None, eos_token_id=None)
    model = transformers.GPT2LMHeadModel(config).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter, tensor in model.named_parameters():
            tensor.copy_(torch.from_numpy(random_parameter(parameter, tuple(tensor.shape), rng)))
    directory = GOLDENS / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink()

    ids = rng.integers(0, sizes["vocab_size"], ids)
    ids[0, QUIET_POSITIONS[0]] = ids[1, QUIET_POSITIONS[1]] = QUIET_TOKEN
    ids[-1, -1] = sizes["vocab_size"] - 1
    model = transformers.GPT2LMHeadModel.from_pretrained(directory, dtype=torch.float64, attn_implementation="eager")
    with torch.no_grad():
        out = model(torch.from_numpy(ids), output_hidden_states=True, output_attentions=True)
    expected = {
        "ids": ids,
        "logits": out.logits.numpy(),
        # (n_layer + 1, B, T, C): before each block, then AFTER ln_f (that after the last block is not among them)
        "hidden_states": torch.stack(out.hidden_states).numpy(),
        "attentions": torch.stack(out.attentions).numpy(),  # (n_layer, B, H, T, T)
    }
    check(name, expected)
    if name == GREEDY_CASE:
        prompt = ids[0, :GREEDY_PROMPT]
        expected["greedy_prompt"], expected["greedy"] = prompt, greedy(model, prompt, config.n_positions)
    small = {key: a.astype(np.float32 if a.dtype.kind == "f" else np.int64) for key, a in expected.items()}
    np.savez_compressed(directory / "expected.npz", **small)


def check(name, expected):
    """Refuse flat attention, in which a wrong scale would not show, and a residual stream without a quiet row."""
    patterns = expected["attentions"][..., 1:, :]  # (n_layer, B, H, T - 1, T): the first row is always 1, 0, 0 ...
    sharpness = patterns.max(-1).mean(axis=(1, 2, 3))
    logs = np.log(patterns, out=np.zeros_like(patterns), where=patterns > 0)
    entropy = -(patterns * logs).sum(-1)  # nats
    uniform = np.log(np.arange(2, patterns.shape[-1] + 1))
    flatness = (entropy / uniform).mean(axis=(1, 2, 3))
    quiet = expected["hidden_states"][0].var(-1).min()
    print(f"{name}: largest weight of a row {sharpness.round(2)}, entropy / uniform {flatness.round(2)},")
    print(f"  least variance of an embedding {quiet:.1e}, logits up to {abs(expected['logits']).max():.1f}")
    if sharpness.min() < 0.5 or flatness.max() > 0.75 or quiet > 1e-4:
        raise SystemExit(f"{name}: take another seed")


def greedy(model, prompt, n_positions):
    """Return all the ids that fit, chosen by transformers; refuse near ties, which rounding could turn over."""
    import torch

    n_new = n_positions - len(prompt) + 1  # the last token is read off and needs no position
    out = model.generate(
        torch.from_numpy(prompt)[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=n_new,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    top = torch.stack(out.logits)[:, 0].topk(2).values
    new = out.sequences[0, len(prompt) :].numpy()
    gap = float((top[:, 0] - top[:, 1]).min())
    print(f"  greedy: {new.tolist()}, least gap {gap:.3f}")
    if len(new) != n_new or gap < GREEDY_GAP or len(set(new.tolist())) < n_new // 2:
        raise SystemExit("greedy: take another seed")
    return new


def make_transformer_lens(name):
    """Write every activation of a HookedTransformer with the weights of a case, none of them folded or centred."""
    import torch
    import transformers
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights

    directory = GOLDENS / name
    original = transformers.GPT2LMHeadModel.from_pretrained(directory, dtype=torch.float64)
    c = original.config
    lens = HookedTransformer(
        HookedTransformerConfig(
            n_layers=c.n_layer,
            d_model=c.n_embd,
            n_ctx=c.n_positions,
            n_heads=c.n_head,
            d_head=c.n_embd // c.n_head,
            d_mlp=c.n_inner,
            d_vocab=c.vocab_size,
            act_fn="gelu_new",
            eps=c.layer_norm_epsilon,
            normalization_type="LN",
            default_prepend_bos=False,
            device="cpu",
            dtype=torch.float64,
        )
    )
    lens.load_and_process_state_dict(
        convert_gpt2_weights(original, lens.cfg),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    expected = np.load(directory / "expected.npz")
    with torch.no_grad():
        logits, acts = lens.run_with_cache(torch.from_numpy(expected["ids"]), return_cache_object=False)
    off = abs(logits.numpy() - expected["logits"]).max()
    print(f"{name}: {len(acts)} activations, logits within {off:.1e} of those of transformers")
    if not math.isclose(off, 0, abs_tol=1e-5):
        raise SystemExit("the two programs disagree")
    np.savez_compressed(
        directory / "transformer_lens.npz", **{key: a.numpy().astype(np.float32) for key, a in acts.items()}
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transformer-lens", action="store_true", help="make transformer_lens.npz only")
    if parser.parse_args().transformer_lens:
        make_transformer_lens("tied")
    else:
        for name, case in CASES.items():
            make(name, **case)
