"""Texts as codes: vocabulary, streams with boundaries, and folds of documents."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayes_moe as bm
from bayes_moe.text.corpus import Vocabulary, as_documents, folds_of, stream_of, whole


def test_documents_of_every_kind():
    assert as_documents("ab") == {0: "ab"}
    assert as_documents(["ab", "c"]) == {0: "ab", 1: "c"}
    assert as_documents({"one": "ab"}) == {"one": "ab"}
    assert as_documents(np.array(["ab"], dtype=object)) == {0: "ab"}
    assert as_documents(pl.Series(["ab", "c"])) == {0: "ab", 1: "c"}
    assert as_documents(text for text in ("ab", "c")) == {0: "ab", 1: "c"}
    assert as_documents(pd.Series(["ab", "c"], index=[7, 3])) == {0: "ab", 1: "c"}
    assert as_documents(pd.Series(["ab", "c"], index=["x", "y"])) == {"x": "ab", "y": "c"}


@pytest.mark.parametrize(
    ("corpus", "words"),
    [
        (3, "must be a text, a list, column"),
        (pd.DataFrame({"a": ["ab"]}), "it is DataFrame"),
        (pl.DataFrame({"a": ["ab"]}), "it is DataFrame"),
        ({"ab", "c"}, "it is set"),
        (b"ab", "it is bytes"),
        (np.array([["ab"]]), "it is ndarray"),
        (pd.Series(["ab", "c"], index=["x", "x"]), "several documents of the title 'x'"),
        (pd.Series(["ab", None]), "document 1 of `corpus` is no text"),
        ([], "has no documents"),
        (["a", 3], "document 1 of `corpus` is no text"),
        ({"one": " \n"}, "document 'one' of `corpus` is empty"),
    ],
)
def test_other_documents_are_refused(corpus, words):
    with pytest.raises(bm.DataError, match=words):
        as_documents(corpus)


def test_words_and_rare_ones():
    documents = {0: "To be, or not to be: that's it. That's all"}
    found = Vocabulary.of(documents, "word", 2, True)
    assert found.tokens == ("<end>", "<unk>", "be", "that's", "to")
    assert found.encode("TO be, that's").tolist() == [4, 2, 1, 3]
    assert found.continued("", ["a", ",", "b", "."]) == "a, b."
    letters = Vocabulary.of({0: "aba"}, "char", 1, False)
    assert letters.encode("abz").tolist() == [2, 3, 1]


@pytest.mark.parametrize(
    ("level", "text", "lengths"),
    [
        ("char", "İa", [1, 0, 1, 1]),  # two characters in lower case
        ("word", "İn  a.", [2, 3, 1, 1]),
        ("word", "e\u0301te\u0301", [3, 1]),  # composed
        ("word", "  ", [3]),
    ],
)
def test_characters_are_the_text_s_own(level, text, lengths):
    found = Vocabulary.of({0: text}, level, 1, True)
    assert found.lengths(text).tolist() == lengths
    assert len(found.encode(text)) + 1 == len(lengths)


def test_decomposed_texts_are_the_same_tokens():
    found = Vocabulary.of({0: "e\u0301te\u0301"}, "char", 1, False)
    assert found.tokens[2:] == ("t", "é")
    assert found.encode("été").tolist() == found.encode("e\u0301te\u0301").tolist() == [3, 2, 3]


def test_continued_texts_are_kept_as_they_are():
    words = Vocabulary("word", False, ("<end>", "<unk>"))
    assert words.continued("He said : 'go", ["!", "'", "now"]) == "He said : 'go! ' now"
    assert words.continued("one\n", ["two", ")"]) == "one\ntwo)"
    assert words.continued("one", []) == "one"
    assert words.continued("one", ["’", "two"]) == "one ’ two"
    assert Vocabulary("char", False, ("<end>", "<unk>")).continued("a ", [".", "b"]) == "a .b"


def test_streams_begin_and_end_with_boundaries():
    found = stream_of([whole(np.array([2, 3])), whole(np.array([4]))])
    assert found.codes.tolist() == [0, 2, 3, 0, 0, 4, 0]
    assert found.predicted.tolist() == [False, True, True, True, False, True, True]
    assert np.flatnonzero(found.first).tolist() == [0, 4]


def test_folds_have_every_token_once():
    documents = [np.full(n, n) for n in (50, 40, 30, 20, 10, 5)]
    folds = folds_of(documents, 3, 2)
    assert sorted(len(p.codes) for fold in folds for p in fold) == [5, 10, 20, 30, 40, 50]
    assert max(sum(len(p.codes) for p in fold) for fold in folds) <= 60


def test_a_single_document_is_cut_into_pieces_with_context():
    folds = folds_of([np.arange(2, 12)], 5, 3)
    assert np.concatenate([p.codes for fold in folds for p in fold]).tolist() == [*range(2, 12)]
    assert folds[2][0].before.tolist() == [3, 4, 5]
    assert [fold[0].ends for fold in folds] == [False] * 4 + [True]
    found = stream_of(folds[1])
    assert found.codes[~found.predicted].tolist() == [0, 2, 3]
