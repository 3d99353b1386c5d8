"""Derivatives of response expressions, against closed forms and differences."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.data.design import Design
from bayes_moe.data.response_derivative import FUNCTIONS, log_slope, response_columns

TABLE = pd.DataFrame(
    {
        "y": np.random.default_rng(0).lognormal(0, 0.7, 40),
        "a b": np.random.default_rng(1).uniform(0.1, 0.9, 40),
        "x": np.random.default_rng(2).normal(size=40),
        "z": np.random.default_rng(4).normal(size=40),
        "k": np.random.default_rng(3).permutation(40) - 20,
    }
)
Y = TABLE["y"].to_numpy()
U = TABLE["a b"].to_numpy()
CLOSED_FORMS = {
    "y": np.ones(40),
    "`a b`": np.ones(40),
    "k": np.ones(40),
    "log(y)": 1 / Y,
    "log(y + 1)": 1 / (Y + 1),
    "log(`a b`)": 1 / U,
    "log(Q('a b'))": 1 / U,
    "log10(y)": 1 / (Y * np.log(10)),
    "log2(y)": 1 / (Y * np.log(2)),
    "np.sqrt(y)": 0.5 / np.sqrt(Y),
    "{log(y)}": 1 / Y,
    "{y}": np.ones(40),
    "I(y/10)": np.full(40, 0.1),
    "I(-3 * y + 2)": np.full(40, -3.0),
    "I(y**2)": 2 * Y,
    "I(1 / y)": -1 / Y**2,
    "I(2**y)": 2**Y * np.log(2),
    "I((y**0.3 - 1) / 0.3)": Y**-0.7,
    "I(k**3 + k)": 3.0 * TABLE["k"] ** 2 + 1,
    "exp(y)": np.exp(Y),
    "np.power(y, 1.5)": 1.5 * np.sqrt(Y),
    "np.arcsinh(y)": 1 / np.sqrt(1 + Y**2),
    "np.log(`a b` / (1 - `a b`))": 1 / (U * (1 - U)),
    "center(y)": np.ones(40),
    "scale(y)": np.full(40, 1 / Y.std(ddof=1)),
    "scale(log(y))": 1 / (Y * np.log(Y).std(ddof=1)),
    "log(np.exp(np.sqrt(y)) - 1)": 0.5 / np.sqrt(Y) / (1 - np.exp(-np.sqrt(Y))),
}


def design(expression):
    return Design.from_data(expression, {"mu": "~ z"}, TABLE)


@pytest.mark.parametrize("expression", CLOSED_FORMS)
def test_derivatives_equal_closed_forms(expression):
    expected = np.log(np.abs(CLOSED_FORMS[expression]))
    np.testing.assert_allclose(log_slope(design(expression)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {"center", "scale", "standardize"}))
def test_the_functions_derivatives_are_their_differences(name):
    x = np.linspace(0.1, 0.9, 9)
    step = 1e-6
    slope = FUNCTIONS[name](x)[1] + np.zeros(9)
    difference = (FUNCTIONS[name](x + step)[0] - FUNCTIONS[name](x - step)[0]) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-8)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("I(y - x)", "a function of 2 columns \\('y', 'x'\\)"),
        ("I(x**2)", "not a strictly increasing or decreasing function of 'x'"),
        ("abs(x)", "not a strictly increasing or decreasing function of 'x'"),
        ("I(1 / x)", "not a strictly increasing or decreasing function of 'x'"),
        ("I(k**3)", "no finite derivative other than zero at row .*, where 'k' is 0"),
        ("np.floor(y)", "known derivative in the response 'np.floor\\(y\\)': 'floor'"),
        ("np.round(y)", "known derivative in the response .*: 'round'"),
        ("I(y % 7)", "cannot be differentiated at 'y % 7'"),
        ("poly(y, 1)", "known derivative in the response"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(expression, message):
    with pytest.raises(bm.SpecError, match=message):
        log_slope(design(expression))


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("y", ["y"]),
        ("log(y)", ["y"]),
        ("`a b`", ["a b"]),
        ("Q('a b')", ["a b"]),
        ("I(y - x)", ["y", "x"]),
        ("np.sqrt(`a b` + y)", ["y", "a b"]),
    ],
)
def test_columns_of_a_response(expression, columns):
    assert response_columns(design(expression)) == columns
