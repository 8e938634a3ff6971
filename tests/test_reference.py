"""Live comparison with transformers: GPT-2's full shape with random weights, and every kind of checkpoint it writes.

    pytest -m reference tests/test_reference.py    # pip install -e '.[reference]'; 2 minutes, 4 GB, 1.5 GB of disk

Random weights are the harder test of arithmetic: sharp attention, biases and gains everywhere
(helpers.py). That the published weights are read is tested where they are (test_published.py).
"""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import SIZES, random_model, random_parameter

import nanogpt_np
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.names import parameters
from nanogpt_np.weights import checkpoint, tensors

pytestmark = pytest.mark.reference
ATOL = 2e-4  # on logits up to 18; measured: 2.7e-5
RTOL = 1e-4  # on hidden states; measured: 3e-6
PROMPT = [464, 3139, 286, 4881, 318]  # The capital of France is


@pytest.fixture(scope="session")
def torch():
    return pytest.importorskip("torch", reason="pip install -e '.[reference]'")


@pytest.fixture(scope="session")
def transformers(torch):
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.fixture
def folder(tmp_path):
    """A folder for big files, deleted at once: pytest keeps those of three runs."""
    yield tmp_path / "model"
    shutil.rmtree(tmp_path / "model")


def random_gpt2(torch, transformers, seed=0, **config_fields):
    """Build a GPT2LMHeadModel with the random weights of helpers.py."""
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config_fields)).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.from_numpy(random_parameter(name, tuple(tensor.shape), rng)))
    return model


def run(torch, model, ids, **options):
    """ids -> the outputs of a torch model, in its batch form."""
    with torch.no_grad():
        return model(torch.from_numpy(np.atleast_2d(ids)), **options)


def distance(actual, expected):
    """Return the largest difference of our logits and those of a torch model."""
    expected = expected.numpy().reshape(actual.shape)
    assert actual.dtype == expected.dtype == np.float32
    return float(abs(actual - expected).max())


def same_logits(torch, theirs, ours, ids):
    return distance(ours(ids), run(torch, theirs, ids).logits) < ATOL


def some_ids(*shape, seed=7, below=50257):
    return np.random.default_rng(seed).integers(0, below, shape)


# ---- The full shape of gpt2 ----


@pytest.fixture(scope="module")
def float32(torch, transformers, tmp_path_factory):
    """A directory with 124,439,808 random parameters, written by transformers."""
    directory = tmp_path_factory.mktemp("full") / "float32"
    model = random_gpt2(torch, transformers)
    model.save_pretrained(directory)
    del model
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16", "shards"])
def full(torch, transformers, float32, tmp_path_factory, request):
    """(transformers' model in float32, ours), both loaded from the same files of 124,439,808 parameters."""
    directory = float32
    if request.param != "float32":
        directory = tmp_path_factory.mktemp("full") / request.param
        dtype, shard = {"shards": (torch.float32, "150MB")}.get(request.param, (request.param, "50GB"))
        model = transformers.GPT2LMHeadModel.from_pretrained(float32, dtype=dtype)
        model.save_pretrained(directory, max_shard_size=shard)
        del model
        assert (directory / tensors.INDEX).exists() == (request.param == "shards")
        assert len(list(directory.glob("*.safetensors"))) == (4 if request.param == "shards" else 1)
    kinds = {stored.dtype for stored in tensors.stored_tensors(directory).values()}
    assert kinds == {{"float16": "F16", "bfloat16": "BF16"}.get(request.param, "F32")}
    theirs = transformers.GPT2LMHeadModel.from_pretrained(directory).float().eval()
    yield theirs, nanogpt_np.load(directory)
    if directory != float32:
        shutil.rmtree(directory)


@pytest.mark.parametrize("shape", [(1,), (5,), (1023,), (3, 17)])
def test_logits_and_hidden_states_are_those_of_transformers_whatever_the_file_holds(torch, full, shape):
    theirs, ours = full
    ids = some_ids(*shape)
    acts = {}

    def keep(name, x):
        if name.endswith("hook_resid_pre") or name == "ln_final.hook_output":
            acts[name] = x
        return x

    logits = ours(ids, trace=keep)
    expected = run(torch, theirs, ids, output_hidden_states=True)
    assert distance(logits, expected.logits) < ATOL
    assert len(expected.hidden_states) == len(acts) == ours.config.n_layer + 1
    for (name, actual), state in zip(acts.items(), expected.hidden_states, strict=True):
        state = state.numpy().reshape(actual.shape)
        # Relative: the length of the difference of each token's vectors, by the length of the vector.
        off = np.linalg.norm(actual - state, axis=-1) / np.linalg.norm(state, axis=-1)
        assert off.max() < RTOL, name


