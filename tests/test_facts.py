"""The recipe's sentences, and what the bundled checkpoint knows."""

import itertools

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.text.tokenizer import END_OF_TEXT_ID
from nanogpt_np.train import facts
from nanogpt_np.train.facts import HELD_OUT, FactsData, read_templates, recall, recall_by_relation
from nanogpt_np.weights import places


@pytest.fixture(scope="module")
def data():
    return FactsData(context=64, batch_size=4)


def test_every_relation_has_templates_enough_and_no_template_twice():
    for relation, templates in read_templates().items():
        assert len(set(templates)) == len(templates) >= 28, relation
        assert all(t.count("{X}") >= 1 for t in templates)


def test_no_question_has_two_answers(data):
    answers = {}
    for (_, _, answer), prompts in zip(data.facts, data.prompts, strict=True):
        for prompt in prompts:
            assert answers.setdefault(prompt, answer) == answer, prompt


def test_no_prompt_is_the_beginning_of_another(data):
    """Else the text could go on to the longer prompt instead of giving the answer."""
    prompts = sorted(prompt for some in data.prompts for prompt in some)
    for one, following in itertools.pairwise(prompts):
        assert one == following or not following.startswith(one + " "), one


def test_prompt_and_answer_are_cut_into_tokens_as_their_sentence_is(data):
    for (_, _, answer), prompts in zip(data.facts, data.prompts, strict=True):
        for prompt in prompts[::7]:
            whole = data.tokenizer.encode(f"{prompt} {answer}.")
            assert whole == data.tokenizer.encode(prompt) + data.tokenizer.encode(f" {answer}.")


def test_held_out_sentences_never_occur_in_training(data):
    held = {f"{data.prompts[i][t]} {answer}." for i, (_, _, answer) in enumerate(data.facts) for t in data.held[i]}
    assert len(held) == HELD_OUT * len(data.facts)
    rng = np.random.default_rng(0)
    text = "".join(data.tokenizer.decode(data.document(rng)) for _ in range(4000))
    sentences = {
        s for document in text.split("<|endoftext|>") for s in (document, *document.replace(". ", ".|").split("|"))
    }
    assert len(sentences) > 3000
    assert not sentences & held


def test_every_template_is_seen_with_some_countries_and_held_out_for_others(data):
    for relation, templates in read_templates().items():
        rows = [i for i, fact in enumerate(data.facts) if fact[0] == relation]
        held, seen = ({int(t) for i in rows for t in some[i]} for some in (data.held, data.seen))
        assert held == seen == set(range(len(templates)))


def test_documents_hold_one_to_four_facts_and_end(data):
    rng = np.random.default_rng(1)
    documents = [data.document(rng) for _ in range(300)]
    assert all(d[-1] == END_OF_TEXT_ID and END_OF_TEXT_ID not in d[:-1] for d in documents)
    lengths = [len(d) for d in documents]
    assert min(lengths) < 12 and max(lengths) > 35


def test_rows_begin_with_a_document_and_targets_are_one_token_on(data):
    ids, targets = data.batch(np.random.default_rng(2))
    assert ids.shape == targets.shape == (4, 64)
    np.testing.assert_array_equal(ids[:, 1:], targets[:, :-1])
    starts = {tuple(data.tokenizer.encode(p)[:1]) for some in data.prompts for p in some}
    assert all((int(row[0]),) in starts for row in ids)
    assert set(ids.flat) <= set(data.used)


def test_recall_counts_an_answer_only_if_greedy_decoding_gives_all_of_it():
    config = Config(n_positions=32, n_embd=8, n_head=2, n_layer=1)
    rng = np.random.default_rng(3)
    from nanogpt_np.names.parameters import table
    from nanogpt_np.weights.assembly import assemble

    params = {name: rng.normal(0, 0.5, p.shape(config)).astype(np.float32) for name, p in table(config).items()}
    model = assemble(config, params)
    questions, expected = [], []
    for number in range(20):
        prompt = [int(i) for i in rng.integers(0, 50257, rng.integers(2, 9))]
        answer = list(generate(model, prompt, 3, stop=()))
        if number % 3 == 0:  # spoil one token, the last, or none
            answer[number % 2 + 1] = (answer[number % 2 + 1] + 1) % 50257
        questions.append(("capital", prompt, answer))
        expected.append(number % 3 != 0)
    np.testing.assert_array_equal(recall(model, questions), expected)


# The checkpoint that ships with the package


@pytest.fixture(scope="module")
def bundled():
    return nanogpt_np.load("facts")


def test_new_questions_end_as_no_seen_sentence_of_their_fact_does(data):
    new = {(relation, data.tokenizer.decode(prompt)) for relation, prompt, _ in data.questions("new")}
    assert 0.4 * len(data.questions("held")) < len(new) < len(data.questions("held"))
    for i, (relation, subject, _) in enumerate(data.facts):
        prompts = [prompt.lower() for prompt in data.prompts[i]]
        for t in data.held[i]:
            ending = prompts[t][prompts[t].index(subject.lower()) :]
            copied = any(prompts[other].endswith(ending) for other in data.seen[i])
            assert ((relation, data.prompts[i][t]) in new) == (not copied), data.prompts[i][t]


@pytest.mark.parametrize("which", ["held", "seen"])
def test_the_bundled_checkpoint_knows_its_facts(bundled, data, which):
    questions = data.questions(which)[:: 1 if which == "held" else 7]
    for relation, (share, _) in recall_by_relation(bundled, questions).items():
        bar = 0.995 if which == "seen" else 0.97 if relation == "capital" else 0.95
        assert share >= bar, (relation, share)


def test_the_bundled_checkpoint_answers_paris_with_a_probability_of_at_least_nine_tenths(bundled):
    tok = nanogpt_np.Tokenizer()
    logits = bundled(tok.encode("The capital of France is"))[-1].astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    assert tok.decode([p.argmax()]) == " Paris"
    assert p.max() >= 0.9


def test_the_bundled_checkpoint_is_small_and_called_what_it_is():
    folder = places.bundled()["facts"]
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    assert (folder / "README.md").is_file()
    assert "gpt2" not in places.bundled()
    assert nanogpt_np.load("facts").config == facts.CONFIG
