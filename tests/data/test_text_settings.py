"""Settings of text terms."""

import pytest

from bayes_moe.core.errors import SpecError
from bayes_moe.data.text_settings import TextSettings


def test_defaults():
    assert TextSettings.of({}, "t") == TextSettings()
    assert TextSettings.of({"components": None, "min_df": None}, "t") == TextSettings()
    assert TextSettings().sublinear
    assert not TextSettings.of({"weighting": "count"}, "t").sublinear
    assert TextSettings.of({"weighting": "count", "sublinear": True}, "t").sublinear


def test_values_are_read():
    found = TextSettings.of({"ngrams": [1, 3], "stop_words": ["a", "b"], "components": 5}, "t")
    assert found.ngrams == (1, 3)
    assert found.stop_words == ("a", "b")
    assert found.of_terms == TextSettings(ngrams=(1, 3), stop_words=("a", "b"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"components": 0}, "'components' of t must be a whole number from 1 to 1000; it is 0"),
        ({"components": True}, "must be a whole number"),
        ({"ngrams": "1-2"}, r"two such as \(1, 2\), from 1 to 20; it is '1-2'"),
        ({"ngrams": (2, 1)}, "'ngrams' of t must be"),
        ({"ngrams": (1, 2, 3)}, "'ngrams' of t must be"),
        ({"min_df": 1.5}, "a number of rows from 1, or a share"),
        ({"max_df": 0}, "'max_df' of t"),
        ({"max_terms": 0}, "'max_terms' of t"),
        ({"lowercase": 1}, "'lowercase' of t must be True or False"),
        ({"analyzer": "words"}, "Unknown 'analyzer' of t 'words'. Did you mean 'word'"),
        ({"weighting": "tf"}, "Unknown 'weighting' of t 'tf'"),
        ({"hashing": 2**30}, "from 1 to 1048576"),
        ({"stop_words": "german"}, "'english', or a list of words"),
        ({"stop_words": [1]}, "'english', or a list of words"),
        ({"hashing": 8, "min_df": 2}, "t has hashing= and min_df="),
        ({"hashing": 8, "max_terms": 2}, "t has hashing= and max_terms="),
        ({"hashing": 8, "components": 9}, "components=9 of hashing=8 numbers"),
        ({"analyzer": "char", "stop_words": "english"}, "only words are left out"),
        ({"weighting": "binary", "sublinear": True}, "each term counts once"),
    ],
)
def test_values_that_cannot_be_are_refused(given, message):
    with pytest.raises(SpecError, match=message):
        TextSettings.of(given, "t")
