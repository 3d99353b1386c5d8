"""Features of texts outside of formulas: the same numbers as those of the terms."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError
from tests.support.texts import reviews

TABLE, NEW = reviews(), reviews(9, seed=1)


def matrix(term, new=None):
    spec = bm.mixture_of_experts(f"y ~ 0 + {term}", experts=1, family="bernoulli")
    design = spec.design(TABLE)
    return design.transform(new).matrices["p"]


def test_terms_are_those_of_formulas():
    found = bm.text.features(TABLE["review"], ngrams=(1, 2))
    for new, values in ((None, found.values), (NEW, found.transform(NEW["review"]))):
        expected = matrix("text(review, ngrams=(1, 2))", new)
        assert expected.terms == tuple(f"text(review, ngrams=(1, 2))[{t}]" for t in found.names)
        assert (expected.values.sparse != values).nnz == 0
    assert found.terms == found.names
    assert len(found.idf) == len(found.terms)
    assert found.components is None


def test_components_are_a_table():
    texts = TABLE["review"].set_axis(TABLE.index + 7)
    found = bm.text.features(texts, 3, weighting="count")
    assert isinstance(found.values, pd.DataFrame)
    assert found.values.index.equals(texts.index)
    assert [*found.values.columns] == ["0", "1", "2"]
    term = "text(review, 3, weighting='count')"
    np.testing.assert_array_equal(found.values, matrix(term).values)
    np.testing.assert_array_equal(found.transform(NEW["review"]), matrix(term, NEW).values)
    assert found.components.shape == (3, len(found.terms))
    assert found.idf is None


def test_lists_and_arrays_are_texts_too():
    texts = TABLE["review"]
    one, *others = (bm.text.features(t) for t in (texts, texts.tolist(), texts.to_numpy(object)))
    for other in others:
        assert (one.values != other.values).nnz == 0


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "takes a list of texts.*; it got 'one text'"),
        (3, "takes a list of texts"),
        ({"title": "a text"}, "such as the values of a mapping"),
        (["a text", None], r"has 1 missing text\(s\), first at position 1"),
        (pd.Series([1.0, 2.0]), "needs a column of texts; 'texts' holds numbers, such as 1.0"),
        (
            ["a text", 3],
            "needs a column of texts; 'texts' holds other values than texts, such as 3",
        ),
        (["unique words", "each alone"], "has no term"),
    ],
)
def test_anything_else_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        bm.text.features(texts)


def test_others_are_refused_too():
    found = bm.text.features(TABLE["review"])
    with pytest.raises(DataError, match="missing text"):
        found.transform([None])
    with pytest.raises(SpecError, match=r"'ngrams' of bm\.text\.features"):
        bm.text.features(TABLE["review"], ngrams=0)
