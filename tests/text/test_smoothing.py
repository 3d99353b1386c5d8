"""Smoothed n-grams: nltk's numbers, sums of one, and formulas by hand."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.text import Ngram
from bayes_moe.text.corpus import Vocabulary, as_documents, stream_of, whole
from bayes_moe.text.ngrams import count_ngrams
from bayes_moe.text.smoothing import distribution, probabilities, steps_of

NLTK = json.loads((Path(__file__).parents[1] / "data" / "nltk_kneser_ney.json").read_text())
EXPERTS = [
    Ngram(3),
    Ngram(2),
    Ngram(1),
    Ngram(3, discount=0.75),
    Ngram(3, "dirichlet"),
    Ngram(2, "dirichlet", concentration=0.3),
]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.of(as_documents(NLTK["texts"]), "word", 1, False)


@pytest.fixture(scope="module")
def counts(vocabulary):
    parts = [whole(vocabulary.encode(text)) for text in NLTK["texts"]]
    return count_ngrams(stream_of(parts), 3, vocabulary.size)


@pytest.fixture(scope="module")
def matches(vocabulary, counts):
    stream = stream_of([whole(vocabulary.encode(NLTK["new"]))])
    return counts.matches(stream, np.flatnonzero(stream.predicted))


@pytest.mark.parametrize("discount", NLTK["scores"])
def test_kneser_ney_is_nltk_s(counts, matches, discount):
    expert = Ngram(3, discount=float(discount))
    # Their unigrams have no discount, which an n-gram of ours may not have.
    object.__setattr__(expert, "discount", (0.0, float(discount), float(discount)))
    steps = steps_of(counts, expert)
    found = probabilities(counts, steps, matches)
    np.testing.assert_allclose(found, NLTK["scores"][discount], rtol=1e-12)


@pytest.mark.parametrize("expert", EXPERTS, ids=str)
@pytest.mark.parametrize("prompt", ["", "the", "the cat", "a zebra", "dog on the"])
def test_probabilities_sum_to_one(vocabulary, counts, expert, prompt):
    contexts = counts.start
    for token in vocabulary.encode(prompt):
        contexts = counts.advance(contexts, int(token))
    p = distribution(counts, steps_of(counts, expert), contexts)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    assert (p > 0).all()


@pytest.mark.parametrize("expert", EXPERTS, ids=str)
def test_tokens_have_the_probabilities_of_the_distribution(vocabulary, counts, matches, expert):
    steps, contexts, found = steps_of(counts, expert), counts.start, []
    for token in [*vocabulary.encode(NLTK["new"]), 0]:
        found.append(distribution(counts, steps, contexts)[token])
        contexts = counts.advance(contexts, int(token))
    np.testing.assert_allclose(probabilities(counts, steps, matches), found, rtol=1e-12)


def test_dirichlet_by_hand(vocabulary, counts):
    p = distribution(counts, steps_of(counts, Ngram(2, "dirichlet", concentration=2.0)), [0, -1])
    words = " ".join(NLTK["texts"]).split()
    the, total = words.count("the"), len(words) + 3
    uniform = 1 / vocabulary.size
    assert p[vocabulary.codes["the"]] == pytest.approx((the + 2 * uniform) / (total + 2))
    after = [b for a, b in pairwise(words) if a == "the"]
    context = counts.advance(counts.start, vocabulary.codes["the"])
    q = distribution(counts, steps_of(counts, Ngram(2, "dirichlet", concentration=2.0)), context)
    cat = vocabulary.codes["cat"]
    assert q[cat] == pytest.approx((after.count("cat") + 2 * p[cat]) / (len(after) + 2))


def test_estimated_discounts_are_chen_and_goodman_s():
    rng = np.random.default_rng(1)
    codes = 2 + rng.zipf(1.4, 4000) % 60
    counts = count_ngrams(stream_of([whole(codes)]), 2, 62)
    level = counts.levels[1]
    n = [np.sum(level.counts == j) for j in range(5)]
    unit = n[1] / (n[1] + 2 * n[2])
    expected = [j - (j + 1) * unit * n[j + 1] / n[j] for j in (1, 2, 3)]
    step = steps_of(counts, Ngram(2))[1]
    for j, discount in enumerate(expected, start=1):
        at = np.flatnonzero(level.counts == j)[0]
        share = (j - discount) / level.total[level.context[at]]
        assert step.share[at] == pytest.approx(share)


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"order": 0},
        {"order": 2, "smoothing": "laplace"},
        {"order": 2, "discount": 1.0},
        {"order": 2, "discount": [0.1]},
        {"order": 2, "discount": 0.0},
        {"order": 2, "discount": [0.0, 0.5]},
        {"order": 3, "discount": True},
        {"order": 3, "discount": "abc"},
        {"order": 2, "discount": float("nan")},
        {"order": 2, "concentration": 0},
        {"order": 2, "smoothing": "dirichlet", "discount": 0.5},
        {"order": 2, "label": "a b"},
    ):
        with pytest.raises(bm.SpecError, match=r"`|label"):
            Ngram(**wrong)
    assert Ngram(3, label="mine").name == "mine"
    assert Ngram(**Ngram(2, discount=0.5).to_dict()) == Ngram(2, discount=0.5)
