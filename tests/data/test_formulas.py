"""The formula language: what can be said, what is refused, and what a fitted formula remembers."""

import numpy as np
import pandas as pd
import pytest

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.formulas import (
    FittedFormula,
    check_right_hand_side,
    looked_up,
    parse_formula,
    split_formula,
    used_columns,
)

COLUMNS = ["y", "x", "z", "my col", "größe", "log", "C", "np", "x.y", "2x", "\u00b5g"]


@pytest.mark.parametrize(
    ("formula", "response", "right"),
    [
        ("y ~ x", "y", "~ x"),
        (" y~x + z ", "y", "~ x + z"),
        ("log(y) ~ 1", "log(y)", "~ 1"),
        ("I(y - x) ~ z", "I(y - x)", "~ z"),
        ("{y / x} ~ z", "{y / x}", "~ z"),
        ("`my col` ~ `a~b`", "`my col`", "~ `a~b`"),
        ("`a~b` ~ x", "`a~b`", "~ x"),
        ("I(~(y > 0)) ~ x", "I(~(y > 0))", "~ x"),
        ("np.log(y) ~ x", "np.log(y)", "~ x"),
    ],
)
def test_split(formula, response, right):
    assert split_formula(formula) == (response, right)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x +", "Cannot read the formula 'y ~ x \\+'"),
        ("y ~ (x", "Cannot read"),
        ("y ~ log(x y)", "Cannot read the formula.*invalid syntax"),
        ("y ~ {x y}", "Cannot read"),
        ("y ~ x ~ z", "Cannot read"),
        ("y = x", "Cannot read.*'='"),
        ("y ~ 'x'", "Cannot read.*String literals"),
        ("y ~ .", "write the columns out"),
        ("x", "needs one response, as in 'y ~ x'; got 'x'"),
        ("~ x", "needs one response"),
        ("", "needs one response"),
        ("a + b ~ x", r"such as 'log\(y\)' or 'I\(y - x\)'; got 'a \+ b' in 'a \+ b ~ x'"),
        ("y - x ~ z", "got 'y - x'"),
        ("y:x ~ z", "got 'y:x'"),
        ("1 ~ x", "got '1'"),
        ("-y ~ x", "needs one response"),
        ("y ~ x | z", r"one right-hand side; got '~ x \| z'"),
        ("y ~", "no terms: '~'. Write '~ 1'"),
        ("y ~ 0", "no terms"),
        ("y ~ -1", "no terms"),
        ("y ~ x + `1`", r"column named '1' cannot be told from the constant.*Q\('1'\)"),
        ("`1` ~ x", "column named '1'"),
        (None, "must be a string such as 'y ~ x'; it is None"),
        (["y ~ x"], r"must be a string such as 'y ~ x'; it is \['y ~ x'\]"),
    ],
)
def test_formulas_that_say_nothing(formula, message):
    with pytest.raises(SpecError, match=message):
        split_formula(formula)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ z", "of 'gate' has no left-hand side; got 'y ~ z'"),
        ("~ z | x", "of 'gate' has one right-hand side"),
        ("", "of 'gate' has no terms: ''"),
        (" ~ ", "of 'gate' has no terms"),
        ("~ 0", "of 'gate' has no terms"),
        (3, "must be a string.*it is 3"),
    ],
)
def test_right_hand_sides_that_say_nothing(formula, message):
    with pytest.raises(SpecError, match=message):
        check_right_hand_side("The formula of 'gate'", formula)
    check_right_hand_side("The formula of 'gate'", "z")
    check_right_hand_side("The formula of 'gate'", "~ 0 + z")


