"""Two dimensions of reported variables for one of internal ones."""

import numpy as np
import pytest

from bayes_moe.core.dim_pairs import NO_PAIRS, DimPairs

PAIRS = DimPairs({"flat": {"class": ("a", "b", "c"), "expert": [0, 1]}})
CASES = [
    (("flat",), (6,), (3, 2)),
    (("flat", "term"), (6, 4), (3, 2, 4)),
    (("term", "flat"), (4, 6), (4, 3, 2)),
    (("expert", "term"), (2, 4), (2, 4)),
]


@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
@pytest.mark.parametrize(("dims", "internal", "reported"), CASES)
def test_shapes_there_and_back(dims, internal, reported, lead):
    value = np.random.default_rng(0).normal(size=lead + internal)
    shown = PAIRS.reported(value, dims)
    assert shown.shape == lead + reported
    assert len(PAIRS.dims(dims)) == len(reported)
    np.testing.assert_array_equal(PAIRS.internal(shown, dims), value)
    assert NO_PAIRS.reported(value, dims) is value


def test_experts_are_last():
    shown = PAIRS.reported(np.arange(6), ("flat",))
    assert shown.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert PAIRS.coords == {"class": ["a", "b", "c"], "expert": [0, 1]}


def test_tensors():
    import pytensor.tensor as pt

    value = pt.dmatrix()
    shown = PAIRS.reported(value, ("flat", "term"))
    given = np.random.default_rng(1).normal(size=(6, 4))
    back = PAIRS.internal(shown, ("flat", "term"))
    assert shown.eval({value: given}).shape == (3, 2, 4)
    np.testing.assert_array_equal(back.eval({value: given}), given)
