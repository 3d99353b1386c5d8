"""Counts of n-grams are those of counting by hand."""

from collections import Counter

import numpy as np
import pytest

from bayes_moe.text.corpus import cut, stream_of, whole
from bayes_moe.text.ngrams import count_ngrams, distinct

ORDER, SIZE = 4, 5


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(1)
    return [rng.integers(2, SIZE, n) for n in (40, 25, 3)]


@pytest.fixture(scope="module")
def by_hand(documents):
    """Predicted n-grams, as tuples, by order."""
    found = {k: Counter() for k in range(1, ORDER + 1)}
    for codes in documents:
        padded = [0] * (ORDER - 1) + codes.tolist() + [0]
        for i in range(ORDER - 1, len(padded)):
            for k in found:
                found[k][tuple(padded[i - k + 1 : i + 1])] += 1
    return found


@pytest.fixture(scope="module")
def counts(documents):
    return count_ngrams(stream_of([whole(codes) for codes in documents]), ORDER, SIZE)


def contexts_of(counts, gram):
    found = counts.start
    for token in gram:
        found = counts.advance(found, token)
    return found


def test_counts_and_continuations(counts, by_hand):
    for k, level in enumerate(counts.levels, start=1):
        assert level.counts.sum() == sum(by_hand[k].values())
        assert np.count_nonzero(level.counts) == len(by_hand[k])
        for gram, count in by_hand[k].items():
            context = contexts_of(counts, gram[:-1])[k - 1]
            at = level.find(np.array([context]), np.array([gram[-1]]))[0]
            assert level.counts[at] == count
            if k < ORDER:
                assert level.preceding[at] == sum(longer[1:] == gram for longer in by_hand[k + 1])
            own = [g for g in by_hand[k] if g[:-1] == gram[:-1]]
            assert level.total[context] == sum(by_hand[k][g] for g in own)
            assert level.followers[context] == len(own)


def test_what_does_not_occur_is_not_found(counts):
    context = contexts_of(counts, [1, 1, 1])
    assert context == [0, -1, -1, -1]
    assert counts.levels[1].find(np.array([-1]), np.array([0])).tolist() == [-1]


def test_pieces_with_context_have_the_counts_of_the_whole(documents):
    one = count_ngrams(stream_of([whole(documents[0])]), ORDER, SIZE)
    cuts = count_ngrams(stream_of(cut(documents[0], 4, ORDER - 1)), ORDER, SIZE)
    for a, b in zip(one.levels, cuts.levels, strict=True):
        assert sorted(a.counts[a.counts > 0]) == sorted(b.counts[b.counts > 0])
        assert sorted(a.preceding[a.counts > 0]) == sorted(b.preceding[b.counts > 0])


def test_matches_of_the_same_text_are_its_ngrams(documents, counts):
    stream = stream_of([whole(codes) for codes in documents])
    where = np.flatnonzero(stream.predicted)
    found = counts.matches(stream, where)
    for level, grams in zip(counts.levels, found.grams, strict=True):
        np.testing.assert_array_equal(np.bincount(grams, minlength=len(level.keys)), level.counts)


def test_distinct_ngrams_stand_for_all(documents, by_hand):
    stream = stream_of([whole(codes) for codes in documents])
    where, times = distinct(stream, ORDER)
    assert sorted(times) == sorted(by_hand[ORDER].values())
    assert stream.predicted[where].all()
