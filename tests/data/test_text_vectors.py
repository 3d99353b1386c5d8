"""Terms of texts and their components, held to scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.pipeline import make_pipeline

from bayes_moe.core.errors import DataError
from bayes_moe.data.text_settings import TextSettings
from bayes_moe.data.text_vectors import TextVectors
from tests.support.texts import reviews

TEXTS = [*reviews(80)["review"], "", "unseen entirely", "GOOD good good film"]
NEW = [*reviews(10, seed=1)["review"], "", "nothing known", "good good Bad"]


def tfidf(**settings):
    return TfidfVectorizer(sublinear_tf=True, **settings)


CASES = {
    "words": ({}, tfidf(min_df=2)),
    "pairs": ({"ngrams": (1, 2), "min_df": 3}, tfidf(ngram_range=(1, 2), min_df=3)),
    "only_pairs": ({"ngrams": 2}, tfidf(ngram_range=(2, 2), min_df=2)),
    "share": ({"min_df": 0.2, "max_df": 0.5}, tfidf(min_df=0.2, max_df=0.5)),
    "most": ({"max_terms": 5}, tfidf(max_features=5, min_df=2)),
    "letters": (
        {"analyzer": "char", "ngrams": (2, 3)},
        tfidf(analyzer="char", ngram_range=(2, 3), min_df=2),
    ),
    "within": (
        {"analyzer": "char_wb", "ngrams": 3},
        tfidf(analyzer="char_wb", ngram_range=(3, 3), min_df=2),
    ),
    "case": ({"lowercase": False}, tfidf(lowercase=False, min_df=2)),
    "linear": ({"sublinear": False}, TfidfVectorizer(min_df=2)),
    "english": ({"stop_words": "english"}, tfidf(stop_words="english", min_df=2)),
    "left_out": ({"stop_words": ["good", "film"]}, tfidf(stop_words=["good", "film"], min_df=2)),
    "count": ({"weighting": "count"}, CountVectorizer(min_df=2)),
    "binary": ({"weighting": "binary"}, CountVectorizer(min_df=2, binary=True)),
    "hashed": (
        {"hashing": 64},
        make_pipeline(
            HashingVectorizer(n_features=64, norm=None, alternate_sign=False),
            TfidfTransformer(sublinear_tf=True),
        ),
    ),
    "hashed_counts": (
        {"hashing": 32, "weighting": "count"},
        HashingVectorizer(n_features=32, norm=None, alternate_sign=False),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_terms_are_those_of_scikit_learn(case):
    given, oracle = CASES[case]
    vectors, fitted = TextVectors.fit(TEXTS, TextSettings.of(given, "t"), "t")
    expected = oracle.fit_transform(TEXTS)
    np.testing.assert_allclose(fitted.toarray(), expected.toarray(), rtol=1e-12, atol=1e-15)
    if hasattr(oracle, "get_feature_names_out") and not case.startswith("hashed"):
        assert vectors.names == tuple(oracle.get_feature_names_out())
    others = oracle.transform(NEW).toarray()
    np.testing.assert_allclose(vectors.of(NEW).toarray(), others, rtol=1e-12, atol=1e-15)
    assert not vectors.of(NEW).toarray()[NEW.index("")].any()


def test_fitted_rows_are_the_same_numbers_when_given_again():
    for given, _ in CASES.values():
        vectors, fitted = TextVectors.fit(TEXTS, TextSettings.of(given, "t"), "t")
        again = vectors.of(TEXTS)
        assert (fitted != again).nnz == 0


def test_no_texts_are_no_rows():
    vectors, fitted = TextVectors.fit(TEXTS, TextSettings(), "t")
    assert vectors.of([]).shape == (0, len(vectors.terms))
    assert vectors.decomposed(fitted, 3, "t").of([]).shape == (0, 3)


def test_components_are_those_of_scikit_learn():
    vectors, fitted = TextVectors.fit(TEXTS, TextSettings(), "t")
    found = vectors.decomposed(fitted, 4, "t")
    svd = TruncatedSVD(4, algorithm="arpack", random_state=0)
    oracle = svd.fit(tfidf(min_df=2).fit_transform(TEXTS))
    np.testing.assert_allclose(found.components, oracle.components_, atol=1e-9)
    expected = vectors.of(NEW).toarray() @ found.components.T
    np.testing.assert_allclose(found.of(NEW), expected, atol=1e-15)
    assert found.names == ("0", "1", "2", "3")


def test_components_are_at_most_as_many_as_there_are_directions():
    vectors, fitted = TextVectors.fit(TEXTS, TextSettings(), "t")
    most = len(vectors.terms)
    assert vectors.decomposed(fitted, most, "t").components.shape == (most, most)
    with pytest.raises(DataError, match=rf"t asks for components={most + 1}, .* have {most}: "):
        vectors.decomposed(fitted, most + 1, "t")
    few, same = TextVectors.fit(["good film", "bad film"] * 9, TextSettings(), "t")
    with pytest.raises(DataError, match="the 18 texts with 3 terms have 2"):
        few.decomposed(same, 3, "t")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_df": 1000}, "'t' has no term: .* none is in at least 1000 rows"),
        ({"min_df": 0.99}, "in at least a share of 0.99 of the rows"),
        ({"min_df": 50, "max_df": 20}, "has no term"),
        ({"stop_words": ["aa"], "ngrams": 9}, "has no term"),
    ],
)
def test_texts_without_a_term_are_refused(given, message):
    with pytest.raises(DataError, match=message):
        TextVectors.fit(TEXTS, TextSettings.of(given, "t"), "'t'")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("bayes_moe.core.errors.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs sklearn: pip install 'bayes_moe\[sklearn\]'"):
        TextVectors.fit(TEXTS, TextSettings(), "t")