@pytest.mark.parametrize(
    ("formula", "columns", "as_they_are"),
    [
        ("~ 1", [], []),
        ("~ x*z", ["x", "z"], ["x", "z"]),
        ("~ `my col` + größe", ["my col", "größe"], ["my col", "größe"]),
        ("~ poly(`my col`, 2) + np.sin(2 * np.pi * x)", ["x", "my col"], []),
        ("~ bs(x, df=4):C(z, contr.treatment(1))", ["x", "z"], []),
        ("~ Q('my col') + log(größe)", ["my col", "größe"], []),
        ("~ x.y + `2x` + I(clip(x, 0, 1))", ["x", "x.y", "2x"], ["x.y", "2x"]),
        ("~ log + np", ["log", "np"], ["log", "np"]),
        ("~ I(x > 0) + C(`my col`, levels=[1, 2])", ["x", "my col"], []),
        ("~ Q('\u00b5g') + \u00b5g", ["\u00b5g"], ["\u00b5g"]),
    ],
)
def test_columns_that_formulas_use(formula, columns, as_they_are):
    available = [c for c in COLUMNS if c != "np" or "pi" not in formula]
    assert used_columns([formula], available) == columns
    assert sorted(set(looked_up(formula))) == sorted(as_they_are)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ xx", "Unknown column 'xx'. Did you mean 'x'\\?.*formula '~ xx'"),
        ("~ `my cl`", "Did you mean 'my col'"),
        ("~ X", "Unknown column 'X'. Did you mean 'x'"),
        ("~ exp", "Unknown column 'exp'"),
        ("~ id", "Unknown column 'id'"),
        ("~ log(w)", "Unknown column 'w'"),
        ("~ Q('my cl')", "Unknown column 'my cl'. Did you mean 'my col'"),
        ("~ log(\u00b5g)", "other Unicode characters.*write Q\\('\u00b5g'\\)"),
        ("~ C(C)", "column 'C' hides the function 'C' that the formulas use; rename it"),
        ("~ log + log(x)", "column 'log' hides the function"),
    ],
)
def test_names_that_are_nothing(formula, message):
    with pytest.raises(DataError, match=message):
        used_columns([formula], COLUMNS)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ lg(x)", r"Unknown function in the formula 'lg'. Did you mean 'log'\?.*functions={'lg'"),
        ("~ foo(x)", "Unknown function in the formula 'foo'"),
        ("~ factor(k)", r"'factor': write C\(k\)\."),
        ("~ ns(x, 3)", r"'ns': natural cubic splines are cr\(x, df=3\) or cs"),
        ("~ s(x)", "'s': write cr.*predictor='spline'"),
        ("~ shift(x)", r"'shift': write lag\(x, 1\)"),
    ],
)
def test_functions_that_nobody_gave(formula, message):
    with pytest.raises(SpecError, match=message):
        FittedFormula.fit(formula, table(), np.arange(30))


def table(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "p": np.exp(rng.normal(size=n)),
            "k": rng.permutation(np.arange(n) % 3),
            "b": rng.permutation(np.arange(n) % 2 == 0),
            "g": rng.permutation(np.array(["a", "b", "c"])[np.arange(n) % 3]),
        }
    )


STABLE = [
    "~ x*g",
    "~ C(k, contr.sum):x + b",
    "~ C(g, levels=['c', 'b', 'a'])",
    "~ C(x > 0)",
    "~ bs(x, df=5) + scale(log(p))",
    "~ poly(x, 3):g + center(p)",
    "~ cr(x, df=4) - 1",
    "~ np.where(b, x, p) + I(x**2) + k",
]


