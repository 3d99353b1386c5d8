"""Tokens, vocabularies, and bad input of parallel texts."""

import unicodedata

import numpy as np
import pytest

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.text.parallel_text import ParallelText, tokens


def test_words_are_in_lower_case_and_punctuation_is_apart():
    assert tokens("Don't go; twenty-three (Fünf)!") == [
        "don't", "go", ";", "twenty-three", "(", "fünf", ")", "!",
    ]  # fmt: skip
    # Composed and decomposed letters are one word.
    assert tokens("fu\u0308nf") == ["fünf"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा", "।"]),  # vowel signs and virama
        ("שָׁלוֹם, עולם", ["שָׁלוֹם", ",", "עולם"]),  # points
        ("x\u0302-q\u0302's", ["x\u0302-q\u0302's"]),  # without composed letters
        ("می\u200cخواهم", ["می\u200cخواهم"]),  # a joiner
        ("İzmir!", ["i\u0307zmir", "!"]),  # lower case adds a mark
        ("a !\u0301", ["a", "!\u0301"]),  # a mark after no word
        ("λόγος, слово 語", ["λόγος", ",", "слово", "語"]),
    ],
)
def test_combining_marks_stay_in_their_words(text, words):
    assert tokens(text) == words


def test_all_marks_of_unicode_are_known():
    marks = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
    found = tokens(" ".join(f"q{mark}q" for mark in marks))
    assert len(found) == len(marks)


def test_lists_of_words_are_taken_as_they_are():
    text = ParallelText.read([["New York", "B"], "a b"], [["X."], ["X.", "y"]])
    assert text.source.words == ("New York", "B", "a", "b")
    assert text.words(1) == (["a", "b"], ["X.", "y"])
    assert [s.tolist() for s in text.pairs.source] == [[1, 2], [3, 4]]


def test_unknown_words_have_the_next_number():
    text = ParallelText.read(["a b"], ["x"])
    pairs, words = text.numbers(["b q"], ["y x"])
    assert pairs.source[0].tolist() == [2, 3]
    assert pairs.target[0].tolist() == [1, 0]
    assert words == [[["b", "q"]], [["y", "x"]]]


def test_a_tokenizer_of_the_user_is_used():
    text = ParallelText.read(np.array(["A b"]), ["X"], tokenizer=list)
    assert text.source.words == ("A", " ", "b")
    with pytest.raises(SpecError, match="`tokenizer` must be a function"):
        ParallelText.read(["a"], ["b"], tokenizer="words")


@pytest.mark.parametrize("made", [None, 3, "a b", b"a b", [1], ["a", None]])
def test_what_a_tokenizer_must_return_is_said(made):
    with pytest.raises(DataError, match=r"Sentence 1 of `source`.*`tokenizer`"):
        ParallelText.read(["a", "b"], ["x", "y"], lambda text: made if text == "b" else [text])


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a b", ["x"], "`source` must be a list of sentences"),
        (["a"], ["x", "y"], "they have 1 and 2"),
        ([], [], "have no sentence"),
        (["a", " "], ["x", "y"], "Sentence 1 of `source` has no word"),
        (["a"], [["x", 3]], "Sentence 0 of `target` must have texts as words"),
        (["a"], [None], "Sentence 0 of `target` must be a text or a list of words"),
    ],
)
def test_bad_texts_are_named(source, target, message):
    with pytest.raises(DataError, match=message):
        ParallelText.read(source, target)