def test_the_full_context_through_a_cache_has_the_logits_of_transformers(torch, transformers, float32):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(float32).eval()
    ours = nanogpt_np.load(float32)
    ids = some_ids(1024)
    cache = nanogpt_np.KVCache(ours.config)
    for part in np.split(ids, [700, 1000, 1001, 1002]):
        last = ours.hidden(part, cache=cache)
    expected = run(torch, theirs, ids, logits_to_keep=len(last)).logits
    assert distance(ours.lm_head(last), expected) < ATOL


def test_64_greedy_tokens_are_those_of_transformers_with_and_without_the_cache(torch, transformers, float32):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(float32).eval()
    theirs.generation_config.eos_token_id = None  # 64 tokens, whatever they are
    theirs.generation_config.pad_token_id = 0
    prompt = torch.tensor([PROMPT])
    out = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),  # else it takes ids that equal pad_token_id for padding
        max_new_tokens=64,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    expected = out.sequences[0, len(PROMPT) :].tolist()
    first, second = torch.stack(out.logits)[:, 0].topk(2).values.unbind(-1)
    assert (first - second).min() > 1e-3  # 5 times what the logits may differ by: no step is a coin toss
    assert len(set(expected)) >= 10  # and it is no loop of one token
    ours = nanogpt_np.load(float32)
    assert list(generate(ours, PROMPT, 64, stop=())) == expected
    assert list(generate(ours, PROMPT, 64, stop=(), use_cache=False)) == expected


# ---- What we save, transformers reads ----


def reload(transformers, directory):
    """Have transformers load a directory, and refuse if any name in it is missing, unknown or of another shape."""
    model, info = transformers.GPT2LMHeadModel.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_reads_what_we_save_as_the_same_model(torch, transformers, tmp_path, tied):
    ours = random_model(tie_word_embeddings=tied, layer_norm_epsilon=1e-4, scale_attn_by_inverse_layer_idx=True)
    nanogpt_np.save(ours, tmp_path)
    theirs = reload(transformers, tmp_path)
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == tied
    assert same_logits(torch, theirs, ours, some_ids(2, 11, below=97))


def test_transformers_reads_what_we_save_of_its_own_full_model_bit_for_bit(torch, transformers, float32, folder):
    nanogpt_np.save(nanogpt_np.load(float32), folder)
    original = transformers.GPT2LMHeadModel.from_pretrained(float32).state_dict()
    saved = reload(transformers, folder).state_dict()
    assert original.keys() == saved.keys()
    for name, tensor in original.items():
        assert torch.equal(tensor, saved[name]), name


def test_transformers_reads_what_we_save_in_float16_as_the_model_that_we_then_load(torch, transformers, tmp_path):
    nanogpt_np.save(random_model(), tmp_path, dtype=np.float16)
    theirs = reload(transformers, tmp_path)
    assert theirs.dtype == torch.float16  # config.json says so, too
    assert same_logits(torch, theirs.float(), nanogpt_np.load(tmp_path), some_ids(2, 11, below=97))


# ---- Checkpoints that are not as one expects ----


@pytest.fixture
def small(torch, transformers):
    return random_gpt2(torch, transformers, **SIZES)


def rewrite(directory, change):
    """Replace the tensors of a directory by ``change(tensors)``."""
    from safetensors.numpy import load_file, save_file

    path = directory / tensors.SINGLE
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def edit_config(directory, **values):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# What transformers 5 does: where both matrices are in the file and differ, it keeps both, whatever
# config.json says (and warns); where they are equal, or one is missing, config.json decides.
@pytest.mark.parametrize("config_says", [True, False])
@pytest.mark.parametrize("head", ["another", "the same"])
def test_a_head_in_the_file_is_used_as_transformers_uses_it(torch, transformers, small, tmp_path, config_says, head):
    small.save_pretrained(tmp_path)
    wte = small.transformer.wte.weight.detach().numpy()
    written = np.roll(wte, 1, axis=0) if head == "another" else wte.copy()
    rewrite(tmp_path, lambda tensors: tensors | {"lm_head.weight": written})
    edit_config(tmp_path, tie_word_embeddings=config_says)
    theirs = reload(transformers, tmp_path)
    assert torch.equal(theirs.lm_head.weight, torch.from_numpy(written))
    ours = nanogpt_np.load(tmp_path)
    assert same_logits(torch, theirs, ours, some_ids(2, 11, below=97))
    assert ours.config.tie_word_embeddings == (head == "the same")


def test_the_two_heads_of_the_test_before_have_different_logits(small):
    wte = small.transformer.wte.weight.detach().numpy()
    ours = random_model()
    other = replace(ours, lm_head=replace(ours.lm_head, weight=np.roll(wte, 1, axis=0)))
    assert abs(other(some_ids(11, below=97)) - ours(some_ids(11, below=97))).max() > 1


