"""What others call the tensors of GPT-2: one table, of every trace point and every parameter.

Our own names are TransformerLens's for trace points and the checkpoint's for parameters. Another name
is here if it means the same numbers, whatever their layout: a batch axis, heads first, a matrix transposed.
Shapes, equations and notices are not here: they come from `activations.py` and `parameters.py`.
Read next: `glossary.py`, which looks names up and prints them.
"""

import functools
import re
from dataclasses import dataclass, replace

from . import activations, parameters, points

VOCABULARIES = {  # how a list of names begins in TABLE: (the vocabulary, what it names)
    "tl1": ("TransformerLens", "hook points and weights of HookedTransformer, versions 1 to 3, as papers use them"),
    "tl3": ("TransformerLens 3", "the same of TransformerBridge (3.9), which keeps the older names as aliases"),
    "hf": ("Hugging Face", "modules by what they put out, fields of what a call returns, keys of the state dict"),
    "gguf": ("GGUF", "tensors of a GGUF file, matrices stored [out, in], and nodes of llama.cpp's graph"),
    "tf": ("OpenAI TF", "variables of the first checkpoint, matrices [1, in, out], and what its model.py returns"),
    "llm.c": ("llm.c", "train_gpt2.c, matrices stored [out, in]; idx, tok_emb and pos_emb are nanoGPT's"),
    "paper": ("papers", "symbols, as papers about transformers and their circuits write them"),
    "words": ("words", "plain English"),
}
# Below our own name stand those of others. Two are added by `_entry`: "tl1" of a trace point that TransformerLens
# has, and "hf" of a parameter. A parameter with an index is the part of it that others hold as a matrix of its
# own: `axes` and `is` tell of the part; `head` is the index into the whole parameter of what belongs to head h.
TABLE = """
hook_tokens
    tl3 embed.hook_in; hf input_ids; gguf inp_tokens; tf X; llm.c inputs, idx; words tokens, token ids, prompt
hook_positions
    tl3 pos_embed.hook_in; hf position_ids; words positions, position ids
hook_embed
    tl3 embed.hook_out; hf transformer.wte; llm.c tok_emb; words embeddings, token embeddings
hook_pos_embed
    tl3 pos_embed.hook_out; hf transformer.wpe; gguf pos_embd; llm.c pos_emb
    words position embeddings, positional embeddings, positional encoding
blocks.{i}.hook_resid_pre
    tl3 blocks.{i}.hook_in, blocks.{i}.ln1.hook_in; hf hidden_states[{i}]
    words residual stream, hidden state, input of the block
blocks.0.hook_resid_pre
    hf transformer.drop; gguf inpL; llm.c encoded; words sum of the embeddings
blocks.{i}.ln1.hook_scale
    tl3 blocks.{i}.ln1.hook_scale; llm.c 1 / ln1_rstd; words layer norm scale, standard deviation
blocks.{i}.ln1.hook_normalized
    tl3 blocks.{i}.ln1.hook_normalized; words layer norm before gain and bias
blocks.{i}.ln1.hook_output
    tl3 blocks.{i}.ln1.hook_out, blocks.{i}.attn.hook_in; hf transformer.h.{i}.ln_1; gguf attn_norm; llm.c ln1
    words layer norm, input of attention
blocks.{i}.attn.hook_qkv
    hf transformer.h.{i}.attn.c_attn; llm.c qkv; words queries keys and values
blocks.{i}.attn.hook_q
    tl3 blocks.{i}.attn.q.hook_out; gguf Qcur; paper Q; words queries
blocks.{i}.attn.hook_k
    tl3 blocks.{i}.attn.k.hook_out; hf past_key_values.layers[{i}].keys; gguf Kcur; tf present; paper K
    words keys, KV cache
blocks.{i}.attn.hook_v
    tl3 blocks.{i}.attn.v.hook_out; hf past_key_values.layers[{i}].values; gguf Vcur; tf present; paper V
    words values, KV cache
blocks.{i}.attn.hook_attn_scores
    tl3 blocks.{i}.attn.hook_attn_scores; llm.c preatt; words attention scores, attention logits
blocks.{i}.attn.hook_pattern
    tl3 blocks.{i}.attn.hook_pattern; hf attentions[{i}]; gguf kq_soft_max; llm.c att; paper A
    words attention weights, attention pattern, attention probabilities, attention matrix
blocks.{i}.attn.hook_z
    tl3 blocks.{i}.attn.o.hook_in; words heads, output of the heads
blocks.{i}.attn.hook_merged
    llm.c atty; words heads, merged heads, concatenated heads
blocks.{i}.hook_attn_out
    tl3 blocks.{i}.attn.hook_out, blocks.{i}.attn.o.hook_out; hf transformer.h.{i}.attn.c_proj, transformer.h.{i}.attn
    llm.c attproj; words output of attention, attention output
blocks.{i}.hook_resid_mid
    tl3 blocks.{i}.ln2.hook_in; gguf ffn_inp; llm.c residual2; words residual stream, residual stream after attention
blocks.{i}.ln2.hook_scale
    tl3 blocks.{i}.ln2.hook_scale; llm.c 1 / ln2_rstd; words layer norm scale, standard deviation
blocks.{i}.ln2.hook_normalized
    tl3 blocks.{i}.ln2.hook_normalized; words layer norm before gain and bias
blocks.{i}.ln2.hook_output
    tl3 blocks.{i}.ln2.hook_out, blocks.{i}.mlp.hook_in; hf transformer.h.{i}.ln_2; gguf ffn_norm; llm.c ln2
    words layer norm, input of the MLP
blocks.{i}.mlp.hook_pre
    tl3 blocks.{i}.mlp.in.hook_out; hf transformer.h.{i}.mlp.c_fc; gguf ffn_up_b; llm.c fch
    words hidden layer of the MLP before GELU, neurons before GELU
blocks.{i}.mlp.hook_post
    tl3 blocks.{i}.mlp.out.hook_in; hf transformer.h.{i}.mlp.act; gguf ffn_gelu; llm.c fch_gelu
    words hidden layer of the MLP, neurons, MLP activations
blocks.{i}.hook_mlp_out
    tl3 blocks.{i}.mlp.hook_out, blocks.{i}.mlp.out.hook_out; hf transformer.h.{i}.mlp.c_proj, transformer.h.{i}.mlp
    gguf ffn_out; llm.c fcproj; words output of the MLP, MLP output, feed-forward output
blocks.{i}.hook_resid_post
    tl3 blocks.{i}.hook_out; hf transformer.h.{i}; gguf l_out; llm.c residual3
    words residual stream, output of the block
ln_final.hook_scale
    tl3 ln_final.hook_scale; llm.c 1 / lnf_rstd; words final layer norm scale, standard deviation
ln_final.hook_normalized
    tl3 ln_final.hook_normalized; words final layer norm before gain and bias
ln_final.hook_output
    tl3 ln_final.hook_out, unembed.hook_in; hf transformer.ln_f, hidden_states[-1]; gguf result_norm; llm.c lnf
    words final layer norm, layer norm, last of the hidden states
hook_logits
    tl3 unembed.hook_out, hook_unembed; hf lm_head, logits; gguf result_output; tf logits; llm.c logits
    words logits, unembedding
hook_last_row
    words last row of the final layer norm
hook_next_logits
    words logits of the next token, last row of the logits
hook_probabilities
    llm.c probs; words probabilities, probabilities of the next token
hook_next_token
    words next token
wte.weight
    tl1 embed.W_E; tl3 embed.weight; gguf token_embd.weight; tf model/wte; llm.c wte; paper W_E
    words token embedding matrix
wpe.weight
    tl1 pos_embed.W_pos; tl3 pos_embed.weight; gguf position_embd.weight; tf model/wpe; llm.c wpe; paper W_pos
    words position embedding matrix
h.{i}.ln_1.weight
    tl1 blocks.{i}.ln1.w; tl3 blocks.{i}.ln1.weight; gguf blk.{i}.attn_norm.weight; tf model/h{i}/ln_1/g; llm.c ln1w
    words layer norm gain, gamma
h.{i}.ln_1.bias
    tl1 blocks.{i}.ln1.b; tl3 blocks.{i}.ln1.bias; gguf blk.{i}.attn_norm.bias; tf model/h{i}/ln_1/b; llm.c ln1b
    words layer norm shift, beta
h.{i}.attn.c_attn.weight
    gguf blk.{i}.attn_qkv.weight; tf model/h{i}/attn/c_attn/w; llm.c qkvw
h.{i}.attn.c_attn.weight[:, 0:C]
    axes C C; head [:, h*D : (h+1)*D]; tl1 blocks.{i}.attn.W_Q; tl3 blocks.{i}.attn.q.weight; paper W_Q
    gguf blk.{i}.attn_q.weight; words query matrix
    is columns 0 to C of c_attn.weight, D of them for each head
h.{i}.attn.c_attn.weight[:, C:2*C]
    axes C C; head [:, C + h*D : C + (h+1)*D]; tl1 blocks.{i}.attn.W_K; tl3 blocks.{i}.attn.k.weight; paper W_K
    gguf blk.{i}.attn_k.weight; words key matrix
    is columns C to 2C of c_attn.weight, D of them for each head
h.{i}.attn.c_attn.weight[:, 2*C:3*C]
    axes C C; head [:, 2*C + h*D : 2*C + (h+1)*D]; tl1 blocks.{i}.attn.W_V; tl3 blocks.{i}.attn.v.weight; paper W_V
    gguf blk.{i}.attn_v.weight; words value matrix
    is columns 2C to 3C of c_attn.weight, D of them for each head
h.{i}.attn.c_attn.bias
    gguf blk.{i}.attn_qkv.bias; tf model/h{i}/attn/c_attn/b; llm.c qkvb
h.{i}.attn.c_attn.bias[0:C]
    axes C; head [h*D : (h+1)*D]; tl1 blocks.{i}.attn.b_Q; tl3 blocks.{i}.attn.q.bias; paper b_Q
    gguf blk.{i}.attn_q.bias; words query bias
    is numbers 0 to C of c_attn.bias, D of them for each head
h.{i}.attn.c_attn.bias[C:2*C]
    axes C; head [C + h*D : C + (h+1)*D]; tl1 blocks.{i}.attn.b_K; tl3 blocks.{i}.attn.k.bias; paper b_K
    gguf blk.{i}.attn_k.bias; words key bias
    is numbers C to 2C of c_attn.bias, D of them for each head
h.{i}.attn.c_attn.bias[2*C:3*C]
    axes C; head [2*C + h*D : 2*C + (h+1)*D]; tl1 blocks.{i}.attn.b_V; tl3 blocks.{i}.attn.v.bias; paper b_V
    gguf blk.{i}.attn_v.bias; words value bias
    is numbers 2C to 3C of c_attn.bias, D of them for each head
h.{i}.attn.c_proj.weight
    head [h*D : (h+1)*D, :]; tl1 blocks.{i}.attn.W_O; tl3 blocks.{i}.attn.o.weight; paper W_O; words output matrix
    gguf blk.{i}.attn_output.weight; tf model/h{i}/attn/c_proj/w; llm.c attprojw
h.{i}.attn.c_proj.bias
    tl1 blocks.{i}.attn.b_O; tl3 blocks.{i}.attn.o.bias; gguf blk.{i}.attn_output.bias
    tf model/h{i}/attn/c_proj/b; llm.c attprojb; paper b_O; words output bias
h.{i}.ln_2.weight
    tl1 blocks.{i}.ln2.w; tl3 blocks.{i}.ln2.weight; gguf blk.{i}.ffn_norm.weight; tf model/h{i}/ln_2/g; llm.c ln2w
    words layer norm gain, gamma
h.{i}.ln_2.bias
    tl1 blocks.{i}.ln2.b; tl3 blocks.{i}.ln2.bias; gguf blk.{i}.ffn_norm.bias; tf model/h{i}/ln_2/b; llm.c ln2b
    words layer norm shift, beta
h.{i}.mlp.c_fc.weight
    tl1 blocks.{i}.mlp.W_in; tl3 blocks.{i}.mlp.in.weight; gguf blk.{i}.ffn_up.weight
    tf model/h{i}/mlp/c_fc/w; llm.c fcw; paper W_in
h.{i}.mlp.c_fc.bias
    tl1 blocks.{i}.mlp.b_in; tl3 blocks.{i}.mlp.in.bias; gguf blk.{i}.ffn_up.bias
    tf model/h{i}/mlp/c_fc/b; llm.c fcb; paper b_in
h.{i}.mlp.c_proj.weight
    tl1 blocks.{i}.mlp.W_out; tl3 blocks.{i}.mlp.out.weight; gguf blk.{i}.ffn_down.weight
    tf model/h{i}/mlp/c_proj/w; llm.c fcprojw; paper W_out
h.{i}.mlp.c_proj.bias
    tl1 blocks.{i}.mlp.b_out; tl3 blocks.{i}.mlp.out.bias; gguf blk.{i}.ffn_down.bias
    tf model/h{i}/mlp/c_proj/b; llm.c fcprojb; paper b_out
ln_f.weight
    tl1 ln_final.w; tl3 ln_final.weight; gguf output_norm.weight; tf model/ln_f/g; llm.c lnfw
    words final layer norm gain, gamma
ln_f.bias
    tl1 ln_final.b; tl3 ln_final.bias; gguf output_norm.bias; tf model/ln_f/b; llm.c lnfb
    words final layer norm shift, beta
lm_head.weight
    tl3 unembed.weight; hf lm_head.weight; gguf output.weight; words LM head, unembedding
lm_head.weight.T
    axes C V; tl1 unembed.W_U; paper W_U; words unembedding matrix
    is the LM head the other way round: a column per token
"""
PARAMETERS = {p.name: p for p in (*parameters.EMBEDDINGS, *parameters.BLOCK, *parameters.FINAL, parameters.LM_HEAD)}


