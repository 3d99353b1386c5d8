"""Scores of alignments, and both directions as one."""

import numpy as np
import pytest

import bayes_moe as bm
from bayes_moe.core.errors import DataError, SpecError


def test_scores_are_those_of_och_and_ney():
    found = [[(0, 0), (1, 1), (2, 1)], [(0, 1)]]
    sure = [[(0, 0), (1, 1)], [(0, 0)]]
    possible = [[(2, 1)], []]
    scores = bm.text.alignment_scores(found, sure, possible)
    # A = 4 links, S = 3; A and S share 2, A and P share 3.
    assert scores["precision"] == 3 / 4
    assert scores["recall"] == 2 / 3
    assert scores["error_rate"] == pytest.approx(1 - 5 / 7)
    assert bm.text.alignment_error_rate(found, sure) == pytest.approx(1 - 4 / 7)
    assert bm.text.alignment_error_rate(sure, sure) == 0.0
    assert np.isnan(bm.text.alignment_error_rate([[]], [[]]))


def test_both_directions_are_joined():
    forward = [[(0, 0), (1, 1), (3, 3), (5, 0)]]
    backward = [[(0, 0), (2, 1), (3, 3), (0, 9)]]  # (target, source)
    join = bm.text.symmetrised
    assert join(forward, backward, "intersection") == [[(0, 0), (3, 3)]]
    assert join(forward, backward, "union") == [[(0, 0), (1, 1), (1, 2), (3, 3), (5, 0), (9, 0)]]
    # (1, 1) is beside (0, 0), and (1, 2) beside (1, 1); the others are apart.
    assert join(forward, backward) == [[(0, 0), (1, 1), (1, 2), (3, 3)]]


def test_bad_links_are_named():
    with pytest.raises(DataError, match="of 1 pairs and `sure` those of 2"):
        bm.text.alignment_scores([[]], [[], []])
    with pytest.raises(DataError, match="`possible` must have a list of links"):
        bm.text.alignment_scores([[]], [[]], [[3]])
    with pytest.raises(DataError, match="of 1 pairs and `backward` those of 0"):
        bm.text.symmetrised([[]], [])
    with pytest.raises(SpecError, match="Unknown method 'grow'"):
        bm.text.symmetrised([[]], [[]], "grow")


@pytest.mark.parametrize(
    "link",
    [(0.9, 0), (0.0, 0), (-1, 0), (0, True), "00", ("0", "0"), (0, None), (0, 0, 0), (0,), 3],
)
def test_links_are_pairs_of_whole_numbers(link):
    with pytest.raises(DataError, match=r"`found` must have a list of links.*pair 1 has"):
        bm.text.alignment_error_rate([[], [link]], [[], [(0, 0)]])
    with pytest.raises(DataError, match=r"`backward` must have a list of links.*pair 1 has"):
        bm.text.symmetrised([[], []], [[], [link]])


def test_links_may_be_numbers_of_numpy():
    links = [np.array([[0, 0], [1, 2]], dtype=np.int32)]
    assert bm.text.alignment_error_rate(links, [{(0, 0), (1, 2)}]) == 0.0