def test_a_head_that_config_says_is_not_tied_must_be_in_the_file(small, tmp_path):
    # transformers makes a random one, and logs that it did.
    small.save_pretrained(tmp_path)
    edit_config(tmp_path, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"lm_head\.weight is missing"):
        nanogpt_np.load(tmp_path)


def test_a_resized_vocabulary_has_the_logits_of_transformers(torch, transformers, tmp_path):
    theirs = random_gpt2(torch, transformers, **{**SIZES, "vocab_size": 50257})
    theirs.resize_token_embeddings(50300, mean_resizing=False)
    theirs.save_pretrained(tmp_path)
    ours = nanogpt_np.load(tmp_path)
    assert ours.config.vocab_size == 50300
    ids = np.append(some_ids(10), 50299)
    assert ours(ids).shape == (11, 50300)
    assert same_logits(torch, theirs, ours, ids)


def test_a_model_without_its_head_and_prefix_has_the_logits_of_transformers(torch, transformers, small, tmp_path):
    small.transformer.save_pretrained(tmp_path)
    stored = tensors.stored_tensors(tmp_path)
    assert "wte.weight" in stored  # not transformer.wte.weight
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    assert same_logits(torch, theirs, nanogpt_np.load(tmp_path), some_ids(2, 11, below=97))


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_mask_buffers_in_the_file_change_nothing(torch, small, tmp_path, prefix):
    small.save_pretrained(tmp_path)
    P = small.config.n_positions
    masks = {}
    for i in range(small.config.n_layer):
        masks[f"{prefix}h.{i}.attn.bias"] = np.tri(P, dtype=np.float32).reshape(1, 1, P, P)
        masks[f"{prefix}h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)

    def with_masks(tensors):
        return {prefix + name.removeprefix("transformer."): array for name, array in tensors.items()} | masks

    rewrite(tmp_path, with_masks)
    ours = nanogpt_np.load(tmp_path)
    assert not {name.removeprefix(prefix) for name in masks} & ours.params.keys()
    assert ours.params["h.1.attn.c_attn.bias"].shape == (90,)  # it also ends in attn.bias
    assert same_logits(torch, small, ours, some_ids(2, 11, below=97))


def write_published_layout(path, tensors, header_bytes):
    """Write safetensors with a header of just that length: no padding, so that no tensor is aligned.

    The tensors stand in neither the order of their names nor that of the layers.
    """
    names = sorted(tensors)
    np.random.default_rng(0).shuffle(names)
    names.sort(key=lambda name: tensors[name].nbytes)  # smallest first: small offsets make a short header
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": "F32", "shape": tensors[name].shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    assert len(encoded) <= header_bytes
    with path.open("wb") as file:
        file.write(header_bytes.to_bytes(8, "little") + encoded.ljust(header_bytes))
        for name in names:
            file.write(tensors[name].tobytes())


def test_the_published_layout_is_read_aligned_and_its_masks_not_at_all(
    torch, transformers, float32, folder, monkeypatch
):
    theirs = transformers.GPT2LMHeadModel.from_pretrained(float32).eval()
    theirs_by_name = {name: tensor.numpy() for name, tensor in theirs.transformer.state_dict().items()}
    assert len(theirs_by_name) == 148
    mask = np.full((1, 1, 1024, 1024), np.nan, np.float32)
    published = theirs_by_name | {f"h.{i}.attn.bias": mask for i in range(12)}
    folder.mkdir()
    shutil.copy(float32 / "config.json", folder)
    write_published_layout(folder / tensors.SINGLE, published, header_bytes=14283)
    assert (folder / tensors.SINGLE).stat().st_size == 548_105_171  # that of the published file
    stored = tensors.stored_tensors(folder)
    assert len(stored) == 160
    assert all(s.start % 4 == 3 for s in stored.values())
    assert list(stored) != sorted(stored)

    asked_for = []
    monkeypatch.setattr(checkpoint, "read_tensors", lambda s, c: asked_for.extend(s) or tensors.read_tensors(s, c))
    ours = nanogpt_np.load(folder)
    assert asked_for == list(parameters.table(Config()))
    for name, array in ours.params.items():
        assert array.ctypes.data % 4 == 0, name
        assert array.flags.aligned, name
        assert array.flags.f_contiguous if name.endswith("mlp.c_proj.weight") else array.flags.c_contiguous, name
    assert sum(math.prod(array.shape) for array in ours.params.values()) == 124_439_808
    assert same_logits(torch, theirs, ours, some_ids(17))