@dataclass(frozen=True)
class Entry:
    """One tensor with all its names: a trace point, a parameter, or the part of a parameter that `index` cuts out."""

    tensor: activations.Point | parameters.Parameter
    names: dict  # {vocabulary: (name, ...)}
    index: str = ""  # as NumPy writes it, in our letters: "[:, C:2*C]"
    head: str = ""  # of a parameter: the index of what belongs to head h (0, 1 ...)

    @property
    def name(self):
        """Our name, with the index of a part."""
        return self.tensor.name + self.index

    @property
    def is_point(self):
        """True of a trace point, False of a parameter or a part of one."""
        return isinstance(self.tensor, activations.Point)

    def row(self, config=None, T="T"):
        """Return all there is to say, as a plain dict.

        config : gives sizes to the letters; without it `shape` is None.
        T : the number of tokens, of a pass without a cache; without it T and S stay letters.
        """
        t, S = self.tensor, "S" if T == "T" else T
        if self.is_point:
            kind, shape = "trace point", config and list(t.shape(config, T, S))
            t = replace(t, shapes=t.shapes.format(scale="scale", eps="eps"))
            more = {
                "equation": t.equation,
                "shapes": t.shapes_of(config, T, S).replace("'", "") if config else t.shapes,
                "notice": t.notice,
                "reads": [name.format(i="{i}", before="{i-1}", last="{n_layer-1}") for name in t.reads],
                "weights": list(t.weights),
                "where": t.where,
            }
        else:
            kind, shape = "part of a parameter" if self.index else "parameter", config and list(t.shape(config))
            head, readers = self.head and t.name + self.head, _readers(t.name, config)
            more = {"part": t.part, "purpose": t.purpose, "of head h": head, "read by": readers}
        return {"name": self.name, "kind": kind, "axes": t.axes, "shape": shape, **more, "names": self.names}


