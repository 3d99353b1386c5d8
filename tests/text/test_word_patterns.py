"""Words of any script stay whole."""

import re
import sys
import unicodedata

import pytest

from bayes_moe.text.corpus import Vocabulary
from bayes_moe.text.parallel_text import tokens
from bayes_moe.text.word_patterns import JOINERS, marks

NFD = unicodedata.normalize("NFD", "l'été")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी भाषा!", ["हिन्दी", "भाषा", "!"]),
        ("مَرْحَبًا", ["مَرْحَبًا"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("don't ’tis", ["don't", "’", "tis"]),
        (NFD, ["l'été"]),  # composed
        ("I ❤️ it", ["i", "❤️", "it"]),
    ],
)
def test_words_keep_their_marks(text, words):
    assert tokens(text) == words
    assert Vocabulary("word", True, ("<end>", "<unk>")).split(text) == words


def test_marks_are_those_of_unicode():
    pattern = re.compile(f"[{marks()}]")
    every = map(chr, range(0x300, sys.maxunicode + 1))
    expected = {c for c in every if unicodedata.category(c)[0] == "M"} | {*JOINERS}
    assert {c for c in map(chr, range(sys.maxunicode + 1)) if pattern.match(c)} == expected
