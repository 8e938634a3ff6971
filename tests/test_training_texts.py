"""What people give a run to learn from: byte order marks, empty files, <|endoftext|>, models of a short context."""

import os

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.text.tokenizer import END_OF_TEXT_ID
from nanogpt_np.train.corpus import TextData, read_texts
from nanogpt_np.train.loop import make_data
from nanogpt_np.train.settings import Settings
from nanogpt_np.train.state import STATE, read_state

TEXT = "".join(f"The number after {n} is {n + 1}. " for n in range(60))
TINY = ["--layers", "1", "--heads", "2", "--width", "6", "--context", "8", "--batch-size", "3", "--share-unseen"]
TINY += ["--steps", "2"]
TOKENIZER = nanogpt_np.Tokenizer()
BOM = b"\xef\xbb\xbf"


def data_of(folder, *names, **settings):
    s = Settings(context=8, batch_size=3, source={"texts": [str(folder / name) for name in names]}, **settings)
    return make_data(s)


def ids_of(data):
    return [*data.train, *data.tail]


# --- byte order marks ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TEXT, "é" + TEXT, "\n" + TEXT, "\ufeff" + TEXT])
def test_a_byte_order_mark_is_no_part_of_the_text(text, tmp_path):
    (tmp_path / "plain.txt").write_bytes(text.encode())
    (tmp_path / "marked.txt").write_bytes(BOM + text.encode())
    assert read_texts([tmp_path / "marked.txt"]) == [text]  # one mark, not a second one
    if not text.startswith("\ufeff"):
        assert data_of(tmp_path, "marked.txt").digest == data_of(tmp_path, "plain.txt").digest


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"])
def test_the_mark_of_another_encoding_is_still_refused(mark, tmp_path):
    (tmp_path / "wide.txt").write_bytes(mark + TEXT.encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"wide\.txt is not UTF-8 text"):
        read_texts([tmp_path / "wide.txt"])