@functools.cache
def entries(block=None, config=None):
    """Return the Entry of every tensor, in the order of use: names with ``{i}``, or those of one block with its number.

    config : where it ties the LM head there is no lm_head.weight, and wte.weight has its names too.
    """
    rows = {}
    for row in re.split(r"\n(?! )", TABLE.strip()):
        if block is not None:
            if "{i}" not in row and not row.startswith(f"blocks.{block}."):
                continue
            row = row.replace("{i}", str(block))
        key, *others = (part.strip() for part in re.split(r"[;\n]", row))
        if config is not None and config.tie_word_embeddings:
            key = key.replace("lm_head.weight", "wte.weight")
        rows.setdefault(key, []).extend(others)
    return tuple(_entry(key, others, config) for key, others in rows.items())


def _entry(key, others, config):
    name, index = re.fullmatch(r"(.+?)(\[.*|\.T)?", key).groups("")
    if "hook_" in name:
        tensor = points.get(name, config)
        fields = {} if tensor.extra else {"tl1": name}
    else:
        tensor = PARAMETERS[re.sub(r"^h\.\d+\.", "h.{i}.", name)]
        fields = {} if index or name == "lm_head.weight" else {"hf": "transformer." + name}
    for item in others:
        keyword, text = item.split(" ", 1)
        fields[keyword] = f"{fields[keyword]}, {text}" if keyword in fields else text
    names = {v: tuple(fields[k].split(", ")) for k, (v, _) in VOCABULARIES.items() if k in fields}
    if "is" in fields:
        tensor = replace(tensor, axes=fields["axes"], purpose=fields["is"])
    tensor = replace(tensor, name=name)
    return Entry(tensor, names, index, fields.get("head", ""))


def _readers(name, config):
    """Return the trace points that read a parameter."""
    i = (re.findall(r"^h\.(\d+)\.", name) or ["{i}"])[0]
    found = (points.get(point.replace("{i}", i), config) for point in points.TEMPLATES)
    return [point.name for point in found if name in point.weights]
