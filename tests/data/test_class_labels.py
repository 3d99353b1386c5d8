"""Classes of a response: their labels and order, their codes, and what cannot be a class."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

from bayes_moe.core.errors import DataError, MissingRowsWarning, SpecError
from bayes_moe.data.class_labels import ResponseRule, check_levels, codes, labelled
from bayes_moe.data.design import Design
from bayes_moe.data.tables import to_pandas

TWO = ResponseRule(
    "y", "two", family="bernoulli", families=lambda: {"bernoulli": "two", "kinds": "any"}
)
ANY = ResponseRule("y", "any", family="kinds")
ORDERED = ResponseRule("y", "any", ordered=True, family="grades")

X = np.array([0.0, 1.0, 3.0, 2.0, 5.0, 4.0])
TEXT = ["low", "high", "high", "low", "mid", "mid"]
BINARY = ["no", "yes", "yes", "no", "no", "yes"]


def design(y, rule=ANY, **settings):
    return Design.from_data(rule, {"mu": "~ x"}, {"x": X, "y": y}, **settings)


def category(values, categories, ordered=False):
    return pd.Categorical(values, categories=categories, ordered=ordered)


@pytest.mark.parametrize(
    ("y", "rule", "levels", "coded"),
    [
        (BINARY, TWO, ("no", "yes"), [0, 1, 1, 0, 0, 1]),
        (category(BINARY, ["yes", "no"]), TWO, ("yes", "no"), [1, 0, 0, 1, 1, 0]),
        (category(BINARY, ["yes", "?", "no"]), TWO, ("yes", "no"), [1, 0, 0, 1, 1, 0]),
        (np.array(BINARY) == "no", TWO, (False, True), [1, 0, 0, 1, 1, 0]),
        ([1, 0, 0, 1, 1, 0], TWO, None, [1, 0, 0, 1, 1, 0]),
        (category([3, 1, 1, 3, 1, 1], [3, 1]), TWO, (3, 1), [0, 1, 1, 0, 1, 1]),
        (TEXT, ANY, ("high", "low", "mid"), [1, 0, 0, 1, 2, 2]),
        ([7, 3, 3, 7, 10, 10], ANY, (3, 7, 10), [1, 0, 0, 1, 2, 2]),
        ([7.0, 3, 3, 7, 10, 10], ANY, (3, 7, 10), [1, 0, 0, 1, 2, 2]),
        ([0, 1, 1, 0, 0, 1], ANY, (0, 1), [0, 1, 1, 0, 0, 1]),
        (category(TEXT, ["low", "mid", "high"], True), ORDERED, ("low", "mid", "high"), None),
        ([1, 2, 3, 1, 2, 3], ORDERED, (1, 2, 3), [0, 1, 2, 0, 1, 2]),
        (
            TEXT,
            ResponseRule("y", "any", True, ("low", "mid", "high")),
            ("low", "mid", "high"),
            None,
        ),
        (BINARY, ResponseRule("y", "two", given=("yes", "no")), ("yes", "no"), [1, 0, 0, 1, 1, 0]),
        ([1, 2, 2, 1, 1, 2], ResponseRule("y", "two", given=(1, 2)), (1, 2), [0, 1, 1, 0, 0, 1]),
        (
            BINARY,
            ResponseRule("y", "any", given=("maybe", "no", "yes")),
            ("maybe", "no", "yes"),
            None,
        ),
    ],
)
def test_labels_and_codes(y, rule, levels, coded):
    found = design(y, rule)
    assert found.levels == levels
    if levels is not None:
        assert [type(level) for level in found.levels] == [type(level) for level in levels]
    if coded is None:
        coded = [levels.index(label) for label in y]
    np.testing.assert_array_equal(found.response, coded)


def test_numbers_of_other_families_stay_numbers():
    for y in ([True, False, False, True, True, False], X[::-1]):
        found = design(y, ResponseRule("y"))
        assert found.levels is None
        np.testing.assert_array_equal(found.response, np.asarray(y, dtype=float))


@pytest.mark.parametrize(
    ("y", "rule", "message"),
    [
        (["a"] * 6, TWO, r"response 'y' has one class, 'a', in all 6 row\(s\)"),
        ([True] * 6, TWO, "has one class, True"),
        (category(["a"] * 6, ["a", "b"]), ANY, "has one class, 'a'"),
        (["a"] * 6, ResponseRule("y", "any", given=("a", "b")), "has one class, 'a'"),
        (TEXT, TWO, "has 3 classes, 'high', 'low', 'mid'; family 'bernoulli' needs two. "
                    "Use family='kinds'"),
        (TEXT, ResponseRule("y", family="normal", families=lambda: {"kinds": "any"}),
         "'y' holds categories, such as 'low'; it must be numeric under family 'normal'. "
         "Families of classes: 'kinds'"),
        ([1, 2, 3, 1.5, 2.5, 1], ANY, r"is 1.5 at row 3; classes .* whole numbers \(2 row"),
        (TEXT, ORDERED, "ordered levels of 'y' are missing: .*'high', 'low', 'mid'.*levels=.*"
                        r"pd.Categorical\(table\['y'\], categories=\[...\], ordered=True"),
        (category(TEXT, ["low", "mid", "high"]), ORDERED, "ordered levels of 'y' are missing"),
        (TEXT, ResponseRule("y", "any", given=("low", "high")),
         r"has a class 'mid' at row 4 that the model has not; its classes are 'low', 'high' "
         r"\(2 row\(s\) have others, first 4, 5\)"),
        (pd.date_range("2020", periods=6), ANY, "holds dates"),
    ],
)  # fmt: skip
def test_what_cannot_be_classes(y, rule, message):
    with pytest.raises(DataError, match=message):
        design(y, rule)


def test_an_expression_of_labels_is_refused():
    table = {"x": X, "y": BINARY}
    with pytest.raises(DataError, match="is an expression; classes must be a column"):
        Design.from_data(replace(ANY, response="log(x)"), {"mu": "~ 1"}, table)
    numbers = {"x": X, "y": [0, 1, 1, 0, 0, 1]}
    found = Design.from_data(replace(TWO, response="I(1 - y)"), {"mu": "~ x"}, numbers)
    assert found.levels is None
    np.testing.assert_array_equal(found.response, [1, 0, 0, 1, 1, 0])


def test_rows_without_a_label():
    y = ["a", None, "b", "a", "c", "b"]
    with pytest.raises(DataError, match="'y' has 1 missing value"):
        design(y)
    # A class whose only row is left out is none.
    table = {"x": np.where(X == 5, np.nan, X), "y": y}
    with pytest.warns(MissingRowsWarning, match="left out 2 of 6"):
        found = Design.from_data(ANY, {"mu": "~ x"}, table, missing="drop")
    assert found.levels == ("a", "b")
    np.testing.assert_array_equal(found.response, [0, 1, 0, 1])
    with pytest.warns(MissingRowsWarning), pytest.raises(DataError, match="'c' at row 4"):
        design(y, ResponseRule("y", "any", given=("a", "b")), missing="drop")


@pytest.mark.parametrize("fitted", [TEXT, category(TEXT, ["low", "mid", "high", "top"])])
@pytest.mark.parametrize("as_new", [list, pd.Series, lambda y: pd.Series(y, dtype="category")])
def test_new_rows_have_the_fitted_codes(fitted, as_new):
    found = design(fitted)
    rows = found.transform({"x": [1, 2], "y": as_new(["mid", "low"])}, with_response=True)
    np.testing.assert_array_equal(rows.response, [found.levels.index(v) for v in ("mid", "low")])
    bad = {"x": [1, 2, 3], "y": as_new(["mid", "lo", "top"])}
    with pytest.raises(DataError, match=r"class 'lo' at row 1 .*first 1, 2.*mean 'low'"):
        found.transform(bad, with_response=True)
    assert found.transform(bad).response is None
    assert not len(found.transform({"x": [], "y": []}, with_response=True).response)


def test_truth_values_and_numbers_are_the_same_classes():
    found = design(np.array(BINARY) == "yes", TWO)
    for y in ([True, False], [1, 0], [1.0, 0.0]):
        rows = found.transform({"x": [1, 2], "y": y}, with_response=True)
        np.testing.assert_array_equal(rows.response, [1, 0])


def test_categories_of_polars():
    """A Categorical has no order of its own; an Enum has."""
    by_name = pl.DataFrame({"x": X, "y": pl.Series(TEXT, dtype=pl.Categorical)})
    as_listed = pl.DataFrame({"x": X, "y": pl.Series(TEXT, dtype=pl.Enum(["low", "mid", "high"]))})
    for table, rule, levels in (
        (by_name, ANY, ("high", "low", "mid")),
        (as_listed, ORDERED, ("low", "mid", "high")),
    ):
        assert Design.from_data(rule, {"mu": "~ x"}, table).levels == levels
    assert list(to_pandas(by_name)["y"].cat.categories) == ["high", "low", "mid"]


def test_codes_and_labels_are_inverse():
    levels, coded = ("b", "c", "a"), np.array([2.0, 0.0, 1.0, 1.0])
    made = labelled(coded, levels, True)
    assert made.ordered
    assert list(made) == ["a", "b", "c", "c"]
    np.testing.assert_array_equal(codes("y", pd.Series(made), levels, np.arange(4)), coded)
    assert labelled(np.array([0.0, 1.0]), (False, True), False).tolist() == [False, True]


@pytest.mark.parametrize(
    "levels", ["ab", 3, ["a"], ["a", "a"], ["a", 1], [True, 0], [0.0, np.nan], [None, "a"]]
)
def test_lists_that_are_no_labels(levels):
    with pytest.raises(SpecError, match="`levels` must be the labels of at least two classes"):
        check_levels(levels)


def test_labels_are_plain():
    assert check_levels(np.array(["a", "b"])) == ("a", "b")
    assert [type(v) for v in check_levels(np.array([2, 1]))] == [int, int]