# --- empty files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [b"", BOM])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.txt"], "skipped 1 empty file: {}/a.txt"),
        (["deep/er/a.md"], "skipped 1 empty file: {}/deep/er/a.md"),
        (["a.txt", "b.md", "c.txt"], "skipped 3 empty files: {0}/a.txt, {0}/b.md, {0}/c.txt"),
        ([f"{n}.txt" for n in range(10, 99)], "skipped 89 empty files: {0}/10.txt, {0}/11.txt, {0}/12.txt and 86 more"),
    ],
)
def test_an_empty_file_of_a_folder_is_skipped_and_named_once(empty, names, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in names:
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_bytes(empty)
    (tmp_path / "texts" / "full.txt").write_text(TEXT)
    reported = []
    assert read_texts(["texts"], reported.append) == [TEXT] == read_texts(["texts"])
    assert reported == [said.format("texts").replace("/", os.sep)]
    if len(names) == 1:
        assert main(["train", "texts", "--out", "out", *TINY]) == 0
        assert capsys.readouterr().err.count("skipped") == 1
        assert main(["train", "--resume", "out"]) == 0  # what was skipped is no part of the data
        assert capsys.readouterr().err.count("skipped") == 1


@pytest.mark.parametrize("empty", [b"", BOM])
def test_only_empty_files_or_an_empty_one_given_by_name_are_an_error(empty, tmp_path, capsys):
    for name in ("texts/a.txt", "texts/b.md", "one/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(empty)
    (tmp_path / "full.txt").write_text(TEXT)
    for given, words in (
        (["texts"], "holds only empty files"),
        (["one"], "holds only empty files"),
        (["full.txt", "texts"], "holds only empty files"),
        (["texts/a.txt"], "a.txt is empty"),
        (["full.txt", "texts/b.md"], "b.md is empty"),
    ):
        assert main(["train", *(str(tmp_path / name) for name in given), "--out", str(tmp_path / "out"), *TINY]) == 1
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1 and not (tmp_path / "out").exists()


# --- <|endoftext|> in a text ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a b<|endoftext|>c d", "<|endoftext|>" + TEXT, "x<|endoftext|><|endoftext|>y" * 5])
def test_the_end_of_text_in_a_text_is_that_token_with_special_only(text):
    plain, special = (ids_of(TextData([text, "more"], TOKENIZER, 2, 1, special=s)) for s in (False, True))
    assert plain == [*TOKENIZER.encode(text), END_OF_TEXT_ID, *TOKENIZER.encode("more"), END_OF_TEXT_ID]
    assert special == [*TOKENIZER.encode(text, special=True), END_OF_TEXT_ID, *TOKENIZER.encode("more"), END_OF_TEXT_ID]
    assert special.count(END_OF_TEXT_ID) == 2 + text.count("<|endoftext|>") and plain.count(END_OF_TEXT_ID) == 2
    assert TOKENIZER.decode(plain) == TOKENIZER.decode(special)


@pytest.mark.parametrize("texts", [["one two<|endoftext|>", "three"], ["one two", "three<|endoftext|>"]])
def test_a_text_that_ends_with_a_separator_gets_no_second_one(texts):
    without = [text.removesuffix("<|endoftext|>") for text in texts]
    assert ids_of(TextData(texts, TOKENIZER, 2, 1, special=True)) == ids_of(TextData(without, TOKENIZER, 2, 1))


@pytest.mark.parametrize(("count", "said"), [(0, None), (1, "once"), (2, "2 times"), (1234, "1,234 times")])
def test_the_command_says_once_that_the_text_contains_it(count, said, tmp_path, capsys):
    (tmp_path / "a.txt").write_text(TEXT + "<|endoftext|>x" * (count // 2))
    (tmp_path / "b.txt").write_text(TEXT + "<|endoftext|>x" * (count - count // 2))
    flags = ["train", str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), *TINY]
    assert main([*flags, "--out", str(tmp_path / "plain")]) == 0
    err = capsys.readouterr().err
    assert err.count("<|endoftext|>") == (said is not None) and (said is None or (said in err and "--special" in err))
    assert main([*flags, "--out", str(tmp_path / "special"), "--special"]) == 0
    assert "<|endoftext|>" not in capsys.readouterr().err
    digests = [read_state(tmp_path / name).about["data"] for name in ("plain", "special")]
    assert (digests[0] == digests[1]) == (count == 0)


def test_a_run_with_special_is_resumed_with_it_to_the_same_end(tmp_path):
    (tmp_path / "a.txt").write_text((TEXT + "<|endoftext|>") * 2)
    for name, steps in (("whole", ["--steps", "4"]), ("cut", [])):
        assert main(["train", str(tmp_path / "a.txt"), "--out", str(tmp_path / name), *TINY, *steps, "--special"]) == 0
    assert main(["train", "--resume", str(tmp_path / "cut"), "--steps", "4"]) == 0
    about = [read_state(tmp_path / name).about for name in ("whole", "cut")]
    assert about[0]["data"] == about[1]["data"] and about[0]["rng"] == about[1]["rng"]
    assert all(one["settings"]["special"] is True for one in about)


def test_the_prompt_of_a_sample_is_read_as_the_texts_are(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(TEXT)
    flags = ["train", str(tmp_path / "a.txt"), *TINY, "--sample", "<|endoftext|>" * 3]
    assert main([*flags, "--out", str(tmp_path / "plain")]) == 1  # as text it is longer than the context
    assert "19 tokens are more" in capsys.readouterr().err
    assert main([*flags, "--out", str(tmp_path / "special"), "--special"]) == 0


# --- the context of a model ----------------------------------------------------------------------


@pytest.mark.parametrize(("positions", "context"), [(12, 12), (255, 255), (256, 256), (300, 256)])
def test_fine_tuning_takes_the_context_of_the_model_up_to_256(positions, context, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    config = {"vocab_size": 50257, "n_positions": positions, "n_embd": 6, "n_head": 2, "n_layer": 1}
    nanogpt_np.save(random_model(1, **config), tmp_path / "start")
    flags = ["--steps", "1", "--batch-size", "1", "--model", str(tmp_path / "start"), "--out", str(tmp_path / "out")]
    assert main(["train", str(tmp_path / "a.txt"), *flags]) == 0
    assert read_state(tmp_path / "out").about["settings"]["context"] == context
    assert nanogpt_np.load(tmp_path / "out").config.n_positions == positions


def test_the_bundled_model_is_fine_tuned_with_the_defaults(tmp_path, capsys):
    (tmp_path / "a.txt").write_text(TEXT)
    flags = ["--model", "facts", "--out", str(tmp_path / "out"), "--steps", "2", "--batch-size", "2"]
    assert main(["train", str(tmp_path / "a.txt"), *flags]) == 0
    assert read_state(tmp_path / "out").about["settings"]["context"] == 128 and (tmp_path / "out" / STATE).is_file()
    before, after = nanogpt_np.load("facts"), nanogpt_np.load(tmp_path / "out")
    assert not np.array_equal(before.params["ln_f.weight"], after.params["ln_f.weight"])
    capsys.readouterr()
    assert main(["train", str(tmp_path / "a.txt"), "--model", "facts", "--out", "o", "--context", "129"]) == 1
    assert "--context 129 is more than the 128 of facts" in capsys.readouterr().err
