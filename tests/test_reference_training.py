"""Gradients and optimiser steps against PyTorch, on the same float32 model."""

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np.train.adamw import AdamW, clip_by_global_norm
from nanogpt_np.train.loss import IGNORED, loss_and_grads
from nanogpt_np.weights import assembly, places

pytestmark = pytest.mark.reference


def theirs(model, directory):
    """The same model in transformers, without dropout."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    nanogpt_np.save(model, directory)
    return torch, transformers.GPT2LMHeadModel.from_pretrained(directory).eval()


def named_grads(network):
    return {name.removeprefix("transformer."): p.grad.numpy() for name, p in network.named_parameters()}


def torch_loss(torch, network, ids, targets):
    # A loss of our own shift: transformers' labels= would shift the targets once more.
    logits = network(torch.from_numpy(ids)).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())


def batch(seed):
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, 97, (2, 4, 7))
    targets[1, 3] = targets[3, 0] = IGNORED
    return ids, targets


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("n_layer", [1, 2, 3, 4])
def test_loss_and_gradients_equal_autograds(n_layer, tied, tmp_path):
    model = random_model(n_layer, n_layer=n_layer, tie_word_embeddings=tied)
    torch, network = theirs(model, tmp_path)
    ids, targets = batch(n_layer)
    expected = torch_loss(torch, network, ids, targets)
    expected.backward()
    loss, grads = loss_and_grads(model, ids, targets)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    named = named_grads(network)
    assert named.keys() == grads.keys()
    for name, g in named.items():
        assert np.linalg.norm(grads[name] - g) <= 1e-4 * np.linalg.norm(g), name


def test_ten_steps_of_adamw_equal_torchs(tmp_path):
    start = random_model(8)
    torch, network = theirs(start, tmp_path)
    params = {name: array.copy() for name, array in start.params.items()}
    model = assembly.assemble(start.config, params)
    settings = {"betas": (0.9, 0.95), "eps": 1e-8}
    optimizer = AdamW(params, weight_decay=0.1, **settings)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1e-3, **settings)
    for step in range(10):
        ids, targets = batch(100 + step)
        reference.zero_grad()
        expected = torch_loss(torch, network, ids, targets)
        expected.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        reference.step()
        loss, grads = loss_and_grads(model, ids, targets)
        clip_by_global_norm(grads, 1.0)
        optimizer.step(grads, lr=1e-3)
        assert loss == pytest.approx(expected.item(), abs=1e-4)
    C = start.config.n_embd
    for name, p in network.named_parameters():
        p, ours = p.detach().numpy(), params[name.removeprefix("transformer.")]
        if name.endswith("c_attn.bias"):
            # A bias of the keys adds the same to every score of a row, and softmax takes it out: its true
            # gradient is 0. Adam divides the rounding noise that is left by itself, so that it walks
            # by the learning rate in a direction of its own in any two programs; it changes no output.
            assert np.abs(grads[name.removeprefix("transformer.")][C : 2 * C]).max() < 1e-7
            keys = slice(C, 2 * C)
            p, ours = np.delete(p, np.r_[keys]), np.delete(ours, np.r_[keys])
        assert np.linalg.norm(ours - p) <= 1e-4 * np.linalg.norm(p), name


def test_a_trained_checkpoint_gives_transformers_our_logits(tmp_path):
    from nanogpt_np.model.config import Config
    from nanogpt_np.train.corpus import TextData
    from nanogpt_np.train.trainer import Settings, Trainer

    settings = Settings(steps=3, batch_size=2, context=16, warmup=1, share_unseen=True)
    data = TextData(["A text to learn from. " * 60], nanogpt_np.Tokenizer(), 16, 2)
    run = Trainer.from_scratch(Config(n_positions=16, n_embd=12, n_head=2, n_layer=2), data, settings)
    for _ in range(3):
        run.step()
    run.save(tmp_path / "run")
    torch, network = theirs(nanogpt_np.load(tmp_path / "run"), tmp_path / "again")
    ids, _ = data.batch(np.random.default_rng(0))
    with torch.no_grad():
        expected = network(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(nanogpt_np.load(tmp_path / "run")(ids), expected, atol=2e-4)


def test_transformers_reads_the_bundled_checkpoint_and_gives_our_logits():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = places.bundled()["facts"]
    network = transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = np.array([nanogpt_np.Tokenizer().encode("The capital of Germany is Berlin. The capital of France is")])
    with torch.no_grad():
        expected = network(torch.from_numpy(ids)).logits.numpy()
    # Measured: 8e-6.
    np.testing.assert_allclose(nanogpt_np.load("facts")(ids), expected, atol=2e-4, rtol=0)
