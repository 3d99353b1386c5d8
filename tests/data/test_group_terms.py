"""Group terms of formulas: what they are read as, and their groups."""

import numpy as np
import pandas as pd
import pytest

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.group_terms import GroupTerm, group_columns, group_terms, parts, without_groups


@pytest.mark.parametrize(
    ("formula", "fixed", "terms"),
    [
        ("~ x", "~ x", ()),
        ("~ x + (1 | g)", "~ x", (GroupTerm(("g",), "~ 1", True),)),
        ("y ~ (1|g)", "y ~ 1", (GroupTerm(("g",), "~ 1", True),)),
        ("~ (1 + x | g) + z - 1", "~ z - 1", (GroupTerm(("g",), "~ 1 + x", True),)),
        ("~ 0 + x + (x || g)", "~ 0 + x", (GroupTerm(("g",), "~ x", False),)),
        ("~ C(z) + (1 | `a b`)", "~ C(z)", (GroupTerm(("a b",), "~ 1", True),)),
        ("~ x + (1 | a:b)", "~ x", (GroupTerm(("a", "b"), "~ 1", True),)),
        (
            "~ x + (1 | a/b)",
            "~ x",
            (GroupTerm(("a",), "~ 1", True), GroupTerm(("a", "b"), "~ 1", True)),
        ),
        ("~ (0 + x | g) + (1 | g)", "~ 1", (GroupTerm(("g",), "~ 1 + x", False),)),
        (
            "~ (1 | g) + (1 | h)",
            "~ 1",
            (GroupTerm(("g",), "~ 1", True), GroupTerm(("h",), "~ 1", True)),
        ),
    ],
)
def test_group_terms_are_read(formula, fixed, terms):
    assert without_groups(formula) == fixed
    assert group_terms(formula) == terms
    assert next(iter(parts(formula))) == fixed
    assert group_columns([formula]) == {c for t in terms for c in t.columns}


@pytest.mark.parametrize(
    ("term", "correlated"),
    [("1", False), ("x", True), ("1 + x", True), ("0 + x", False), ("0 + x + z", True)],
)
def test_several_effects_of_a_group_have_correlations(term, correlated):
    assert group_terms(f"~ ({term} | g)")[0].has_correlations == correlated
    assert not group_terms(f"~ ({term} || g)")[0].has_correlations


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ (1 | log(g))", "must be a column"),
        ("~ (1 | g | h)", "Cannot read"),
        ("~ (1 + x | g) + (z | g)", "Two group terms have the groups 'g'"),
    ],
)
def test_what_cannot_be_read_is_refused(formula, message):
    with pytest.raises(SpecError, match=message):
        group_terms(formula)


TABLE = pd.DataFrame(
    {
        "y": [1.0, 2.0, 4.0, 3.0, 5.0],
        "x": [0.0, 1.0, 2.0, 4.0, 3.0],
        "g": [7, 3, 3, 7, 12],
        "h": pd.Categorical(["b", "a", "a", "a", "b"]),
    }
)


def columns(formula, data=TABLE, **settings):
    design = Design.from_data("y", {"mu": formula}, TABLE)
    return design.transform(data, **settings).matrices["mu"].groups


def test_groups_are_sorted_and_have_labels():
    (found,) = columns("~ x + (1 + x | g)")
    assert found.labels == ("3", "7", "12")
    assert found.terms == ("Intercept", "x")
    np.testing.assert_array_equal(found.codes, [1, 0, 0, 1, 2])
    np.testing.assert_array_equal(found.values, np.column_stack([np.ones(5), TABLE.x]))
    np.testing.assert_allclose(found.scale, [1.0, np.sqrt(6.0)])
    (both,) = columns("~ (1 | h:g)")
    assert both.labels == ("a:3", "a:7", "b:7", "b:12")
    np.testing.assert_array_equal(both.codes, [2, 0, 0, 1, 3])
    dense = found.dense.reshape(5, 3, 2)
    np.testing.assert_array_equal(dense[0], [[0, 0], [1, 0], [0, 0]])


def test_new_groups_are_refused_or_have_codes_of_their_own():
    new = pd.DataFrame({"x": [1.0, 1.0, 1.0, 1.0], "g": [3, 5, 9, 5]})
    with pytest.raises(DataError, match=r"group\(s\) '5', '9' of 'g', first at row 1.*unseen="):
        columns("~ x + (1 | g)", new)
    (average,) = columns("~ x + (1 | g)", new, unseen="average")
    np.testing.assert_array_equal(average.codes, [0, 3, 3, 3])
    (sample,) = columns("~ x + (1 | g)", new, unseen="sample")
    np.testing.assert_array_equal(sample.codes, [0, 4, 5, 4])
    assert sample.new == ("5", "9")
    np.testing.assert_array_equal(sample.pick(slice(1, 3)).codes, [4, 5])


def test_a_category_that_is_a_feature_too_must_be_known():
    new = pd.DataFrame({"x": [1.0], "h": ["c"], "y": [1.0]})
    (found,) = columns("~ x + (1 | h)", new, unseen="average")
    assert found.codes == [2]
    with pytest.raises(DataError, match="'c'"):
        columns("~ h + (1 | h)", new, unseen="average")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g": 1}, "one group only"),
        ({"x": [0.0] * 5, "w": [1.0, 2.0, 3.0, 4.0, 5.0]}, "'x' in .* is 0 in every row"),
        ({"g": [1, 2, None, 1, 2]}, "missing"),
    ],
)
def test_groups_that_cannot_be_fitted_are_refused(change, message):
    data = TABLE.assign(w=TABLE.x).assign(**change)
    with pytest.raises(DataError, match=message):
        Design.from_data("y", {"mu": "~ w + (0 + x | g)"}, data)