@pytest.mark.parametrize("formula", STABLE)
def test_new_rows_have_the_features_of_the_fit(formula):
    rows = table()
    labels = np.arange(len(rows))
    fitted, values = FittedFormula.fit(formula, rows, labels)
    assert values.shape == (len(rows), len(fitted.terms))
    for part in ([7], [3, 4], [29, 0, 11], []):
        again = fitted.apply(rows.iloc[part].reset_index(drop=True), labels[part])
        np.testing.assert_allclose(again, values[part], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "term",
    [
        "f(x)",
        "f(-p)",
        "I(x * f(p))",
        "log(f(p) + 100)",
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.mean(),
        lambda x: x / x.max(),
        lambda x: np.argsort(np.argsort(x)),
        np.cumsum,
        lambda x: np.full(len(x), x.sum()),
        lambda x: x[::-1],
        lambda x: np.random.default_rng(len(x)).normal(size=len(x)),
    ],
)
def test_functions_that_look_at_other_rows_are_refused(term, function):
    with pytest.raises(DataError, match=r"depends on which other rows.*center"):
        FittedFormula.fit(f"~ {term} + b", table(), np.arange(30), {"f": function})


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (
            "~ np.log(-p)",
            r"'np.log\(-p\)' is not finite in 30 row\(s\), first at row\(s\) 100, 101",
        ),
        ("~ exp(x * 1e4)", r"'exp\(x \* 10000.0\)' is not finite"),
        ("~ bs(x, df=2)", "Cannot evaluate.*`df` must be greater than 3"),
        ("~ C(g, levels=['a', 'b'])", r"Unseen category.*\{'c'\}\.$"),
        ("~ log(g)", r"'g' holds categories, not numbers, in the formula term 'log\(g\)'"),
        ("~ I(x & k)", r"join conditions.*'x' in the formula term 'I\(x & k\)' is a number"),
        ("~ I(~x)", "join conditions"),
        ("~ I(poly(x, 2) + x)", r"'poly\(x, 2\)' makes several columns"),
        ("~ one + x", "'one' is constant: every row has the category 'a'"),
        ("~ one:x + b", None),
        ("~ Intercept", "column named 'Intercept' cannot be a feature"),
        ("~ 0 + {Intercept}", "column named 'Intercept' cannot be a feature"),
        ("~ `x:k` + x:k", "more than one column 'x:k'"),
    ],
)
def test_formulas_that_do_not_fit_the_rows(formula, message):
    rows = table().assign(one="a", Intercept=table(seed=1)["x"], **{"x:k": table(seed=2)["x"]})
    labels = np.arange(100, 130)
    if message is None:  # one category times a number is that number: nothing is lost
        assert FittedFormula.fit(formula, rows, labels)[0].terms == ("Intercept", "b", "one[a]:x")
        return
    with pytest.raises(DataError, match=message):
        FittedFormula.fit(formula, rows, labels)


@pytest.mark.parametrize(
    ("formula", "column", "value", "message"),
    [
        ("~ bs(x, df=4)", "x", 1e6, "bounds.*extrapolation.* First at row 21"),
        ("~ C(g) + x", "g", "q", r"Unseen category.*'q'.* First at row 21"),
        ("~ log(p)", "p", -1.0, r"'log\(p\)' is not finite in 1 row\(s\), first at row\(s\) 21"),
        ("~ x + b", "x", "oops", "Cannot evaluate.* First at row"),
        ("~ I(1 / p)", "p", 0.0, r"is not finite in 1 row\(s\), first at row\(s\) 21"),
    ],
)
def test_new_rows_that_cannot_be_evaluated_are_named(formula, column, value, message):
    rows = table()
    fitted, values = FittedFormula.fit(formula, rows, np.arange(30))
    categories = fitted.categories
    bad = rows.astype({column: object if isinstance(value, str) else rows[column].dtype})
    bad.loc[21, column] = value
    with pytest.raises(DataError, match=message):
        fitted.apply(bad, np.arange(30))
    # The failure left no trace in what was remembered.
    assert fitted.categories == categories
    np.testing.assert_array_equal(fitted.apply(rows, np.arange(30)), values)


def test_known_categories_by_column():
    fitted, _ = FittedFormula.fit("~ g + C(k, contr.sum):x + C(p > 1) + b", table(), np.arange(30))
    assert fitted.categories == {"g": ["a", "b", "c"], "k": [0, 1, 2]}


def test_parsing_is_remembered_and_safe_to_share():
    first = parse_formula("~ x + x:z")
    assert parse_formula("~ x + x:z") is first
    before = str(first)
    FittedFormula.fit("~ x + x:z", table().assign(z=table(seed=1)["x"]), np.arange(30))
    assert str(parse_formula("~ x + x:z")) == before
